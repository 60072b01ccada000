"""What a container does not see of the host's userspace OOM daemons, and how it gets that."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from otel_oom.capture.userspace import hidden_sources
from otel_oom.capture.userspace.hidden_sources import list_hidden_sources, log_hidden_sources
from otel_oom.linux import launcher
from otel_oom.linux.launcher import Launcher

UNITS = Path("usr/lib/systemd/system")


@pytest.fixture(params=[Launcher.POD, Launcher.CONTAINER])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    """Return what starts this process: a pod's manifest, or the command of a container."""
    for module in (launcher, hidden_sources):
        monkeypatch.setattr(module, "current_launcher", lambda: request.param)
    kind: Launcher = request.param
    return kind


class Container:
    """The root directory of a container, and /proc with or without the host's init."""

    def __init__(self, folder: Path, *, sees_host: bool) -> None:
        self.root, self.proc = folder / "container", folder / "proc"
        self.host = self.proc / "1/root"
        for pid in ("self", "1"):
            (self.proc / pid / "ns").mkdir(parents=True)
        own, of_init = (self.proc / pid / "ns/mnt" for pid in ("self", "1"))
        own.touch()
        # A namespace is known by the inode of its file.
        of_init.touch() if sees_host else of_init.hardlink_to(own)
        self.root.mkdir()
        self.cmdline = folder / "cmdline"
        self.cmdline.write_text("quiet")

    def add(self, *units: str, host: bool = False) -> None:
        """Install daemons in the host, or mount their units into the container."""
        folder = (self.host if host else self.root) / UNITS
        folder.mkdir(parents=True, exist_ok=True)
        for unit in units:
            (folder / f"{unit}.service").touch()

    def make(self, folder: str) -> None:
        """Make a folder in the container."""
        (self.root / folder).mkdir(parents=True)

    def texts(self) -> list[str]:
        """Return what is missing."""
        found = list_hidden_sources(self.root, self.proc, self.cmdline)
        return [f"{source.kills}, without {source.log}: {source.advice}" for source in found]


def test_a_journal_of_the_host_is_named_with_its_daemons(tmp_path: Path, kind: Launcher) -> None:
    container = Container(tmp_path, sees_host=True)
    container.add("systemd-oomd", "earlyoom", host=True)
    (text,) = container.texts()
    assert text.startswith("kills by earlyoom, systemd-oomd of the host, without its journal: ")
    option = {
        Launcher.POD: "volumes: [{name: log, hostPath: {path: /var/log}}]",
        Launcher.CONTAINER: "--volume=/var/log:/var/log:ro",
    }[kind]
    assert option in text


@pytest.mark.usefixtures("kind")
def test_units_without_a_journal_are_not_enough(tmp_path: Path) -> None:
    container = Container(tmp_path, sees_host=True)
    container.add("earlyoom", host=True)
    container.add("earlyoom")
    assert len(container.texts()) == 1
    container.make("run/log/journal")
    assert container.texts() == []


@pytest.mark.usefixtures("kind")
def test_a_host_that_is_not_visible_may_have_daemons(tmp_path: Path) -> None:
    """One sentence that does not claim it; none with the journal, nor on a host without any."""
    container = Container(tmp_path, sees_host=False)
    (text,) = container.texts()
    assert "of the host, if it has any, without its journal" in text
    container.make("var/log/journal")
    assert container.texts() == []
    (tmp_path / "other").mkdir()
    without = Container(tmp_path / "other", sees_host=True)
    without.add(host=True)
    assert without.texts() == []


def test_the_bus_of_the_host_has_the_cgroup_of_a_rule(tmp_path: Path, kind: Launcher) -> None:
    container = Container(tmp_path, sees_host=True)
    for host in (True, False):
        container.add("systemd-oomd", host=host)
    container.make("var/log/journal")
    (text,) = container.texts()
    assert text.startswith(
        "the cgroup that a rule of systemd-oomd killed, without the host's D-Bus"
    )
    option = {
        Launcher.POD: "hostPath: {path: /run/dbus}",
        Launcher.CONTAINER: "--volume=/run/dbus:/run/dbus:ro",
    }[kind]
    assert option in text
    container.make("run/dbus/system_bus_socket")
    assert container.texts() == []


def test_talos_logs_to_the_kernels_log(tmp_path: Path, kind: Launcher) -> None:
    container = Container(tmp_path, sees_host=True)
    container.add(host=True)
    assert container.texts() == []
    container.cmdline.write_text("talos.platform=metal quiet")
    (text,) = container.texts()
    assert text.startswith("kills by the OOM controller of Talos, without /dev/kmsg: ")
    option = {
        Launcher.POD: "securityContext: {privileged: true}",
        Launcher.CONTAINER: "--device=/dev/kmsg:/dev/kmsg:r",
    }[kind]
    assert option in text
    (container.root / "dev").mkdir()
    (container.root / "dev/kmsg").touch()
    assert container.texts() == []


def test_a_host_itself_lacks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden_sources, "current_launcher", lambda: Launcher.UNIT)
    container = Container(tmp_path, sees_host=True)
    container.add("systemd-oomd", host=True)
    assert container.texts() == []


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("certain", [True, False])
def test_one_message_says_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, certain: bool
) -> None:
    """As a warning only if the host has such a daemon."""
    sources = [
        hidden_sources.HiddenSource("its journal", "kills by a", "Mount it", certain=certain),
        hidden_sources.HiddenSource("/dev/kmsg", "kills by b", "Add it", certain=False),
    ]
    monkeypatch.setattr(hidden_sources, "list_hidden_sources", lambda: tuple(sources))
    with caplog.at_level(logging.INFO, hidden_sources.__name__):
        log_hidden_sources()
    (record,) = caplog.records
    assert record.levelno == (logging.WARNING if certain else logging.INFO)
    assert record.getMessage().endswith(
        "kills by a, without its journal. Mount it. kills by b, without /dev/kmsg. Add it."
    )
    monkeypatch.setattr(hidden_sources, "list_hidden_sources", lambda: ())
    log_hidden_sources()
    assert len(caplog.records) == 1
