"""``otel-oom doctor`` on a host where all is well, and where something is missing."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from otel_oom import __version__
from otel_oom.commands.demo.receiver import Receiver, Reply
from otel_oom.commands.doctor import Check
from otel_oom.commands.doctor.endpoints import check_delivery
from tests.testlib.command import NOBODY, CompletedCommand, mount_namespace, run_otel_oom
from tests.testlib.plugins import add_package
from tests.testlib.process import LOOPBACK, free_port
from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require
from tests.testlib.servers.backend import Backend
from tests.testlib.servers.metrics import MetricsBackend

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def checks(done: CompletedCommand) -> dict[str, Any]:
    assert done.err == ""
    return {check["name"]: check for check in json.loads(done.out)["checks"]}


@pytest.mark.usefixtures("real_kills")
def test_all_is_well() -> None:
    panic = Path("/proc/sys/vm/panic_on_oom").read_text(encoding="ascii")
    require(panic.strip() == "0", "this kernel is set to panic on OOM")
    backend = Backend()
    with Receiver(backend) as receiver:
        env, prefix = {ENDPOINT: receiver.url}, mount_namespace("mount -t bpf none /sys/fs/bpf")
        as_json = run_otel_oom("doctor", "--json", env=env, prefix=prefix)
        on_screen = run_otel_oom("doctor", env=env, prefix=prefix)
    assert (as_json.code, on_screen.code, on_screen.err) == (0, 0, "")
    report = json.loads(as_json.out)
    assert (report["version"], report["ok"]) == (__version__, True)
    assert {"hook", "BTF", "libbpf", "bpffs", "logs endpoint", "traces endpoint"} <= set(
        checks(as_json)
    )
    assert [f for f in report["checks"] if f["state"] != "ok" or f["advice"]] == []
    lines = [f"✓ {f['name']}: {f['detail']}" for f in report["checks"]]
    assert on_screen.out.splitlines()[: len(lines)] == lines
    assert "Next victims, if the host ran out of memory now" in on_screen.out
    assert {"pid", "oom_score", "cgroup"} <= report["prediction"]["victims"][0].keys()
    assert (backend.logs, backend.spans) == ([], [])


@pytest.mark.root
def test_a_missing_bpffs_is_a_warning() -> None:
    done = run_otel_oom(
        "doctor", "--json", prefix=mount_namespace("mount -t tmpfs none /sys/fs/bpf")
    )
    bpffs = checks(done)["bpffs"]
    assert bpffs["state"] == "warn"
    assert "mount -t bpf bpf /sys/fs/bpf" in bpffs["advice"]


@pytest.mark.root
def test_missing_memory_cgroups_are_a_warning() -> None:
    done = run_otel_oom(
        "doctor", "--json", prefix=mount_namespace("mount -t tmpfs none /sys/fs/cgroup")
    )
    memcg = checks(done)["memory cgroups"]
    assert memcg["state"] == "warn"
    assert "Limits and usage of cgroups will be missing" in memcg["advice"]


def test_an_endpoint_that_is_down_is_a_failure() -> None:
    endpoint = f"http://me:s3cret@{LOOPBACK}:{free_port()}"
    done = run_otel_oom("doctor", "--json", env={ENDPOINT: endpoint})
    assert done.code == 1
    for signal in ("logs", "traces"):
        check = checks(done)[f"{signal} endpoint"]
        assert check["state"] == "fail"
        assert "(http/protobuf): " in check["detail"]
        assert "refused" in check["detail"]
        assert ENDPOINT in check["advice"]
    assert "s3cret" not in done.out


def test_an_endpoint_that_rejects_is_a_failure() -> None:
    with Receiver(Backend(lambda: Reply(401))) as receiver:
        done = run_otel_oom("doctor", "--json", env={ENDPOINT: receiver.url})
    assert done.code == 1
    assert "401" in checks(done)["logs endpoint"]["detail"]
    assert "credentials" in checks(done)["logs endpoint"]["advice"]


def test_disabled_sending_is_a_warning() -> None:
    found = checks(run_otel_oom("doctor", "--json", env={"OTEL_SDK_DISABLED": "true"}))
    assert found["settings"]["state"] == "warn"
    assert "OTEL_SDK_DISABLED" in found["settings"]["detail"]
    assert "logs endpoint" not in found


@pytest.mark.usefixtures("real_kills")
def test_a_timeout_in_milliseconds_is_named() -> None:
    """Its unit is guessed, so the finding shows what was understood."""
    with Receiver(lambda _: None) as receiver:
        env = {ENDPOINT: receiver.url, "OTEL_EXPORTER_OTLP_TIMEOUT": "10000"}
        done = run_otel_oom("doctor", "--json", env=env)
    assert "timeout 10 s" in checks(done)["logs endpoint"]["detail"]
    settings = checks(done)["settings"]
    assert settings["state"] == "warn"
    assert settings["detail"].startswith("OTEL_EXPORTER_OTLP_TIMEOUT=10000 is read as milliseconds")


@pytest.mark.slow
def test_each_exporter_of_another_package_is_imported(tmp_path: Path) -> None:
    """One that can't be is a failure, with the reason."""
    group = {"opentelemetry_logs_exporter": "Logs"}
    add_package(tmp_path, "broken", "import nowhere\n", group)
    env = {"PYTHONPATH": str(tmp_path), "OTEL_METRICS_EXPORTER": "none"}
    names = {"OTEL_LOGS_EXPORTER": "broken", "OTEL_TRACES_EXPORTER": "console"}
    done = run_otel_oom("doctor", "--json", env={**env, **names})
    exporters = checks(done)
    assert done.code == 1
    assert exporters["traces exporter"]["state"] == "ok"
    assert "console (opentelemetry-sdk 1." in exporters["traces exporter"]["detail"]
    assert exporters["logs exporter"]["state"] == "fail"
    assert "No module named 'nowhere'" in exporters["logs exporter"]["detail"]
    assert not {"logs endpoint", "traces endpoint"} & exporters.keys()


