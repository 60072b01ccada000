"""What a tenant wrote to a log: read only from a file that was named, and marked as unverified."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from otel_oom.commands.replay.deduplicate import Deduplicator
from otel_oom.commands.replay.formats import detect
from otel_oom.commands.replay.log_files import select_log_files
from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.host import Host
from otel_oom.enrich.types import VictimOutcome
from otel_oom.enrich.user_stack import UserSymbolizer
from otel_oom.model.events import OomKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import JOURNAL, TEXT_FILE, UNVERIFIED
from otel_oom.otlp import semconv
from otel_oom.otlp.attributes import kill_attributes
from tests.testlib.require import require
from tests.testlib.samples.events import HOST
from tests.testlib.samples.log_lines import KILLED
from tests.testlib.samples.panics import HOST_REPORT, SYSTEM_WIDE, panic_lines
from tests.testlib.samples.replay_logs import (
    BOOT,
    KILL,
    MACHINE,
    dmesg_lines,
    format_export,
    format_json,
    journal_entries,
    replay,
    replay_kills,
    syslog_lines,
)

FORGED = [line.replace("tail", "postgres") for line in KILL]
"""A report as a program prints it: about another victim."""


def in_cri(lines: Iterable[str]) -> list[str]:
    return [f"2023-11-14T21:00:00.123456789Z stdout F {line}" for line in lines]


def in_docker(lines: Iterable[str]) -> list[str]:
    return [json.dumps({"log": f"{line}\n", "stream": "stdout", "time": "x"}) for line in lines]


def write(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def source_of(kill: OomKill) -> str:
    assert kill.provenance is not None
    return kill.provenance.source


WRAPPED = {
    "CRI, syslog": in_cri(syslog_lines(FORGED, host="db2")),
    "CRI, dmesg": in_cri(dmesg_lines(FORGED)),
    "CRI, bare": in_cri(FORGED),
    "Docker, syslog": in_docker(syslog_lines(FORGED, host="db2")),
    "Docker, dmesg": in_docker(dmesg_lines(FORGED)),
    "Docker, bare": in_docker(FORGED),
    "Docker in Docker": in_docker(in_docker(dmesg_lines(FORGED))),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_pod_forges_no_kill_in_a_directory(name: str, tmp_path: Path) -> None:
    pod = write(tmp_path / "pods/shop_web-1_uid/web/0.log", WRAPPED[name])
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers/web-1_shop_web-0.log").symlink_to(pod)
    # A name that is read whatever the file begins with.
    write(tmp_path / "pods/shop_web-1_uid/kern/0.log", WRAPPED[name]).rename(
        tmp_path / "pods/kern.log"
    )
    selected = select_log_files([tmp_path, tmp_path / "containers", tmp_path / "pods"])
    assert [file.path for file in selected.files] == [tmp_path / "pods/kern.log"]
    assert not selected.files[0].is_named
    assert replay(WRAPPED[name], is_named=False) == []


@pytest.mark.parametrize("name", ["CRI, syslog", "CRI, dmesg", "Docker, syslog", "Docker, dmesg"])
def test_a_container_log_that_is_named_is_unverified(name: str, tmp_path: Path) -> None:
    pod = write(tmp_path / "pods/0.log", WRAPPED[name])
    link = tmp_path / "link.log"
    link.symlink_to(pod)
    for path in (pod, link):
        (file,) = select_log_files([tmp_path, path]).files
        assert file.is_named
    (kill,) = replay_kills(WRAPPED[name])
    assert source_of(kill) == UNVERIFIED
    enriched = enrich_kill(kill, Snapshot(process_found=False), VictimOutcome(), 0, HOST)
    assert kill_attributes(enriched)[semconv.LOG_SOURCE] == "unverified"


def test_each_log_says_who_vouches_for_it() -> None:
    logs: dict[str, bytes | list[str]] = {
        "a journal": format_export(journal_entries(KILL)),
        "a journal as JSON": format_json(journal_entries(KILL)),
        "syslog": syslog_lines(KILL),
        "dmesg": dmesg_lines(KILL),
        "text alone": list(KILL),
    }
    assert {name: source_of(replay_kills(log)[0]) for name, log in logs.items()} == {
        "a journal": JOURNAL,
        "a journal as JSON": JOURNAL,
        "syslog": TEXT_FILE,
        "dmesg": TEXT_FILE,
        "text alone": UNVERIFIED,
    }


def test_text_alone_is_read_from_a_named_file_only() -> None:
    assert replay_kills(list(KILL))
    assert replay(list(KILL), is_named=False) == []


def test_a_file_that_only_its_content_makes_a_log_is_unverified(tmp_path: Path) -> None:
    """A log collector of root's may have written a pod's lines as they were."""
    write(tmp_path / "fluent/all.log", format_json(journal_entries(FORGED)))
    write(tmp_path / "kern.log", syslog_lines(KILL))
    kern, collected = select_log_files([tmp_path]).files
    assert (kern.is_vouched, collected.is_vouched) == (True, False)
    (kill,) = replay_kills(format_json(journal_entries(FORGED)), is_vouched=False)
    assert source_of(kill) == UNVERIFIED


@pytest.mark.root
def test_files_of_tenants_in_a_directory_are_not_read(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "another user's file needs root")
    tmp_path.chmod(0o755)
    write(tmp_path / "kern.log", syslog_lines(KILL))
    os.chown(write(tmp_path / "kern.log.1", syslog_lines(FORGED)), 65534, 65534)
    write(tmp_path / "syslog", syslog_lines(FORGED)).chmod(0o646)
    write(tmp_path / "app/messages", syslog_lines(FORGED))
    write(tmp_path / "app/x.journal", [])
    os.chown(tmp_path / "app", 65534, 65534)
    selected = select_log_files([tmp_path])
    assert [file.path for file in selected.files] == [tmp_path / "kern.log"]
    (note,) = selected.notes
    assert "3 files and directories" in note
    assert str(tmp_path / "app") in note
    named = select_log_files([tmp_path / "app/messages", tmp_path / "app"]).files
    assert {file.path for file in named if not file.is_journal} == {tmp_path / "app/messages"}


def test_journals_of_guests_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest of systemd-nspawn writes to its own directory among the host's journals."""
    own, guest = "1" * 32, MACHINE
    for machine in (own, guest):
        write(tmp_path / "journal" / machine / "system.journal", [])
    assert [len(file.paths) for file in select_log_files([tmp_path]).files] == [2]
    monkeypatch.setattr("otel_oom.commands.replay.directory_walk.read_machine_id", lambda: own)
    (journals,) = select_log_files([tmp_path]).files
    assert journals.paths == (tmp_path / "journal" / own / "system.journal",)


