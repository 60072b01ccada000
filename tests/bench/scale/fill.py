"""A store filled in bulk: real kills, recorded by the agent, under many uids."""

from __future__ import annotations

import sqlite3
import tempfile
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from otel_oom.linux import clock
from otel_oom.model.units import DAY_S, NS_PER_S
from otel_oom.store.database_file import NAME, configure, connect, run_in_transaction
from otel_oom.store.recovery import checksums
from tests.testlib.agent import run_agent
from tests.testlib.kernel.kills import kill_in
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.wait import wait_until

OLD_SHARE: Final = 10
"""One of so many stored events is older than :data:`MAX_AGE_S`, and of an earlier boot."""
MAX_AGE_S: Final = 10 * DAY_S
FIRST_PID: Final = 1000
"""The victim's process id of the first event."""

_HOLDERS: Final = 1000
_KILLS: Final = 4
_CHUNK: Final = 5000
_SPREAD: Final = 0x9E3779B97F4A7C15F39CC0605CEDC835
"""An odd number: its multiples are all different."""
_SETTLE_S: Final = 20.0
_UNREACHABLE: Final = "http://127.0.0.1:9"
ENVIRON: Final = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": _UNREACHABLE,
    "OTEL_TRACES_EXPORTER": "none",
    # One report for all kills of a cgroup, as for a container that is killed again and again.
    "OTEL_OOM_REPORT_INTERVAL": "1h",
}
_COLUMNS: Final = (
    *("uid", "boot_id", "kind", "tgid", "start_boottime_ns", "boottime_ns", "stored_unix_ns"),
    *("log_queued", "span_queued", "holder", "size", "has_report", "is_counted"),
    *("event", "snapshot", "exit", "reaper_steps", "repeat_count", "repeat_first_unix_ns"),
)
_CHECKED: Final = (
    *("uid", "boot_id", "kind", "tgid", "start_boottime_ns", "boottime_ns"),
    *("log_queued", "span_queued", "event", "snapshot", "exit", "reaper_steps"),
)
"""The columns of a checksum, which a filled store is checked for."""


class Template(tuple[dict[str, Any], bytes]):
    """A row of table `events`, and the log that it was encoded as."""

    __slots__ = ()


def record_templates() -> list[Template]:
    """Have the agent record kills, and return those whose report another one has."""
    with tempfile.TemporaryDirectory() as folder, own_memcg() as memcg:
        with run_agent(Path(folder), ENVIRON) as agent:
            for _ in range(_KILLS):
                kill_in(memcg)
            path = agent.state_dir / NAME
            wait_until(lambda: _count_logs(path) == _KILLS, "the logs", limit=_SETTLE_S)
            agent.stop()
        with closing(connect(path)) as db:
            db.row_factory = sqlite3.Row
            rows = db.execute("SELECT * FROM events WHERE NOT has_report").fetchall()
            return [Template((dict(row), _load_log(db, row["uid"]))) for row in rows]


def _count_logs(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        query = "SELECT count(*) FROM encoded_events WHERE signal = 'logs'"
        return int(db.execute(query).fetchone()[0])


def _load_log(db: sqlite3.Connection, uid: str) -> bytes:
    query = "SELECT payload FROM encoded_events WHERE uid = ? AND signal = 'logs'"
    return zlib.decompress(db.execute(query, (uid,)).fetchone()[0])


def event_uid(number: int) -> str:
    """Return the uid of an event by its number, counted from 0; they are in no order."""
    return str(uuid.UUID(int=(number + 1) * _SPREAD % (1 << 128)))


def fill_store(state: Path, templates: list[Template], count: int, *, queued: bool) -> None:
    """Add ``count`` kills to the database of an empty or new state directory.

    Their logs are in the outbox if they are ``queued``, else they were delivered. The oldest ones
    are of an earlier boot.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with closing(connect(state / NAME)) as db:
        configure(db, check=False)
        # Each page is written once; the agent makes the log again.
        db.execute("PRAGMA journal_mode=OFF")
        db.execute("PRAGMA synchronous=OFF")
        db.execute("PRAGMA cache_size=-262144")
        rows = _rows(templates, count)
        while chunk := list(islice(rows, _CHUNK)):
            run_in_transaction(db, partial(_insert, rows=chunk, queued=queued))
        is_ok = f"SELECT {checksums.checksum_ok_sql('events')} FROM events LIMIT 1"  # noqa: S608  names of our own
        assert db.execute(is_ok).fetchone() == (1,), "the checksum has other columns"
    (state / NAME).chmod(0o600)


def _rows(templates: list[Template], count: int) -> Iterator[tuple[dict[str, Any], bytes]]:
    boot_id, now_ns, boottime_ns = clock.boot_id(), clock.boottime_ns(), clock.boottime_ns()
    unix_ns = now_ns + clock.boot_to_unix_offset_ns()
    old = count // OLD_SHARE
    for number in range(count):
        row, log = templates[number % len(templates)]
        uid = event_uid(number)
        age_ns = (count - number) * 1000
        yield (
            {
                **row,
                "uid": uid,
                "boot_id": "00000000-0000-4000-8000-000000000001" if number < old else boot_id,
                "tgid": FIRST_PID + number,
                "start_boottime_ns": boottime_ns - age_ns,
                "boottime_ns": boottime_ns - age_ns,
                "stored_unix_ns": unix_ns
                - age_ns
                - (2 * MAX_AGE_S * NS_PER_S if number < old else 0),
                "holder": f"/job-{number % _HOLDERS}",
            },
            log.replace(row["uid"].encode(), uid.encode()),
        )


def _crc32(row: Mapping[str, Any]) -> int:
    values = (row[name] for name in _CHECKED)
    return checksums.row_crc32(*(None if each is None else str(each).encode() for each in values))


def _insert(
    db: sqlite3.Connection, rows: list[tuple[dict[str, Any], bytes]], *, queued: bool
) -> None:
    names = ", ".join(_COLUMNS)
    db.executemany(
        f"INSERT INTO events ({names}, crc32) VALUES ({', '.join('?' * len(_COLUMNS))}, ?)",  # noqa: S608  likewise
        [(*(row[name] for name in _COLUMNS), _crc32(row)) for row, _ in rows],
    )
    db.executemany(
        "INSERT INTO encoded_events (uid, signal, payload) VALUES (?, 'logs', ?)",
        [(row["uid"], zlib.compress(log, 1)) for row, log in rows],
    )
    if queued:
        db.executemany(
            "INSERT INTO outbox (uid, signal, payload, queued_unix_ns, holder, size, crc32)"
            " VALUES (?, 'logs', ?, ?, ?, ?, ?)",
            [
                (
                    *(row["uid"], log, row["stored_unix_ns"], row["holder"], len(log)),
                    checksums.message_crc32(row["uid"], "logs", log),
                )
                for row, log in rows
            ],
        )