def test_a_backend_without_metrics_is_a_warning() -> None:
    backend = MetricsBackend(answer=lambda: Reply(404))
    with Receiver(backend) as receiver:
        env = {ENDPOINT: receiver.url}
        found = checks(run_otel_oom("doctor", "--json", env=env))
        off = {**env, "OTEL_METRICS_EXPORTER": "none"}
        without = checks(run_otel_oom("doctor", "--json", env=off))
    assert found["metrics endpoint"]["state"] == "warn"
    assert "OTEL_METRICS_EXPORTER=none" in found["metrics endpoint"]["advice"]
    assert found["logs endpoint"]["state"] == "ok"
    assert without["metrics endpoint"]["state"] == "ok"


def test_a_port_that_nothing_opens_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for signal in ("LOGS", "TRACES"):
        monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "none")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")

    def find_port() -> Check:
        return next(each for each in check_delivery(tmp_path) if each.name == "metrics port")

    with socket.create_server(("127.0.0.1", 0)) as agent:
        port = str(agent.getsockname()[1])
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", port)
        found = find_port()
    assert (found.state, found.detail.partition(",")[0]) == (
        "ok",
        f"Prometheus can scrape localhost:{port}",
    )
    assert find_port().state == "warn"


@pytest.mark.usefixtures("real_kills")
def test_the_selected_source_has_a_reason() -> None:
    best = checks(run_otel_oom("doctor", "--json"))["source"]
    assert (best["state"], best["detail"].partition(",")[0]) == ("ok", "libbpf")
    no_btf = mount_namespace("mount -t tmpfs none /sys/kernel/btf")
    second = checks(run_otel_oom("doctor", "--json", prefix=no_btf))["source"]
    assert second["detail"].startswith(
        "kmsg, because libbpf is unavailable: This kernel has no BTF"
    )


@pytest.mark.root
def test_userspace_oom_daemons_are_named() -> None:
    units = "/run/systemd/system"
    unit = ("mount -t tmpfs none /run", f"mkdir -p {units}", f"touch {units}/earlyoom.service")
    found = checks(run_otel_oom("doctor", "--json", prefix=mount_namespace(*unit)))[
        "userspace OOM daemons"
    ]
    assert (found["state"], "earlyoom" in found["detail"]) == ("ok", True)
    hidden = mount_namespace(*unit, 'mount --bind /dev/null "$(command -v journalctl)"')
    found = checks(run_otel_oom("doctor", "--json", prefix=hidden))["userspace OOM daemons"]
    assert found["state"] == "warn"
    assert "install journalctl" in found["advice"]


@pytest.mark.root
def test_a_service_is_told_of_its_unit() -> None:
    """Each missing right with the line that the unit of `deploy/` has."""
    unit = (REPOSITORY / "deploy/systemd/otel-oom.service").read_text(encoding="utf-8")
    env = {"INVOCATION_ID": "5c1b5a4f", "OTEL_SDK_DISABLED": "true"}
    found = checks(run_otel_oom("doctor", "--json", env=env, prefix=NOBODY))
    (granted,) = re.findall(r"(?m)^AmbientCapabilities=(.+)$", unit)
    missing = [name for name in granted.split() if name in found]
    assert missing == [name for name in granted.split() if name != "CAP_DAC_READ_SEARCH"]
    for name in missing:
        assert found[name]["advice"].startswith(f"In the unit: AmbientCapabilities={name}")
    assert found["hook"]["advice"].startswith("In the unit: AmbientCapabilities=CAP_BPF CAP_PERF")
    assert not any("sudo" in check["advice"] for check in found.values())
