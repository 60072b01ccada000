"""The BPF programs that a process has loaded, and what the kernel tells of each."""

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
    """One program; times are zero unless the kernel is told to take them."""

    name: str
    """The function's, as it is in the object; the program's number where bpftool is missing."""
    verified_insns: int | None
    """How many instructions the verifier went through; kernels before 5.16 do not tell."""
    run_ns: int
    runs: int
    left_out: int
    """How often it was not run because it already was on that CPU; kernels before 5.12 tell 0."""


def list_loaded_programs(pid: int) -> list[LoadedProgram]:
    """The programs of that process, by name (``/proc/PID/fdinfo``, and bpftool for names).

    Raises:
        subprocess.CalledProcessError: bpftool is not allowed to look.
    """
    names = _names()
    found: dict[int, LoadedProgram] = {}
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        lines: list[str] = []
        with suppress(OSError):  # closed meanwhile
            lines = info.read_text(encoding="ascii").splitlines()
        fields = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        # A link names the program it attaches as well, but has neither its type nor its runs.
        if {"prog_type", "prog_id"} <= fields.keys() and "link_type" not in fields:
            told = fields.get("verified_insns")
            found[int(fields["prog_id"])] = LoadedProgram(
                names.get(int(fields["prog_id"]), fields["prog_id"]),
                None if told is None else int(told),
                int(fields.get("run_time_ns", 0)),
                int(fields.get("run_cnt", 0)),
                int(fields.get("recursion_misses", 0)),
            )
    return sorted(found.values(), key=lambda program: program.name)


def _names() -> dict[int, str]:
    bpftool = shutil.which("bpftool", path=_PATH)
    if bpftool is None:
        return {}
    listed = subprocess.run(
        [bpftool, "--json", "prog", "show"], check=True, capture_output=True, text=True
    )
    return {program["id"]: program.get("name", "") for program in json.loads(listed.stdout)}
