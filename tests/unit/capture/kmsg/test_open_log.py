"""Which of the two ways to the kernel log is used, and the message where neither is allowed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otel_oom.capture.kmsg import open_log
from otel_oom.capture.kmsg.open_log import open_kernel_log
from otel_oom.capture.kmsg.report_lookup import OomReportIndex
from otel_oom.capture.kmsg.source import KmsgSource
from otel_oom.capture.kmsg.syslog_reader import SyslogReader
from otel_oom.capture.source import CaptureError
from otel_oom.linux import launcher
from otel_oom.linux.launcher import Launcher

_DENIED = PermissionError(1, "Operation not permitted")


@pytest.fixture
def written_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make syslog(2) return a log of one line."""
    module = SyslogReader.__module__
    monkeypatch.setattr(f"{module}.log_buffer_bytes", lambda: 1 << 17)
    monkeypatch.setattr(
        f"{module}.SyslogReader.__init__.__kwdefaults__",
        {"from_start": False, "read_tail": lambda _: b"<6>[    1.000000] x\n"},
    )


@pytest.fixture
def denied_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make syslog(2) fail as without CAP_SYSLOG."""

    def fail() -> int:
        raise _DENIED

    monkeypatch.setattr(f"{SyslogReader.__module__}.log_buffer_bytes", fail)


@pytest.mark.usefixtures("written_log")
def test_syslog_is_used_where_the_device_is_missing(tmp_path: Path) -> None:
    for source in (KmsgSource(tmp_path / "kmsg"), OomReportIndex(tmp_path / "kmsg")):
        with source:
            assert isinstance(source._reader, SyslogReader)  # noqa: SLF001  nothing else shows it


@pytest.mark.usefixtures("written_log")
def test_another_device_of_that_name_is_not_the_log() -> None:
    """Some containers have their console there, or nothing at all."""
    assert isinstance(open_kernel_log(Path(os.devnull)), SyslogReader)


@pytest.mark.usefixtures("denied_log")
@pytest.mark.parametrize(
    ("started_by", "advice"),
    [
        (Launcher.POD, "capabilities: {add: [SYSLOG]}"),
        (Launcher.CONTAINER, "--cap-add=SYSLOG"),
        (Launcher.UNIT, "AmbientCapabilities=CAP_SYSLOG"),
        (Launcher.SHELL, "root (sudo)"),
    ],
)
def test_the_message_has_both_reasons_and_fits_the_place(
    started_by: Launcher, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod is not told of `docker --device`."""
    monkeypatch.setattr(launcher, "current_launcher", lambda: started_by)
    monkeypatch.setattr(open_log, "in_user_namespace", lambda: False)
    with pytest.raises(CaptureError) as raised:
        open_kernel_log(tmp_path / "kmsg")
    message = str(raised.value)
    assert f"{tmp_path / 'kmsg'}: No such file or directory" in message
    assert "syslog(2): Operation not permitted" in message
    assert advice in message
    assert "dmesg_restrict" in message
    assert "--device" not in message
