"""Victims whose exit the kernel side has missed, in its own map."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from otel_oom.capture.bpf.libbpf import Libbpf
from otel_oom.capture.bpf.maps import InheritedMaps
from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.linux import clock
from otel_oom.linux.process_lookup import ProcessLookup
from tests.testlib.kernel.bpffs import mount_bpffs

pytestmark = pytest.mark.usefixtures("real_kills")

KEY, VALUE = "=I", "=QQQQII"


def test_victim_that_is_gone_is_a_lost_exit(tmp_path: Path) -> None:
    """One that lives on stays, and so does one that was marked a moment ago."""
    library, now_ns = Libbpf(), clock.boottime_ns()
    own_start_ns = ProcessLookup().start_boottime_ns(os.getpid()) or 0
    with subprocess.Popen(["true"]) as gone, subprocess.Popen(["true"]) as just_gone:
        pass
    with mount_bpffs(tmp_path / "bpffs") as mounted:
        pin_dir = mounted / "otel-oom" / "v1"
        with LibbpfSource(pin_dir=pin_dir):
            (pin,) = pin_dir.glob("*/maps/oom_victims")
        descriptor = library.call("bpf_obj_get", os.fsencode(pin))
        for pid, start_ns, marked_ns in (
            (gone.pid, 1, 2),
            (just_gone.pid, 1, now_ns),
            (os.getpid(), own_start_ns, own_start_ns + 1),
            (os.getppid(), 1, 2),  # of an earlier process with that number
        ):
            value = struct.pack(VALUE, start_ns, marked_ns, 0, 0, pid, 0)
            key = struct.pack(KEY, pid)
            library.call("bpf_map_update_elem", descriptor, key, value, 0)
        os.close(descriptor)
        with LibbpfSource(pin_dir=pin_dir) as source:
            assert source.lost_events().exits == 2
            assert source.lost_events().exits == 2
            maps = InheritedMaps(
                library, {"oom_victims": library.call("bpf_obj_get", os.fsencode(pin))}, []
            )
            left = [key for key, _ in maps.entries("oom_victims", 4, 40, 10)]
            assert {struct.unpack(KEY, key)[0] for key in left} == {just_gone.pid, os.getpid()}
            maps.close()
