"""`otel-oom replay` as a whole: real logs, a real receiver, and an unavailable backend."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from otel_oom.commands.demo.receiver import Receiver, Reply
from otel_oom.model.events import OomKill
from otel_oom.model.types import Memcg, Task
from tests.testlib.command import NOBODY, CompletedCommand, clean_environ, run_command, run_otel_oom
from tests.testlib.kernel.oracle import parse_killed_lines
from tests.testlib.require import require
from tests.testlib.samples.log_lines import killed_line
from tests.testlib.samples.replay_logs import (
    KILL,
    dmesg_lines,
    format_json,
    journal_entries,
    replay_kills,
    syslog_lines,
)
from tests.testlib.servers.backend import Backend

STORM = [*KILL, *(killed_line(pid) for pid in range(6000, 6050))]
PIDS = [5356, *range(6000, 6050)]


def _write(path: Path, lines: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _shown(done: CompletedCommand) -> list[dict[str, Any]]:
    assert done.code == 0, done
    return [
        {a["key"]: next(iter(a["value"].values())) for a in record["attributes"]}
        for line in done.out.splitlines()
        for group in json.loads(line).get("resourceLogs", ())
        for record in group["scopeLogs"][0]["logRecords"]
    ]


@pytest.fixture
def backend() -> Iterator[tuple[Backend, str]]:
    taking = Backend()
    with Receiver(taking) as receiver:
        yield taking, receiver.url


def _send(url: str, state: Path, *files: Path, **more: Any) -> CompletedCommand:  # noqa: ANN401  of otel_oom()
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "no_proxy": "*"}
    return run_otel_oom("replay", "--state-dir", state, *files, env=env, **more)


def test_each_kill_is_sent_once(backend: tuple[Backend, str], tmp_path: Path) -> None:
    taking, url = backend
    logs = tmp_path / "log"
    timed = [f"[  100.{at:06}] {text}" for at, text in enumerate(STORM)]
    _write(logs / "kern.log", syslog_lines(timed))
    _write(logs / "syslog", syslog_lines(STORM))
    _write(logs / "journal.json", format_json(journal_entries(STORM)))
    done = _send(url, tmp_path / "state", logs)
    assert done.code == 0, done
    assert "51 of them new" in done.err
    assert [log.attributes["process.pid"] for log in taking.logs] == PIDS
    assert len({log.uid for log in taking.logs}) == len(PIDS)
    assert {span.uid for span in taking.spans} == {log.uid for log in taking.logs}
    log = taking.logs[0]
    assert log.resource["host.name"] == "db1"
    assert "host.id" not in log.resource or log.attributes["log.file.path"].endswith("json")
    assert log.attributes["oom.capture.source"] == "replay"
    again = _send(url, tmp_path / "state", logs)
    assert again.code == 0, again
    assert "0 of them new" in again.err
    renamed = _write(tmp_path / "other", syslog_lines(STORM))
    assert _send(url, tmp_path / "state", renamed).code == 0
    assert len(taking.logs) == len(taking.spans) == len(PIDS)


@pytest.mark.slow
def test_unsent_messages_are_sent_by_the_next_run(tmp_path: Path) -> None:
    log = _write(tmp_path / "kern.log", syslog_lines(KILL))
    away = Backend(lambda: Reply(503, (("Retry-After", "1"),)))
    with Receiver(away) as receiver:
        done = _send(receiver.url, tmp_path / "state", log)
    assert done.code == 1
    assert "2 messages wait in" in done.error_message()
    taking = Backend()
    with Receiver(taking) as receiver:
        done = _send(receiver.url, tmp_path / "state", log)
    assert done.code == 0, done
    assert [one.attributes["process.pid"] for one in taking.logs] == [5356]


def test_rejected_messages_become_dead_letters(tmp_path: Path) -> None:
    log = _write(tmp_path / "kern.log", syslog_lines(KILL))
    with Receiver(Backend(lambda: Reply(400))) as receiver:
        done = _send(receiver.url, tmp_path / "state", log)
    assert done.code == 1
    assert "2 messages were rejected" in done.error_message()
    shown = run_otel_oom("queue", "--state-dir", tmp_path / "state", "--json")
    assert len(json.loads(shown.out)["dead_letters"]) == 2


def test_a_dry_run_sends_nothing(backend: tuple[Backend, str], tmp_path: Path) -> None:
    taking, url = backend
    log = _write(tmp_path / "kern.log", syslog_lines(KILL))
    dry = _send(url, tmp_path / "state", log, Path("--dry-run"))
    assert dry.code == 0, dry
    assert "The kernel's OOM killer killed tail (pid 5356); it used" in dry.out
    assert "db1" in dry.out
    assert "no year in log" in dry.out
    shown = _shown(_send(url, tmp_path / "state", log, Path("--json")))
    assert [attributes["process.pid"] for attributes in shown] == ["5356"]
    assert shown[0]["oom.time.source"] == "log_without_year"
    assert (taking.logs, taking.spans) == ([], [])
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
def test_a_pod_prints_no_kill_into_the_hosts_logs(tmp_path: Path) -> None:
    """A pod chooses its whole standard output: here a kill of postgres on another host."""
    logs = tmp_path / "log"
    _write(logs / "kern.log", syslog_lines(KILL))
    forged = [line.replace("tail", "postgres") for line in KILL]
    wrapped = [
        f"2023-11-14T21:00:00.5Z stdout F {line}" for line in syslog_lines(forged, host="db2")
    ]
    pod = _write(logs / "pods/shop_web-1_uid/web/0.log", wrapped)
    (logs / "containers").mkdir()
    (logs / "containers/web.log").symlink_to(pod)
    (of_directory,) = _shown(run_otel_oom("replay", "--json", logs))
    assert of_directory["oom.victim.comm"] == "tail"
    assert of_directory["oom.log.source"] == "text"
    named = run_otel_oom("replay", "--json", logs, logs / "containers/web.log")
    kinds = {one["oom.victim.comm"]: one["oom.log.source"] for one in _shown(named)}
    assert kinds == {"tail": "text", "postgres": "unverified"}
    shown = run_otel_oom("replay", "--dry-run", logs / "containers/web.log")
    assert "(unverified)" in shown.out


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_standard_input_is_read(pack: Any) -> None:  # noqa: ANN401  a function
    data = pack("".join(f"{line}\n" for line in dmesg_lines(STORM)).encode())
    done = subprocess.run(
        [sys.executable, "-m", "otel_oom", "replay", "--json", "-"],
        input=data,
        capture_output=True,
        env=clean_environ(),
        check=True,
    )
    shown = _shown(CompletedCommand(0, done.stdout.decode(), ""))
    assert [int(attributes["process.pid"]) for attributes in shown] == PIDS
    assert "log.file.path" not in shown[0]


def test_an_unreadable_file_does_not_hide_the_others(tmp_path: Path) -> None:
    log = _write(tmp_path / "kern.log", syslog_lines(KILL))
    broken = tmp_path / "kern.log.1.gz"
    broken.write_bytes(gzip.compress(b"x" * 1000)[:20])
    done = run_otel_oom("replay", "--dry-run", log, broken, tmp_path / "none")
    assert done.code == 1
    assert "pid 5356" in done.out
    errors = [line for line in done.err.splitlines() if line.startswith("otel-oom: ")]
    assert len(errors) == 2
    assert "Traceback" not in done.err


def test_a_directory_without_a_kernel_log_is_an_error(tmp_path: Path) -> None:
    _write(tmp_path / "auth.log", ["Nov 14 21:00:00 db1 sshd[1]: hello"])
    done = run_otel_oom("replay", "--dry-run", tmp_path)
    assert done.code == 1
    assert "There is no kernel log in" in done.error_message()


@pytest.mark.root
def test_an_ordinary_user_may_replay(backend: tuple[Backend, str], tmp_path: Path) -> None:
    require(os.geteuid() == 0, "to be another user needs root")
    taking, url = backend
    log = _write(tmp_path / "kern.log", syslog_lines(KILL))
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "no_proxy": "*",
        "XDG_STATE_HOME": str(home / "state"),
    }
    done = run_otel_oom("replay", log, env=env, prefix=NOBODY)
    assert done.code == 0, done
    assert len(taking.logs) == 1
    assert (home / "state/otel-oom-replay/otel-oom.db").exists()
    # That it may hold no memory and lower no score is no matter here.
    assert "WARNING" not in done.err


RAW = "".join(
    f"<{3 if 'Killed' in line else 4}>{line}\n" for line in dmesg_lines(STORM, since_boot_s=12345.0)
)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--raw",),
        ("--decode",),
        ("--ctime",),
        ("--decode", "--ctime"),
        ("--time-format", "iso"),
        ("--decode", "--time-format", "iso"),
        ("--show-delta",),
        ("--color=always",),
        ("--notime",),
    ],
)
def test_the_real_dmesgs_output_is_read(options: tuple[str, ...], tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_text(RAW, encoding="utf-8")
    printed = run_command(["dmesg", "--file", raw, *options])
    assert printed.code == 0, printed
    found = replay_kills(printed.out.encode())
    assert [kill.victim.tgid for kill in found] == PIDS
    assert found[0].decision is not None
    assert found[0].decision.memcg is not None
    assert found[0].decision.memcg.path == "/outer"
    assert found[0].decision.message == "Memory cgroup out of memory"


JOURNAL_FORMS = (
    *("short", "short-precise", "short-iso", "short-iso-precise", "short-full"),
    *("short-monotonic", "short-unix", "with-unit", "json", "json-seq", "json-sse", "export"),
)

_JOURNALD = """
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/log/journal /run/systemd/journal
timeout 60 /lib/systemd/systemd-journald &
trap "kill $!" EXIT
until journalctl -D /run/log/journal -k -q -o cat 2>/dev/null | grep -q "$MARK"; do sleep 0.1; done
kill $!
wait $! || true
trap - EXIT
cp -r /run/log/journal "$OUT/journal"
for form in $FORMS; do
    journalctl -D "$OUT/journal" -k -q -a --no-pager -o "$form" > "$OUT/$form"
