"""Panics of a guest that is out of memory, and their records at a later boot.

    python -m tests.vmtest.panics FOLDER

panics in the way that FOLDER is named for: ``memcg`` or ``host``. Before that, FOLDER gets the
facts about this boot, and its journal.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final

from msgspec import to_builtins

from otel_oom.capture.panic.pstore import FOLDERS
from otel_oom.capture.panic.scan import find_panics
from otel_oom.linux.clock import boot_id
from otel_oom.linux.temporary_cgroup import Cgroup
from tests.testlib.kernel.kills import run_python
from tests.testlib.kernel.memcg import own_memcg
from tests.vmtest.programs import program_path
from tests.vmtest.results_file import write_results

PANICS: Final = ("memcg", "host")
JOURNAL: Final = "journal"
RECORDS: Final = "pstore"
RECORDS_FILE: Final = "panics.json"

LIMIT: Final = 16 << 20

_PSTORE, _ARCHIVE = FOLDERS
_SYSTEMD: Final = Path("/usr/lib/systemd")
_JOURNAL: Final = Path("/run/log/journal")
_JOURNAL_S: Final = 60.0
_SYSRQ: Final = Path("/proc/sysrq-trigger")


def main(folder: Path) -> None:
    """Make the panic that ``folder`` is named for."""
    # Only the guest's shell is protected.
    Path("/proc/self/oom_score_adj").write_text("0", encoding="ascii")
    _panic(folder, Path("/proc/sys/vm"))


def read_panics(folder: Path) -> None:
    """Write the records of earlier boots to ``folder``, and the events that are read from them.

    A boot that is tried again keeps the first file: then systemd-pstore has emptied the store.
    """
    if (folder / RECORDS_FILE).exists():
        return
    try:
        results = _read_records(folder)
    except Exception:  # noqa: BLE001  the tests report it
        results = {"failed": traceback.format_exc()}
    write_results(folder, results, RECORDS_FILE)


def _panic(folder: Path, sysctl: Path) -> None:
    facts = {"boot_id": boot_id(), "journal": _keep_journal(folder)}
    with own_memcg(LIMIT) as own:
        if folder.name == "memcg":
            (sysctl / "panic_on_oom").write_text("2", encoding="ascii")
            write_results(folder, {**facts, "memcg": own.path, "began": time.time()})
            subprocess.run([program_path("fill_cgroup"), own.procs], check=False)
        else:
            (sysctl / "panic_on_oom").write_text("1", encoding="ascii")
            (sysctl / "overcommit_memory").write_text("1", encoding="ascii")
            # The limit of a cgroup alone makes no panic then.
            subprocess.run([program_path("fill_cgroup"), own.procs], check=False)
            write_results(folder, {**facts, "memcg": None, "began": time.time()})
            with run_python(
                "import mmap\nflags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000\n"
                # MAP_POPULATE: at once, and by the kernel.
                "mmap.mmap(-1, 4 << 30, flags=flags)\n",
                Cgroup().procs,
            ) as big:
                big.wait()


def _read_records(folder: Path) -> dict[str, Any]:
    subprocess.run(["mount", "-t", "pstore", "pstore", _PSTORE], check=False)
    results: dict[str, Any] = {
        "texts": [path.read_bytes().decode("latin-1") for path in sorted(_PSTORE.iterdir())],
        "events": _read_events((_PSTORE,)),
        "events_again": _read_events((_PSTORE,)),
    }
    shutil.copytree(_PSTORE, folder / RECORDS)
    if (_SYSTEMD / "systemd-pstore").exists():
        # The folder is the machine's own, which a guest cannot write.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/var/lib/systemd"], check=True)
        _ARCHIVE.mkdir()
        subprocess.run([_SYSTEMD / "systemd-pstore"], check=True)
        results["left"] = sorted(path.name for path in _PSTORE.iterdir())
        results["moved"] = _read_events((_ARCHIVE,))
    return results


def _read_events(folders: tuple[Path, ...]) -> list[dict[str, Any]]:
    return [
        {**to_builtins(event), "uid": event.uid} for event in find_panics(folders, lambda: None)
    ]


def _keep_journal(folder: Path) -> bool:
    """Let systemd-journald write the journal of this boot; copy it to ``folder``."""
    daemon = _SYSTEMD / "systemd-journald"
    if not daemon.exists():
        return False
    Path("/run/systemd/journal").mkdir(parents=True, exist_ok=True)
    with subprocess.Popen([daemon]) as journald:
        # Its time of earlier lines is that of its start; a new line is read at once.
        copied = _wait_for("systemd-journald") and _wait_for("sysrq: HELP", sysrq=True)
        journald.terminate()
    if copied:
        shutil.copytree(_JOURNAL, folder / JOURNAL)
    return copied


def _wait_for(text: str, *, sysrq: bool = False) -> bool:
    """Return True if the journal gets a line with this text in time; sysrq can print one."""
    if sysrq:
        _SYSRQ.write_text("h", encoding="ascii")
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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
