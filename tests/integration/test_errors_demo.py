"""`otel-oom demo` on hosts and with backends where it fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_oom.commands.demo.receiver import Receiver
from otel_oom.linux.cgroupfs import CgroupMount
from tests.testlib.command import mount_namespace, run_otel_oom
from tests.testlib.process import LOOPBACK, free_port
from tests.testlib.servers.backend import Backend

pytestmark = pytest.mark.usefixtures("real_kills")


@pytest.fixture(autouse=True)
def check_cleanup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    files = CgroupMount.find()
    yield
    assert not list(tmp_path.iterdir())
    assert files is None or not list(files.mount.glob("otel-oom-demo-*"))


def test_without_a_memory_controller() -> None:
    done = run_otel_oom("demo", prefix=mount_namespace("mount -t tmpfs none /sys/fs/cgroup"))
    assert (done.code, done.out) == (1, "")
    assert "No memory cgroup" in done.error_message()
    assert "root" in done.error_message()


def test_a_backend_that_is_down() -> None:
    endpoint = f"http://{LOOPBACK}:{free_port()}"
    done = run_otel_oom("demo", "--json", env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
    assert done.code == 1
    assert f"{endpoint} did not accept the logs" in done.error_message()
    assert "refused" in done.error_message()
    assert len(done.out.splitlines()) == 2


def test_an_invalid_endpoint() -> None:
    done = run_otel_oom("demo", env={"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"})
    assert (done.code, done.out) == (2, "")
    assert "http://localhost:4318" in done.error_message()
    assert "Ready" not in done.err


def test_a_backend_for_one_signal_alone() -> None:
    backend = Backend()
    with Receiver(backend) as receiver:
        env = {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{receiver.url}/v1/logs"}
        done = run_otel_oom("demo", env=env)
    assert done.code == 0, done
    assert (len(backend.logs), len(backend.spans)) == (1, 0)


@pytest.mark.parametrize(
    "env",
    [{"http_proxy": f"http://{LOOPBACK}:9"}, {"OTEL_SDK_DISABLED": "true"}],
    ids=["proxy", "disabled"],
)
def test_settings_for_other_programs_do_not_matter(env: dict[str, str]) -> None:
    done = run_otel_oom("demo", "--json", env=env)
    assert done.code == 0, done
    assert len(done.out.splitlines()) == 2


def test_an_agent_that_fails_to_start(tmp_path: Path) -> None:
    began = time.monotonic()
    small = mount_namespace(f"mount -t tmpfs -o nr_inodes=3 none {tmp_path}")
    done = run_otel_oom("demo", prefix=small)
    assert (done.code, done.out) == (1, "")
    assert "Traceback" not in done.err
    assert "No space left on device" in done.err
    assert "ended with exit code 1 before it was ready" in done.err
    assert time.monotonic() - began < 15, "it waits 20 s for an agent that is alive"
