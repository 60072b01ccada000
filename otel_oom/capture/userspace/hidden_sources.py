"""Logs of the host that a container does not have, with what is not captured without them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.capture.kmsg.reader import DEVICE
from otel_oom.capture.userspace.daemons import (
    SYSTEMD_OOMD,
    UNIT_FOLDERS,
    format_names,
    installed_daemons,
    is_talos,
)
from otel_oom.linux.containers.bundle_dirs import find_init_root
from otel_oom.linux.launcher import current_launcher, grant_device, grant_path
from otel_oom.linux.systemd.bus_listener import SYSTEM_BUS

_LOG = logging.getLogger(__name__)

_JOURNALS: Final = (Path("/var/log/journal"), Path("/run/log/journal"))
_BUS: Final = "the host's D-Bus"
_RULE_CGROUP: Final = "the cgroup that a rule of systemd-oomd killed"
_ANY: Final = "userspace OOM daemons"


class HiddenSource(Struct, frozen=True):
    """A log of the host that is missing, the kills that it has, and how to hand it in.

    ``certain``: the host has what writes it; else the host's files are not visible.
    """

    log: str
    kills: str
    advice: str
    certain: bool = True


def list_hidden_sources(
    root: Path = Path("/"), proc: Path = Path("/proc"), cmdline: Path = Path("/proc/cmdline")
) -> tuple[HiddenSource, ...]:
    """Return the logs that this container lacks; none on a host itself."""
    if not current_launcher().in_container:
        return ()
    return tuple(_find_hidden(root, proc, cmdline))


def log_hidden_sources() -> None:
    """Log which kills of the host a container does not get, in one message."""
    # The connection to the bus is logged where it fails.
    hidden = [source for source in list_hidden_sources() if source.log != _BUS]
    if not hidden:
        return
    certain = any(source.certain for source in hidden)
    _LOG.log(
        logging.WARNING if certain else logging.INFO,
        "Userspace OOM daemons: not captured in this container: %s",
        " ".join(describe_source(source) for source in hidden),
    )


def describe_source(source: HiddenSource) -> str:
    """Return what is missing, and how to hand it in."""
    return f"{source.kills}, without {source.log}. {source.advice}."


def _find_hidden(root: Path, proc: Path, cmdline: Path) -> Iterator[HiddenSource]:
    own = installed_daemons(_below(root, UNIT_FOLDERS))
    of_host = _find_host_daemons(proc)
    has_journal = any(folder.exists() for folder in _below(root, _JOURNALS))
    lacking = [unit for unit in of_host or () if unit not in own]
    if of_host is None and not own and not has_journal:
        kills = f"kills by {_ANY} of the host, if it has any"
        yield HiddenSource("its journal", kills, journal_advice(), certain=False)
    elif lacking or (own and not has_journal):
        kills = f"kills by {format_names(lacking or own)} of the host"
        yield HiddenSource("its journal", kills, journal_advice())
    elif SYSTEMD_OOMD in own and not _below(root, [SYSTEM_BUS])[0].exists():
        yield HiddenSource(_BUS, _RULE_CGROUP, _grant_bus(), certain=False)
    if is_talos(cmdline) and not os.access(_below(root, [DEVICE])[0], os.R_OK):
        kills = "kills by the OOM controller of Talos"
        yield HiddenSource(str(DEVICE), kills, grant_device(DEVICE))


def _find_host_daemons(proc: Path) -> tuple[str, ...] | None:
    """Return the host's daemons; ``None`` where its files are not visible."""
    host = find_init_root(proc)
    if host == Path("/"):
        return None
    with suppress(PermissionError):
        return installed_daemons(_below(host, UNIT_FOLDERS))
    return None


def _below(root: Path, paths: Sequence[Path]) -> list[Path]:
    return [root / str(path).lstrip("/") for path in paths]


def bus_advice() -> str:
    """Return what is less exact without the system bus, and how a container gets it."""
    loss = "a rule of systemd-oomd has the cgroup that the journal lists last"
    return f"{loss}. {_grant_bus()}" if current_launcher().in_container else loss


def _grant_bus() -> str:
    return f"{grant_path(SYSTEM_BUS.parent)}; by it, a process with uid 0 can control systemd"


def journal_advice() -> str:
    """Return how a container gets the host's journal."""
    paths = ("/usr/lib/systemd/system", "/etc/systemd/system", "/var/log", "/run/log")
    return (
        "Their journal is on the host (chart: userspaceDaemons=true). "
        f"{'. '.join(grant_path(Path(path)) for path in paths)}. journalctl must be installed"
    )
