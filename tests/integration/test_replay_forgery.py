"""A user without rights who writes kills to a real journald, as the kernel would."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.testlib.command import run_command, run_otel_oom
from tests.testlib.require import require
from tests.testlib.samples.log_lines import killed_line

FORGED = killed_line(4711, "postgres")
FORMATS = (
    *("short", "short-precise", "short-iso", "short-full", "short-monotonic", "short-unix"),
    *("json", "export"),
)

_JOURNALD = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/log/journal /run/systemd/journal
timeout 60 /lib/systemd/systemd-journald &
trap "kill $!" EXIT
until [ -S /run/systemd/journal/dev-log ]; do sleep 0.05; done
user="setpriv --reuid=65534 --regid=65534 --clear-groups"
$user logger --socket /run/systemd/journal/dev-log -p kern.err -t kernel -- "$FORGED"
printf 'MESSAGE=%s\nSYSLOG_IDENTIFIER=kernel\nSYSLOG_FACILITY=0\n_TRANSPORT=kernel\n' "$FORGED" |
    $user logger --journald
until [ "$(journalctl -D /run/log/journal -q -o cat | grep -cF "$FORGED")" = 2 ]; do
    sleep 0.05
done
kill $!
wait $! || true
trap - EXIT
cp -r /run/log/journal "$OUT/journal"
for format in $FORMATS; do
    journalctl -D "$OUT/journal" -q -a --no-pager -o "$format" > "$OUT/$format"
done
"""
"""A private journald, a user who is not trusted, and all that journalctl prints of it."""


@pytest.mark.root
def test_a_user_forges_no_kill_in_a_journal(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "a private journald needs root")
    require(Path("/lib/systemd/systemd-journald").exists(), "journald is systemd's")
    own = ("unshare", "--mount", "--propagation", "private", "--")
    require(run_command([*own, "true"]).code == 0, "no mounts of one's own are allowed here")
    env = {"OUT": str(tmp_path), "FORMATS": " ".join(FORMATS), "FORGED": FORGED}
    done = run_command([*own, "sh", "-c", _JOURNALD], env)
    assert done.code == 0, done
    for name in ("journal", *FORMATS):
        if name != "journal":
            assert "postgres" in (tmp_path / name).read_text(encoding="utf-8", errors="replace")
        assert "postgres" not in run_otel_oom("replay", "--json", tmp_path / name).out, name
