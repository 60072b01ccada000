"""The examples do what they promise."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otel_oom.linux.cgroupfs import CgroupMount
from tests.testlib.containers.kills import (
    run_watching_agent,
    wait_for_kill_log,
    wait_for_span,
)
from tests.testlib.containers.podman import run_podman
from tests.testlib.kernel.oracle import KernelLog
from tests.testlib.repository import REPOSITORY

pytestmark = pytest.mark.usefixtures("real_kills")

EXAMPLES = REPOSITORY / "examples"


def test_bigmem_is_killed_and_leaves_nothing() -> None:
    """The kernel kills its child, and its cgroup is removed."""
    with KernelLog() as log:
        done = subprocess.run(
            [sys.executable, EXAMPLES / "bigmem.py", "--limit", "32"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        killed = {kill.pid for kill in log.read_killed_lines()}
    assert done.returncode == 0, done.stderr
    child = int(done.stdout.split()[2])
    assert done.stdout == f"bigmem: process {child} was killed\n"
    assert child in killed
    files = CgroupMount.find()
    assert files is not None
    assert not list(files.mount.glob("bigmem-*"))


def test_bigmem_needs_a_confirmation_to_endanger_the_host() -> None:
    """Without a cgroup of its own it does nothing unless the user agrees."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / "bigmem.py", "--here"],
        input="n\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "may kill anything" in done.stdout


OF_EACH_CAPTURE = re.compile(
    r"log\.record\.uid|oom\.incident\.id"
    r"|oom\.host\.(memory|pressure|sysctl)\.|oom\.(victim|limit)\.memcg\.(stat|events|pressure)\."
    r"|oom\.(victim|limit)\.memcg\.usage|oom\.request\.user_stack|oom\.snapshot\.delay|oom\.tasks\."
    r"|oom\.growth\.(?!kind)|oom\.cause\.evidence|process\.(exit\.time|linux\.cgroup)"
)
"""Attributes of when each program itself got the kill or read a file, within its time limits.

The agent's record has more of its own, so it drops some of the host's.
"""
GROWTH_CLAUSE = re.compile(r", after its usage rose [^;]*")
"""The part of the sentence that comes from each program's own samples."""


def test_the_library_example_gets_the_agents_record(tmp_path: Path) -> None:
    """For one kill of a container: each attribute, the resource, ids, time and sentence."""
    with (
        run_podman() as runtime,
        run_watching_agent(tmp_path) as backend,
        subprocess.Popen(
            [sys.executable, EXAMPLES / "library.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        ) as program,
    ):
        assert program.stdout is not None
        assert program.stdout.readline() == "watching: press Enter to stop\n"
        container = runtime.run_until_killed("shop-web")
        log = wait_for_kill_log(backend, container["Id"])
        span = wait_for_span(backend, log)
        printed = parse_json_values(program.communicate("\n", timeout=30)[0])
    assert program.returncode == 0
    record, exit_span, end = (
        item for item in printed if container["Id"] in json.dumps(item["resource"])
    )
    assert (record["event_name"], end["event_name"]) == ("oom.kill", "oom.victim.exited")
    bodies = record["body"], log.item.body.string_value
    first, second = (GROWTH_CLAUSE.subn("", body) for body in bodies)
    assert first == second
    assert record["severity_number"] == log.item.severity_number
    assert record["trace_id"] == exit_span["context"]["trace_id"]
    assert record["resource"]["attributes"] == exit_span["resource"]["attributes"] == log.resource
    for attributes, sent in (
        (record["attributes"], log.attributes),
        (exit_span["attributes"], span.attributes),
    ):
        assert common(attributes) == common(sent)


def common(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return what is the same for all that capture one kill."""
    return {name: value for name, value in attributes.items() if not OF_EACH_CAPTURE.match(name)}


def parse_json_values(text: str) -> list[dict[str, Any]]:
    """Return the objects that follow each other in ``text``."""
    values, decoder = [], json.JSONDecoder()
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:]
    return values
