"""What runs in a guest that is to panic for want of memory, and in the one after it.

    python -m tests.vmtest.panics FOLDER

FOLDER is named for what to do: ``memcg`` and ``host`` are panics, before which FOLDER gets what is
known of them and the journal of that boot. ``after`` gets what is told of them out of the store
that the three share, and a copy of what is in it. Nothing is judged here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final

from msgspec import to_builtins

from otel_oom.capture.panic.pstore import FOLDERS, has_backend
from otel_oom.capture.panic.scan import find_panics
from otel_oom.linux.clock import boot_id
from otel_oom.linux.temporary_cgroup import Cgroup
from tests.testlib.kernel.kills import run_python
from tests.testlib.kernel.memcg import own_memcg
from tests.vmtest.programs import program

PANICS: Final = ("memcg", "host")
AFTER: Final = "after"
JOURNAL: Final = "journal"
STORED: Final = "pstore"

LIMIT: Final = 16 << 20

_PSTORE, _ARCHIVE = FOLDERS
_SYSTEMD: Final = Path("/usr/lib/systemd")
_JOURNAL: Final = Path("/run/log/journal")
_JOURNAL_S: Final = 60.0
_SYSRQ: Final = Path("/proc/sysrq-trigger")


def main(folder: Path) -> None:
    """Make the panic that ``folder`` is named for, or look for those before."""
    # Only the guest's shell is spared.
    Path("/proc/self/oom_score_adj").write_text("0", encoding="ascii")
    if folder.name == AFTER:
        try:
            _write(folder, _after(folder))
        except Exception:  # noqa: BLE001  whatever it was, it is told outside
            _write(folder, {"failed": traceback.format_exc()})
    else:
        _panic(folder, Path("/proc/sys/vm"))


def _panic(folder: Path, sysctl: Path) -> None:
    known = {"boot_id": boot_id(), "backend": has_backend(), "journal": _keep_journal(folder)}
    with own_memcg(LIMIT) as own:
        if folder.name == "memcg":
            (sysctl / "panic_on_oom").write_text("2", encoding="ascii")
            _write(folder, {**known, "memcg": own.path, "began": time.time()})
            subprocess.run([program("fill_cgroup"), own.procs], check=False)
        else:
            (sysctl / "panic_on_oom").write_text("1", encoding="ascii")
            (sysctl / "overcommit_memory").write_text("1", encoding="ascii")
            # A limit of a cgroup alone makes no panic then.
            subprocess.run([program("fill_cgroup"), own.procs], check=False)
            _write(folder, {**known, "memcg": None, "began": time.time()})
            with run_python(
                "import mmap\nflags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000\n"
                # MAP_POPULATE: at once, and by the kernel.
                "mmap.mmap(-1, 4 << 30, flags=flags)\n",
                Cgroup().procs,
            ) as big:
                big.wait()


def _after(folder: Path) -> dict[str, Any]:
    subprocess.run(["mount", "-t", "pstore", "pstore", _PSTORE], check=False)
    results: dict[str, Any] = {
        "backend": has_backend(),
        "texts": [path.read_bytes().decode("latin-1") for path in sorted(_PSTORE.iterdir())],
        "told": [_told((_PSTORE,)), _told((_PSTORE,))],
    }
    shutil.copytree(_PSTORE, folder / STORED)
    if (_SYSTEMD / "systemd-pstore").exists():
        # The folder is the machine's own, on which a guest cannot write.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/var/lib/systemd"], check=True)
        _ARCHIVE.mkdir()
        subprocess.run([_SYSTEMD / "systemd-pstore"], check=True)
        results["left"] = sorted(path.name for path in _PSTORE.iterdir())
        results["moved"] = _told((_ARCHIVE,))
    return results


def _told(folders: tuple[Path, ...]) -> list[dict[str, Any]]:
    return [
        {**to_builtins(event), "uid": event.uid} for event in find_panics(folders, lambda: None)
    ]


def _keep_journal(folder: Path) -> bool:
    """Have systemd's own daemon write this boot's journal, and keep a copy where it lasts."""
    daemon = _SYSTEMD / "systemd-journald"
    if not daemon.exists():
        return False
    Path("/run/systemd/journal").mkdir(parents=True, exist_ok=True)
    with subprocess.Popen([daemon]) as journald:
        # Lines of before it are told as of when it read them; the last is to be read at once.
        kept = _appears("systemd-journald") and _appears("sysrq: HELP", asked=_SYSRQ)
        journald.terminate()
    if kept:
        shutil.copytree(_JOURNAL, folder / JOURNAL)
    return kept


def _appears(text: str, asked: Path | None = None) -> bool:
    """Whether the journal gets a line with that text in time, which sysrq is asked for."""
    if asked:
        asked.write_text("h", encoding="ascii")
    deadline = time.monotonic() + _JOURNAL_S
    while time.monotonic() < deadline:
        done = subprocess.run(
            ["journalctl", f"--directory={_JOURNAL}", "--lines=50"],
            capture_output=True,
            text=True,
            check=False,
        )
        if text in done.stdout:
            return True
        time.sleep(0.5)
    return False


def _write(folder: Path, results: dict[str, Any]) -> None:
    """Write the results, and have them on this machine's disk: a panic may be next."""
    (folder / "kernel.log").touch()
    unfinished = folder / "results.new"
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(results, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(folder / "results.json")
    os.sync()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
