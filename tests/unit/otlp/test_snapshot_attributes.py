"""The process list as text."""

from __future__ import annotations

import json
import re

from otel_oom.enrich.badness import RankedTask
from otel_oom.model.types import OomTask
from otel_oom.otlp.snapshot_attributes import format_tasks


def test_hostile_names_make_no_lines_and_no_fields() -> None:
    hostile = 'a killed=true\npid=1 \x1b[31m"\\\u202e'
    candidate = OomTask(7, hostile, 1, 0, 0, 0, 0, f"/{hostile}")
    (line,) = format_tasks([RankedTask(candidate, 1)])
    assert line.isprintable()
    names = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^ "]+)', line)
    fields = dict(names)
    assert [name for name, _ in names] == [
        *("pid", "comm", "resident", "points", "score_adj", "uid", "memcg")
    ]
    assert json.loads(fields["comm"]) == hostile
    assert json.loads(fields["memcg"]) == f"/{hostile}"


def test_task_lines_are_bounded() -> None:
    candidate = OomTask(7, "\x01" * 15, 1, 0, 0, 0, 0, "/\x01" * 2048)
    texts = format_tasks([RankedTask(candidate, 1)] * 10)
    assert 0 < sum(map(len, texts)) <= 4096
    assert len(set(texts)) == 1