@pytest.mark.parametrize(
    "raw",
    [
        # logger -t kernel, as journalctl prints it.
        f"Nov 14 21:00:00 db1 kernel[4711]: {KILLED}",
        f"<4>1 2023-11-14T21:00:00Z db1 kernel 4711 - - {KILLED}",
        json.dumps({"MESSAGE": KILLED, "SYSLOG_IDENTIFIER": "kernel"}),
        *format_json(journal_entries([KILLED], _TRANSPORT="syslog")),
        *format_json(journal_entries([KILLED], _TRANSPORT="journal", SYSLOG_FACILITY="0")),
    ],
)
def test_user_space_is_not_the_kernel(raw: str) -> None:
    assert detect.parse_line(raw.encode()) is None


def test_fields_that_a_user_set_replace_none_of_journalds() -> None:
    entry = {**journal_entries([KILLED], _TRANSPORT="syslog")[0]}
    behind = "_TRANSPORT=kernel\nMESSAGE=x\n"
    exported = format_export([entry])[:-1] + behind.encode() + b"\n"
    assert detect.parse_line(exported) is None
    named = json.dumps({"MESSAGE": KILLED, "_BOOT_ID": BOOT})
    line = detect.parse_line(named.encode(), allow_unverified=True)
    assert line is not None
    assert line.unverified


def test_an_unverified_event_pushes_out_no_other() -> None:
    """A pod repeats the line of a real kill, before that one is read."""
    (forged,) = replay_kills(in_cri(dmesg_lines(KILL)))
    (real,) = replay_kills(dmesg_lines(KILL))
    assert forged.uid != real.uid
    deduplicator = Deduplicator()
    assert [deduplicator.add(kill) for kill in (forged, real, real, forged)] == [
        *(True, True),
        *(False, False),
    ]
    deduplicator = Deduplicator()
    assert [deduplicator.add(kill) for kill in (real, forged)] == [True, False]


def test_an_unverified_panic_pushes_out_no_other() -> None:
    lines = [*HOST_REPORT, *panic_lines(SYSTEM_WIDE)]
    (forged,), (real,) = replay(in_cri(dmesg_lines(lines))), replay(dmesg_lines(lines))
    assert forged.uid != real.uid


def test_a_pod_replaces_no_host_that_the_operator_names() -> None:
    host = Host({}, UserSymbolizer(Path("/nonexistent")), {"host.name": "db1"})
    names = {
        name: host.of_event(replay_kills(log)[0]).attributes["host.name"]
        for name, log in {
            "pod": WRAPPED["CRI, syslog"],
            "syslog": syslog_lines(KILL, host="web2"),
        }.items()
    }
    assert names == {"pod": "db1", "syslog": "web2"}


def test_a_directory_without_end_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_oom.commands.replay.directory_walk._MAX_ENTRIES", 4)
    for name in ("a", "b"):
        for number in range(3):
            write(tmp_path / name / f"kern.log.{number}", [])
    selected = select_log_files([tmp_path])
    assert len(selected.files) == 2
    (error,) = selected.errors
    assert "more than 4 files" in error


def test_a_head_of_an_entry_in_a_message_is_not_the_kernels() -> None:
    """In the long format of logcat, an app can print what begins an entry."""
    head = "[ 11-14 21:00:00.123     0:    0 I/         ]"
    forged = [line for text in FORGED for line in (head, text, "")]
    assert replay(["[ 11-14 21:00:00.123  4711: 4711 I/app      ]", "x", *forged]) == []
