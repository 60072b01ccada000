"""The programs that keep the kernel log, each with its format of lines.

They are the other side of the table of formats. Each gets texts as the kernel prints them; the
formats are those of the programs' manuals.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

from tests.testlib.samples.replay_logs import (
    dmesg_lines,
    format_export,
    format_json,
    journal_entries,
    syslog_lines,
)

Producer = Callable[[Sequence[str]], bytes | list[str]]


def _timed(texts: Sequence[str]) -> list[str]:
    return [f"[  100.{at:06}] {text}" for at, text in enumerate(texts)]


def _each(form: str) -> Producer:
    """Return a producer that writes each line with its text in place of the braces."""
    return lambda texts: [form.replace("{}", text) for text in texts]


def _elapsed(first: str, other: str) -> Producer:
    """Return a producer whose first line has another prefix than the rest."""
    return lambda texts: [f"{other if at else first}{text}" for at, text in enumerate(texts)]


def _json(record: Callable[[str], object]) -> Producer:
    """Return a producer that writes a record in JSON on each line."""
    return lambda texts: [json.dumps(record(text)) for text in texts]


def _verbose(texts: Sequence[str]) -> list[str]:
    return [
        line
        for entry in journal_entries(texts)
        for line in (
            "Tue 2023-11-14 21:00:00.000000 UTC [s=aa;i=1;b=bb;m=cc;t=dd;x=ee]",
            *(f"    {name}={value}" for name, value in entry.items() if name[:2] != "__"),
        )
    ]


def _fluent_bit(texts: Sequence[str]) -> list[str]:
    fields = '"priority"=>4, "sequence"=>1, "sec"=>100, "usec"=>0, "msg"=>'
    return [f"[0] kmsg.0: [1700000000.5, {{{fields}{json.dumps(text)}}}]" for text in texts]


PRODUCERS: Final[dict[str, Producer]] = {
    "kern.log, syslog": lambda texts: syslog_lines(_timed(texts)),
    "messages": syslog_lines,
    "syslog, RFC 3339": _each("2023-11-14T21:00:00.5+01:00 db1 kernel: {}"),
    "syslog, RFC 5424": _each("<4>1 2023-11-14T21:00:00Z db1 kernel - - - {}"),
    "dmesg": dmesg_lines,
    "dmesg -r, pstore": lambda texts: [f"<4>{line}" for line in dmesg_lines(texts)],
    "dmesg -x": lambda texts: [f"kern  :warn  : {line}" for line in dmesg_lines(texts)],
    "dmesg -T": _each("[Tue Nov 14 21:00:00 2023] {}"),
    "dmesg --time-format iso": _each("2023-11-14T21:00:00,000000+00:00 {}"),
    "journalctl -k": _each("Nov 14 21:00:00 db1 kernel: {}"),
    "journalctl -o short-precise": _each("Nov 14 21:00:00.123456 db1 kernel: {}"),
    "journalctl -o short-iso": _each("2023-11-14T21:00:00+0000 db1 kernel: {}"),
    "journalctl -o short-full": _each("Tue 2023-11-14 21:00:00 UTC db1 kernel: {}"),
    "journalctl -o short-monotonic": _each("[  100.000000] db1 kernel: {}"),
    "journalctl -o json": lambda texts: format_json(journal_entries(texts)),
    "journalctl -o export": lambda texts: format_export(journal_entries(texts)),
    "containers, CRI": _each("2023-11-14T21:00:00.5Z stdout F [  100.000000] {}"),
    "syslog of BusyBox": _each("Nov 14 21:00:00 db1 kern.warn kernel: [  100.000000] {}"),
    "logread of OpenWrt": _each("Tue Nov 14 21:00:00 2023 kern.warn kernel: [  100.000000] {}"),
    "messages of ChromeOS": _each("2023-11-14T21:00:00.5Z WARNING kernel: [  100.000000] {}"),
    "syslog, day without a blank": _each("Nov 4 21:00:00 db1 kernel: {}"),
    "syslog, RFC 5424 without priority": _each("1 2023-11-14T21:00:00Z db1 kernel - - - {}"),
    "talosctl dmesg": _each("10.5.0.2: kern: warning: [2023-11-14T21:00:00.5Z]: {}"),
    "dmesg -H": _elapsed("[Nov14 21:00] ", "[  +0.000001] "),
    "dmesg -d": _elapsed("[<    0.000000>] ", "[<    0.000001>] "),
    "dmesg -T -d": _each("[Tue Nov 14 21:00:00 2023 <    0.000001>] {}"),
    "dmesg -x -t": _each("kern  :warn  : {}"),
    "dmesg -T, locale": _each("[mar. 14 nov. 21:00:00 2023] {}"),
    "dmesg -J": lambda texts: json.dumps(
        {"dmesg": [{"pri": 4, "time": 100.5, "msg": text} for text in texts]}, indent=3
    ).encode(),
    "/dev/kmsg": _each("4,1000,100000000,-;{}"),
    "Android": _each("<4>[  100.000000][    C1] {}"),
    "journalctl, locale": _each("nov. 14 21:00:00 db1 kernel: {}"),
    "journalctl -o short-iso, zone of two digits": _each("2023-11-14T21:00:00-03 db1 kernel: {}"),
    "journalctl -o json-pretty": lambda texts: "\n".join(
        json.dumps(entry, indent=8) for entry in journal_entries(texts)
    ).encode(),
    "journalctl -o json, as an array": lambda texts: json.dumps(journal_entries(texts)).encode(),
    "journalctl -o verbose": _verbose,
    "grep -n in several files": _each("kern.log:12:Nov 14 21:00:00 db1 kernel: {}"),
    "a quotation": _each("> Nov 14 21:00:00 db1 kernel: {}"),
    "a list, cut to the message": _each("kernel: {}"),
    "a job of CI": _each("2023-11-14T21:00:00.5Z Nov 14 21:00:00 db1 kernel: {}"),
    "docker compose logs": _each("web-1  | [  100.000000] {}"),
    "vmware.log": _each("2023-11-14T21:00:00.5Z In(05) vcpu-5 - Guest: <4>[  100.000000] {}"),
    "Google Cloud Logging": _json(
        lambda text: {
            "jsonPayload": {"MESSAGE": text, "_TRANSPORT": "kernel", "_HOSTNAME": "db1"},
            "timestamp": "2023-11-14T21:00:00.5Z",
        }
    ),
    "CloudWatch": lambda texts: json.dumps(
        {
            "events": [
                {"timestamp": 1_700_000_000_000, "message": line} for line in syslog_lines(texts)
            ]
        },
        indent=4,
    ).encode(),
    "Elasticsearch": lambda texts: json.dumps(
        {
            "hits": {
                "total": {"value": len(texts)},
                "hits": [
                    {"_index": "logs", "_source": {"message": line, "host": {"name": "db1"}}}
                    for line in syslog_lines(texts)
                ],
            }
        }
    ).encode(),
    "logcli -o jsonl": _json(
        lambda text: {
            "labels": {"job": "kernel"},
            "line": f"[  100.000000] {text}",
            "timestamp": "2023-11-14T21:00:00.5Z",
        }
    ),
    "logcli": _each('2023-11-14T21:00:00Z {job="kernel"} [  100.000000] {}'),
    "fluent-bit, kmsg": _fluent_bit,
    "OTLP/JSON of a collector": lambda texts: json.dumps(
        {
            "resourceLogs": [
                {"scopeLogs": [{"logRecords": [{"body": {"stringValue": line}}]}]}
                for line in syslog_lines(texts)
            ]
        }
    ).encode(),
    "a serial console with dates": _each("[2023-11-14 21:00:00] [  100.000000] {}"),
    "ts(1)": _each("Nov 14 21:00:00 [  100.000000] {}"),
    "CSV": _each('"2023-11-14T21:00:00Z","db1","[  100.000000] {}"'),
    "UTF-16": lambda texts: "".join(f"{line}\r\n" for line in dmesg_lines(texts)).encode("utf-16"),
    "text alone": list,
}
