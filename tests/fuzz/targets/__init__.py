"""The fuzz targets: one for each parser of untrusted files.

A target is a module with ``check_input``, which parses any bytes and asserts what holds for all.
Its seeds are in ``corpus/<target>``, its tokens in ``dictionaries/<target>.dict``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

TARGETS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "cgroup": ("otel_oom.linux.process", "otel_oom.linux.containers", "otel_oom.enrich"),
        "container_json": ("otel_oom.linux.containers",),
        "daemon_signal": (
            *("otel_oom.capture.bpf.daemon_signals", "otel_oom.capture.bpf.decoder"),
            *("otel_oom.capture.bpf.record_values", "otel_oom.capture.userspace.daemon_signals"),
        ),
        "elf": ("otel_oom.linux.elf", "otel_oom.linux.elf_symbols", "otel_oom.enrich.symbols"),
        "environ": ("otel_oom.snapshot.environ", "otel_oom.enrich"),
        "journal_entry": ("otel_oom.linux.systemd", "otel_oom.capture"),
        "kernel_log": ("otel_oom.linux.kernel_log", "otel_oom.capture.kmsg"),
        "oci_config": ("otel_oom.linux.containers",),
        "replay": (
            *("otel_oom.commands.replay", "otel_oom.linux.kernel_log"),
            "otel_oom.capture.userspace",
        ),
    }
)
"""The names of the targets, each with the packages whose branches guide the search."""
