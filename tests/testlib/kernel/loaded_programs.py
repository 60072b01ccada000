"""The BPF programs that a process has loaded, with the kernel's statistics of each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


@dataclass(frozen=True)
class LoadedProgram:
    """A program; its times are zero unless ``kernel.bpf_stats_enabled`` is set."""

    name: str
    """The name of its function; the id of the program where bpftool is missing."""
    verified_insns: int | None
    """The number of instructions that the verifier processed; None on kernels before 5.16."""
    run_ns: int
    runs: int
    recursion_misses: int
    """How often it was skipped since it already ran on that CPU; 0 on kernels before 5.12."""


def list_loaded_programs(pid: int) -> list[LoadedProgram]:
    """Return the programs of a process, by name (``/proc/PID/fdinfo``, and bpftool for names).

    Raises:
        subprocess.CalledProcessError: bpftool may not list programs.
    """
    names = _read_names()
    programs: dict[int, LoadedProgram] = {}
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        lines: list[str] = []
        with suppress(OSError):  # closed meanwhile
            lines = info.read_text(encoding="ascii").splitlines()
        fields = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        # A link has the id of its program as well, but neither its type nor its runs.
        if {"prog_type", "prog_id"} <= fields.keys() and "link_type" not in fields:
            verified = fields.get("verified_insns")
            programs[int(fields["prog_id"])] = LoadedProgram(
                names.get(int(fields["prog_id"]), fields["prog_id"]),
                None if verified is None else int(verified),
                int(fields.get("run_time_ns", 0)),
                int(fields.get("run_cnt", 0)),
                int(fields.get("recursion_misses", 0)),
            )
    return sorted(programs.values(), key=lambda program: program.name)


def _read_names() -> dict[int, str]:
    bpftool = shutil.which("bpftool", path=_PATH)
    if bpftool is None:
        return {}
    listed = subprocess.run(
        [bpftool, "--json", "prog", "show"], check=True, capture_output=True, text=True
    )
    return {program["id"]: program.get("name", "") for program in json.loads(listed.stdout)}
