"""The store where nothing but its own folder can be written, as in a pod."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.testlib.command import mount_namespace
from tests.testlib.repository import REPOSITORY

_STORE: Final = "/mnt/store.db"
# Sorted rows, as those of RETURNING, go to a temporary file where they exceed the cache.
_STATEMENTS: Final = """\
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from otel_oom.store.database_file import configure, connect
db = connect(Path(sys.argv[2]))
configure(db, check=False)
db.execute("CREATE TABLE t (text)")
rows = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n LIMIT 2000)"
db.execute(f"{rows} INSERT INTO t SELECT hex(randomblob(500)) FROM n")
print(len(db.execute("SELECT text FROM t ORDER BY text").fetchall()))
"""


def test_a_large_result_needs_no_other_folder(tmp_path: Path) -> None:
    prefix = mount_namespace(
        f"mount --bind {tmp_path} /mnt",
        *(f"mount -t tmpfs -o ro none {folder}" for folder in ("/tmp", "/var/tmp")),  # noqa: S108  hidden
    )
    done = subprocess.run(
        [*prefix, sys.executable, "-c", _STATEMENTS, REPOSITORY, _STORE],
        cwd="/proc",  # SQLite's last choice is the working folder
        env={name: value for name, value in os.environ.items() if name != "TMPDIR"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "2000\n"), done.stderr
