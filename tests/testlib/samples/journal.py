"""Journal files with the tests' own entries, written by systemd's program for received ones.

``systemd-journal-remote`` accepts entries as another host sends them, with the fields that only a
journal daemon may set.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

READER: Final = shutil.which("journalctl")
WRITER: Final = Path("/lib/systemd/systemd-journal-remote")

_NO_PID: Final = 999_999_999
"""Above that of any process."""


@dataclass
class Journal:
    """A journal in ``folder``, with one more file for each :meth:`add`."""

    folder: Path
    boot_id: str
    _count: int = field(init=False, default=0)

    @property
    def files(self) -> Path:
        """Return the folder of its files."""
        return self.folder / "journal"

    def program(self) -> str:
        """Return a program that runs the real journalctl on this journal."""
        self.files.mkdir(exist_ok=True)
        path = self.folder / "journalctl"
        path.write_text(
            f'#!/bin/sh\nexec {READER} --directory={shlex.quote(str(self.files))} "$@"\n',
            encoding="utf-8",
        )
        path.chmod(0o700)
        return str(path)

    def add(  # noqa: PLR0913, PLR0917  each is named at the call
        self,
        unit: str,
        message: str,
        unix_ns: int,
        boot_id: str | None = None,
        executable: str | None = None,
        pid: int = _NO_PID,
    ) -> None:
        """Add an entry of a unit with this time, in whole microseconds.

        ``executable`` is its writer, empty for an unknown one; the default is the unit's program.
        """
        self._write(self._entry(unit, message, unix_ns, boot_id or self.boot_id, executable, pid))

    def add_at_once(self, unit: str, messages: Sequence[str], unix_ns: int) -> None:
        """Add several entries, a microsecond apart, which a reader finds together."""
        self._write(
            b"\n".join(
                self._entry(unit, message, unix_ns + number * 1000, self.boot_id)
                for number, message in enumerate(messages)
            )
        )

    @staticmethod
    def _entry(  # noqa: PLR0913, PLR0917  as for add
        unit: str,
        message: str,
        unix_ns: int,
        boot_id: str,
        executable: str | None = None,
        pid: int = _NO_PID,
    ) -> bytes:
        default = f"/usr/bin/{unit.removesuffix('.service')}"
        fields = {
            "__REALTIME_TIMESTAMP": unix_ns // 1000,
            "__MONOTONIC_TIMESTAMP": unix_ns // 1000 % 10**12,
            "_BOOT_ID": boot_id.replace("-", ""),
            "_SYSTEMD_UNIT": unit,
            "_PID": pid,
            "_EXE": default if executable is None else executable,
            "SYSLOG_IDENTIFIER": unit.removesuffix(".service"),
            "MESSAGE": message,
        }
        return b"".join(
            _field(name, f"{value}".encode()) for name, value in fields.items() if value
        )

    def _write(self, entries: bytes) -> None:
        self._count += 1
        self.files.mkdir(exist_ok=True)
        # Beside, and then with the others: a file is there whole at once.
        new = self.folder / f"{self._count}.journal"
        subprocess.run(
            [WRITER, f"--output={new}", "-"],
            input=entries + b"\n",
            check=True,
            capture_output=True,
        )
        new.rename(self.files / new.name)


def _field(name: str, value: bytes) -> bytes:
    """Return a field in the journal's export format; one with newlines has its length."""
    if b"\n" not in value:
        return b"%s=%s\n" % (name.encode(), value)
    return b"%s\n%s%s\n" % (name.encode(), len(value).to_bytes(8, "little"), value)
