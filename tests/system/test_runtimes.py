"""Real kills of programs whose runtime has a memory setting that does not fit their limit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.message import Message

from otel_oom.commands.demo.receiver import Receiver, Reply
from otel_oom.model.units import MIB, format_bytes
from tests.testlib.agent import Agent, run_agent
from tests.testlib.containers.image import KILLED_EXIT_CODE
from tests.testlib.containers.kills import wait_for_kill_log, wait_for_span
from tests.testlib.containers.podman import Podman, run_podman
from tests.testlib.containers.runtime_loads import (
    GO,
    JVM,
    NODEJS,
    SECRET,
    Load,
    prepare_loads,
    run_load,
)
from tests.testlib.servers.backend import Backend

pytestmark = [pytest.mark.usefixtures("real_kills"), pytest.mark.slow]

FITTING = re.compile(r"\. Set (\S+), or raise .* to ([0-9.]+ [KMG]iB)\.$")


class Wire(Backend):
    """A backend that keeps all bytes that it has received."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[bytes] = []

    def __call__(self, request: Message) -> Reply | None:
        self.requests.append(request.SerializeToString())
        return super().__call__(request)


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    with run_podman() as running:
        yield running


@pytest.fixture(scope="module")
def loads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loads")
    prepare_loads(folder)
    return folder


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def agent(tmp_path: Path, wire: Wire) -> Iterator[Agent]:
    environ = {"OTEL_METRIC_EXPORT_INTERVAL": "500", "OTEL_BLRP_SCHEDULE_DELAY": "100"}
    with Receiver(wire) as receiver:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
        with run_agent(tmp_path, environ) as running:
            running.wait_until_watching()
            yield running


@pytest.mark.parametrize("load", [JVM, NODEJS, GO], ids=["jvm", "nodejs", "go"])
def test_the_advised_value_fits_the_same_load(
    podman: Podman, loads: Path, wire: Wire, agent: Agent, load: Load
) -> None:
    """The advice has the setting, both sizes and a value that fits: the load then survives.

    Of the command line and the environment nothing else is in the store, the log, or on the wire.
    """
    name = f"killed-{load.runtime.split()[0].lower()}"
    code, _ = run_load(podman, name, load, loads)
    assert code == KILLED_EXIT_CODE
    inspected = podman.inspect(name)
    assert SECRET in str(inspected)
    log = wait_for_kill_log(wire, inspected["Id"])
    wait_for_span(wire, log)
    check_bytes(agent, wire)
    podman.remove(name)
    attributes = log.attributes
    assert attributes["process.runtime.name"] == load.runtime
    assert load.setting in attributes["oom.victim.runtime.settings"]
    assert attributes["oom.cause"] == "runtime_setting"
    advice = attributes["oom.advice"]
    limit = format_bytes(load.limit_mib * MIB)
    expected = f"may take {load.size} ({load.setting}) of the limit of {limit}: nothing is left"
    assert expected in advice
    match = FITTING.search(advice)
    assert match, advice
    code, output = run_load(podman, "fitting", load.with_setting(match[1]), loads)
    podman.remove("fitting")
    assert (code, output.split()[:1]) == (0, ["done"]), output


def check_bytes(agent: Agent, wire: Wire) -> None:
    """Search for the secret in all that the agent has written and sent."""
    sent = b"".join(wire.requests)
    assert b"oom.victim.runtime.settings" in sent
    assert SECRET.encode() not in sent
    files = [path for path in agent.state_dir.rglob("*") if path.is_file()]
    assert any(path.name.endswith("-wal") for path in files)
    written = b"".join(path.read_bytes() for path in files)
    assert b'"settings":{"' in written
    assert SECRET.encode() not in written
    assert SECRET not in agent.log_text()
