"""Records in JSON over several lines, whose strings are longer than any record may be."""

from __future__ import annotations

import json

import pytest

from otel_oom.commands.replay.formats import json_stream
from otel_oom.commands.replay.formats.json_stream import prefilter_records
from tests.testlib.samples.log_lines import KILLED
from tests.testlib.samples.replay_logs import ChunkedStream

_LIMIT = 1 << 12
_BLOCK = 2 * _LIMIT
_HEAD = '[\n{"message": "'


@pytest.mark.parametrize("quoted", ['"', '\\"', '\\\\"'])
@pytest.mark.parametrize("shift", range(-1, 7))
def test_a_long_string_hides_no_later_record(
    shift: int, quoted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a block ends in it: between a backslash and its quote, too."""
    monkeypatch.setattr(json_stream, "_MAX_RECORD_BYTES", _LIMIT)
    text = "x" * (_BLOCK - len(_HEAD) - shift) + quoted + "y"
    log = _HEAD + json.dumps(text)[1:] + "},\n" + json.dumps({"message": KILLED}) + "]\n"
    records = list(prefilter_records(ChunkedStream(log.encode(), _BLOCK)))
    assert [json.loads(record.text)["message"] for record in records] == [KILLED]


def test_what_can_be_no_record_costs_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays without a string and empty objects, however many there are; a record stays one."""
    bracket, steps = vars(json_stream)["_BRACKET"], []

    class CountedPattern:
        def match(self, data: bytes, position: int) -> object:
            steps.append(position)
            return bracket.match(data, position)

    monkeypatch.setattr(json_stream, "_BRACKET", CountedPattern())
    empty = "[]{ }[[1, 2], [3]]" * 1000
    log = f'[{empty}{{"message": {json.dumps(KILLED)}, "labels": {{}}, "at": [1, [2]]}}]'
    (record,) = prefilter_records(ChunkedStream(log.encode(), 1 << 20))
    assert json.loads(record.text)["message"] == KILLED
    assert len(steps) < 10
