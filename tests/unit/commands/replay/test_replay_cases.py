"""Logs as people keep them: each text is one report of one kill behind other prefixes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import Struct

from otel_oom.model.units import KIB, NS_PER_S
from tests.testlib.samples.replay_cases import SAVED, kills_of_case

LIMIT = 104_857_600
FRAMES = 9
FIRST_PID = 1000
AUGUST_12 = datetime(2025, 8, 12, 3, 54, 3, tzinfo=UTC)


class Whole(Struct, frozen=True):
    """Host and second of the kill, as far as the text has them; no second: by the file."""

    host: str | None = None
    second: datetime = SAVED


WHOLE = {
    "android-mtk.log": Whole(),
    "bom.log": Whole(),
    "busybox.log": Whole("box", AUGUST_12),
    "chromeos.log": Whole(None, AUGUST_12),
    "ci-syslog.log": Whole("web1", AUGUST_12),
    "dmesg-H.log": Whole(None, AUGUST_12.replace(second=0)),
    "dmesg-delta.log": Whole(),
    "dmesg-x-t.log": Whole(),
    "grep-file.log": Whole("web1", AUGUST_12),
    "grep-number.log": Whole("web1", AUGUST_12),
    "indent.log": Whole("web1", AUGUST_12),
    "json-dmesg-J.log": Whole(),
    "json-elastic-json.log": Whole("web1", AUGUST_12),
    "json-fluentbit-kmsg.log": Whole(None, AUGUST_12),
    "json-gcp-json.log": Whole("web1", AUGUST_12),
    "json-j-json-pretty.log": Whole("web1", AUGUST_12),
    "json-j-verbose.log": Whole("web1", AUGUST_12),
    "kernel-colon.log": Whole(),
    "kmsg-raw.log": Whole(),
    "one-blank-day.log": Whole("web1", AUGUST_12.replace(day=2)),
    "openwrt.log": Whole(None, AUGUST_12),
    "quote.log": Whole("web1", AUGUST_12),
    "rfc5424-nopri.log": Whole("web1", AUGUST_12),
    "rsyslog-blank.log": Whole("web1", AUGUST_12),
    "talos.log": Whole(None, AUGUST_12),
    "timestamps.log": Whole(None, AUGUST_12),
    "utf16.log": Whole(),
    "vmware-guest.log": Whole(None, AUGUST_12),
    "zone-2digits.log": Whole("web1", AUGUST_12.replace(hour=6)),
}


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_the_whole_report_is_read(name: str, tmp_path: Path) -> None:
    (kill,) = kills_of_case(name, tmp_path)
    assert (kill.victim.tgid, kill.victim.comm) == (4242, "worker")
    assert kill.memory is not None
    assert kill.memory.anon == 101_376 * KIB
    assert kill.trigger is not None
    assert (kill.trigger.tgid, kill.trigger.comm) == (4242, "worker")
    assert kill.decision is not None
    assert (kill.decision.constraint, kill.decision.order) == ("memcg", 0)
    assert kill.decision.message == "Memory cgroup out of memory"
    assert kill.decision.memcg is not None
    assert kill.decision.memcg.path == "/box"
    assert kill.decision.memcg_usage is not None
    assert kill.decision.memcg_usage.limit == LIMIT
    assert kill.tasks is not None
    assert [task.tgid for task in kill.tasks.largest] == [4242, 4200]
    assert len(kill.stack) == FRAMES
    assert kill.stack[0].startswith("oom_kill_process")
    assert kill.stack[-1].startswith("asm_exc_page_fault")
    assert kill.provenance is not None
    assert kill.provenance.host == WHOLE[name].host
    assert kill.time_unix_ns // NS_PER_S == WHOLE[name].second.timestamp()
