"""Mappings as attributes: hostile names, bounds, and events stored before there were any."""

from __future__ import annotations

import json
import re

from msgspec import convert, to_builtins
from msgspec.structs import replace

from otel_oom.model.events import OomKill
from otel_oom.model.mappings import VictimMapping, VictimMappings
from otel_oom.otlp import semconv
from otel_oom.otlp.mapping_attributes import mapping_attributes
from tests.testlib.samples.events import roundtrip, sample_kill

HOSTILE = 'a kind=heap\nsize=1 \x1b[31m"\\\u202e'


def format_one(mapping: VictimMapping) -> str:
    (line,) = format_all(mapping)
    return line


def format_all(*mappings: VictimMapping) -> list[str]:
    lines = mapping_attributes(VictimMappings(mappings, 1))[semconv.VICTIM_MAPPINGS_LARGEST]
    assert isinstance(lines, list)
    return [line for line in lines if isinstance(line, str)]


def test_a_mapping_is_one_line_of_logfmt() -> None:
    assert format_one(VictimMapping("heap", 4096, 1)) == "kind=heap size=4096 count=1"
    line = format_one(VictimMapping("file", 4096, 5, "libc.so.6"))
    assert line == "kind=file size=4096 count=5 name=libc.so.6"


def test_hostile_names_make_no_lines_and_no_fields() -> None:
    line = format_one(VictimMapping("anonymous", 1, 1, HOSTILE))
    assert line.isprintable()
    fields = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^ "]+)', line)
    assert [name for name, _ in fields] == ["kind", "size", "count", "name"]
    assert json.loads(dict(fields)["name"]) == HOSTILE


def test_names_that_look_like_secrets_are_redacted() -> None:
    for name in ("password=hunter2", "AKIAIOSFODNN7EXAMPLE", "https://me:hunter2@shop"):
        line = format_one(VictimMapping("shmem", 1, 1, name))
        assert "***" in line
        assert not {"hunter2", "AKIAIOSFODNN7EXAMPLE"} & set(re.findall(r"\w+", line))


def test_all_lines_are_bounded() -> None:
    """Each byte of a name can become an escape."""
    largest = VictimMapping("anonymous", 1 << 62, 1 << 32, "\\x01" * 63)
    assert 1000 < sum(map(len, format_all(*[largest] * 17))) <= 6144


def test_skipped_mappings_are_named_only_where_there_are_some() -> None:
    assert mapping_attributes(None) == {}
    assert mapping_attributes(VictimMappings((), 7))[semconv.VICTIM_MAPPINGS_SKIPPED] is None
    assert mapping_attributes(VictimMappings((), 7, 2))[semconv.VICTIM_MAPPINGS_SKIPPED] == 2


def test_events_of_before_are_decoded_without_mappings() -> None:
    """A row of the store that an earlier version wrote has no such field."""
    kill = replace(sample_kill(), mappings=VictimMappings((VictimMapping("heap", 1, 1),), 1))
    assert roundtrip(kill) == kill
    stored = to_builtins(kill)
    del stored["mappings"]
    assert convert(stored, OomKill) == replace(kill, mappings=None)
