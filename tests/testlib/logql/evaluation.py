"""The small part of LogQL that the rules of ``mixin/`` use, on entries of the Loki receiver.

A selector, filters of labels, and a sum over a window. Everything else is an error.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from tests.testlib.servers.loki_entry import Entry, matches_selector
from tests.testlib.servers.loki_receiver import LokiReceiver

_SUM: Final = re.compile(
    r"sum by \((?P<by>[^)]*)\) \(\s*"
    r"(?P<function>\w+)\((?P<query>\{.*) \[(?P<window>\d+)(?P<unit>[mh])\]\)\s*"
    r"\) (?P<operator>>=?) (?P<threshold>\d+)"
)
_FILTER: Final = re.compile(r'\w+=~?"[^"]*"')
_LOG_STAGES: Final = ("label_format ", "keep ")
_UNIT_NS: Final = {"m": 60 * 10**9, "h": 3600 * 10**9}


def find_entries(receiver: LokiReceiver, query: str) -> list[Entry]:
    """Return the entries that a query of logs reads; its stages that format are ignored."""
    selector, *stages = re.split(r" \| (?=\w)", query)
    filters = [stage for stage in stages if not stage.startswith((*_LOG_STAGES, "unwrap "))]
    assert all(map(_FILTER.fullmatch, filters)), query
    return [
        entry
        for entry in receiver.read_streams(selector)
        if all(matches_selector(entry.fields, each) for each in filters)
    ]


def evaluate_rule(receiver: LokiReceiver, expr: str, now_ns: int) -> list[Mapping[str, str]]:
    """Return the labels of the series that an alert's expression yields, without empty ones."""
    rule = _SUM.fullmatch(expr)
    assert rule, expr
    names = rule["by"].split(", ")
    start_ns = now_ns - int(rule["window"]) * _UNIT_NS[rule["unit"]]
    unwrap = re.search(r"\| unwrap (\w+)$", rule["query"])
    assert rule["function"] == ("sum_over_time" if unwrap else "count_over_time")
    sums: dict[tuple[tuple[str, str], ...], int] = defaultdict(int)
    for entry in find_entries(receiver, rule["query"]):
        if start_ns < entry.time <= now_ns:
            labels = tuple((name, entry.fields[name]) for name in names if name in entry.fields)
            sums[labels] += int(entry.fields[unwrap[1]]) if unwrap else 1
    least = int(rule["threshold"]) + (rule["operator"] == ">")
    return [dict(labels) for labels, value in sums.items() if value >= least]
