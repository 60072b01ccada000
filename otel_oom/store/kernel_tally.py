"""The stored kills of a boot, for the comparison with the kernel's own count and log."""

from __future__ import annotations

import sqlite3

from otel_oom.store import counters
from otel_oom.store.database import Database
from otel_oom.store.types import BootTally, StoredKill


class KernelTally:
    """The tallies of one database; each method raises sqlite3.Error if the disk fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, boot_id: str) -> BootTally:
        """Return the kills of a boot, by how they account for the kernel's count."""
        values = self._database.read(lambda db: counters.by_boot(db, boot_id))
        return BootTally(
            recorded=values.get(counters.CAPTURED_KILL, 0),
            double_counted=values.get(counters.DOUBLE_COUNTED, 0),
            missed=values.get(counters.MISSED, 0),
            log_sequence=values.get(counters.LOG_SEQUENCE),
        )

    def update(
        self, boot_id: str, *, double_counted: int, log_sequence: int, log_starts: bool = False
    ) -> None:
        """Set how often the kernel counted a kill twice, and up to which line of its log.

        ``log_starts``: kills up to that line are ignored as long as the boot lasts.
        """
        start = {counters.LOG_START: log_sequence} if log_starts else {}
        values = {counters.DOUBLE_COUNTED: double_counted, counters.LOG_SEQUENCE: log_sequence}
        self._database.write(lambda db: counters.set_values(db, boot_id, values | start))

    def stored_kills(self, boot_id: str, limit: int) -> list[StoredKill]:
        """Return the newest kills of a boot, as far as they are identified in the kernel's log."""
        return self._database.read(lambda db: _newest_kills(db, boot_id, limit))


def _newest_kills(db: sqlite3.Connection, boot_id: str, limit: int) -> list[StoredKill]:
    """Return the newest kills of a boot: at most ``limit`` rows are sorted."""
    # A kernel's kill alone has a pid there.
    kills = "SELECT 1 FROM events WHERE boot_id = ?1 AND tgid > 0 LIMIT ?2"
    few = f"SELECT count(*) < ?2 FROM ({kills})"  # noqa: S608  SQL of our own
    (is_few,) = db.execute(few, (boot_id, limit)).fetchone()
    # Without the index, the rows are read from the newest on, which reads others in between.
    index = "INDEXED BY events_victim" if is_few else "NOT INDEXED"
    rows = db.execute(
        "SELECT tgid, json_extract(event, '$.victim.tid'),"  # noqa: S608  likewise
        " CAST(json_extract(event, '$.victim.comm') AS BLOB), boottime_ns,"
        " iif(json_extract(event, '$.capture.cpu') IS NULL,"
        " json_extract(event, '$.capture.sequence'), NULL)"
        # Of a row with damaged JSON the columns are enough, if their types are right.
        " FROM (SELECT id, tgid, boottime_ns, iif(json_valid(event), event, '{}') AS event"
        f" FROM events {index} WHERE boot_id = ? AND kind = 'kill'"
        " AND typeof(tgid) = 'integer' AND typeof(boottime_ns) = 'integer'"
        " ORDER BY id DESC LIMIT ?)",
        (boot_id, limit),
    )
    return [
        StoredKill(
            tgid, tid, comm.decode("utf-8", "replace") if comm else None, boottime_ns, log_sequence
        )
        for tgid, tid, comm, boottime_ns, log_sequence in rows
    ]