done
journalctl -D "$OUT/journal" -k -q -a --no-pager SYSLOG_FACILITY=0 -o cat > "$OUT/cat"
"""
"""A private journald that reads the kernel log once.

In `cat` are the kernel's own lines: other tests of this boot wrote some to /dev/kmsg.
"""


@pytest.fixture(scope="module")
def journald(
    real_kills: None,  # noqa: ARG001  they must be possible
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    from tests.testlib.kernel.kills import kill_one  # noqa: PLC0415  needs root

    log = subprocess.run(["dmesg"], check=True, capture_output=True, text=True, errors="replace")
    before = {line.pid for line in parse_killed_lines(log.stdout.splitlines())}
    kill_one()  # between what other tests have left and the next one
    # All formats are searched for this kill: no earlier kill may have the same pid.
    pid = next(pid for pid in iter(kill_one, None) if pid not in before)

    require(Path("/lib/systemd/systemd-journald").exists(), "journald is systemd's")
    out = tmp_path_factory.mktemp("journal")
    env = {"OUT": str(out), "FORMS": " ".join(JOURNAL_FORMS), "MARK": f"Killed process {pid} "}
    own = ("unshare", "--mount", "--propagation", "private", "--")
    require(run_command([*own, "true"]).code == 0, "no mounts of one's own are allowed here")
    done = run_command([*own, "sh", "-c", _JOURNALD], env)
    assert done.code == 0, done
    return out


def _of_one_line(log: Path) -> list[OomKill]:
    """Return the kills without newlines in names: other tests of this boot leave any names."""
    return [kill for kill in replay_kills(log.read_bytes()) if "\n" not in (kill.victim.comm or "")]


def _undisturbed(log: Path) -> list[OomKill]:
    """Return those that have none with a newline before or behind them.

    Where a line is split, the report that it stands in has fewer fields.
    """
    kills = list(replay_kills(log.read_bytes()))
    split = ["\n" in (kill.victim.comm or "") for kill in kills]
    return [
        kill for index, kill in enumerate(kills) if not any(split[max(0, index - 1) : index + 2])
    ]


def _without_colours(kill: OomKill) -> tuple[Task, Memcg | None, tuple[str, ...]]:
    """Return what all formats contain: a colour in a name is stripped from text."""
    comm = re.sub(r"\x1b\[[0-9;]*m", "", kill.victim.comm or "")
    return replace(kill.victim, comm=comm), kill.memcg, kill.stack


@pytest.mark.parametrize("form", JOURNAL_FORMS)
def test_the_real_journals_output_is_read(form: str, journald: Path) -> None:
    logged = (journald / "cat").read_text(encoding="utf-8", errors="replace").splitlines()
    found = _of_one_line(journald / form)
    pids = [line.pid for line in parse_killed_lines(logged)]
    assert [kill.victim.tid for kill in found if not kill.skipped] == pids
    in_json = _undisturbed(journald / "json")
    assert in_json
    tids = {kill.victim.tid for kill in in_json}
    assert [_without_colours(kill) for kill in found if kill.victim.tid in tids] == [
        _without_colours(kill) for kill in in_json
    ]


def test_all_formats_of_the_real_journal_have_the_same_kills(journald: Path) -> None:
    uids = {
        tuple(kill.uid for kill in _of_one_line(journald / form))
        for form in ("json", "export", "short-monotonic")
    }
    every = {kill.uid for kill in replay_kills((journald / "json").read_bytes())}
    others = every.difference(*uids)
    (journald / "cat").unlink()  # what has no time at all is nobody's
    of_files = _shown(run_otel_oom("replay", "--json", journald / "journal"))
    uids.add(tuple(uid for one in of_files if (uid := one["log.record.uid"]) not in others))
    assert len(uids) == 1
    everything = _shown(run_otel_oom("replay", "--json", journald))
    # In formats without the kernel's own time, a kill from before the start of journald has the
    # time of that start. So compare a fresh kill only.
    fresh = _of_one_line(journald / "json")[-1].uid
    assert [one["log.record.uid"] for one in everything].count(fresh) == 1
    pid = [one["process.pid"] for one in everything if one["log.record.uid"] == fresh]
    assert [one["process.pid"] for one in everything].count(*pid) == 1
    assert set(*uids) <= {one["log.record.uid"] for one in everything}
