"""Parse the messages in which userspace OOM daemons report a kill.

Sources: systemd ``src/oom/oomd-manager.c`` (of 248 to 260), earlyoom ``kill.c`` (0.4 to 1.9), oomd
``src/oomd/plugins/BaseKillPlugin.cpp`` (0.2 to 0.5 and later). A dry run (``--dryrun``, ``(dry)``)
is no kill, nor is a candidate that the daemon only considers.

earlyoom's message has the name and the command line of the victim, which may contain newlines; what
follows one can be an entry of the journal of its own. So an entry is a claim, until a death
confirms it (``source``). A path of a cgroup has no newline (cgroup_mkdir() rejects it).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from otel_oom.capture.userspace.daemons import EARLYOOM, OOMD, SYSTEMD_OOMD
from otel_oom.model.types import Task, UserspaceOomDaemon
from otel_oom.model.units import MIB

_CGROUP_MOUNT: Final = "/sys/fs/cgroup"
_MAX_CHARS: Final = 9000
"""Longest kill message: two paths plus text. Longer ones are skipped."""
_MAX_DIGITS: Final = 18


class ParsedKill(Struct, frozen=True):
    """A kill of a process, ``victim``, or of all processes in the cgroup ``path``.

    ``original`` is the message without the victim's command line. Sizes are in bytes.
    ``completed``: the message follows the kill; others precede it.
    """

    killer: UserspaceOomDaemon
    original: str = ""
    victim: Task | None = None
    path: str | None = None
    resident: int | None = None
    usage: int | None = None
    completed: bool = True


def parse_message(unit: str, message: str, previous: str = "") -> ParsedKill | None:
    """Parse a ``message`` of a daemon's ``unit``; return ``None`` if it reports no kill.

    ``previous`` is the unit's message before it, if there is one.
    """
    if unit == EARLYOOM:
        return _parse_earlyoom(message, previous)
    parse = {SYSTEMD_OOMD: _parse_systemd_oomd, OOMD: _parse_oomd}.get(unit)
    return parse(message) if parse and len(message) <= _MAX_CHARS else None


_NUMBER: Final = rf"\d{{1,{_MAX_DIGITS}}}"
_PERCENT: Final = rf"{_NUMBER}(?:\.\d{{1,2}})?"

_SYSTEMD: Final = re.compile(
    rf"(?P<done>Killed|Marked) (?P<path>/.{{0,4096}}?)(?: for killing)? due to "
    rf"(?:memory pressure for (?P<memcg>/.*) being (?P<pressure>{_PERCENT})% > "
    rf"(?P<above>{_PERCENT})% for > .* with reclaim activity"
    rf"|(?P<what>memory|swap) used \({_NUMBER}\) / total \({_NUMBER}\)"
    rf"(?: and swap used \({_NUMBER}\) / total \({_NUMBER}\))?"
    rf" being more than (?P<more>{_PERCENT})%)"
)


def _parse_systemd_oomd(message: str) -> ParsedKill | None:
    """Parse a kill of a cgroup; one that is ``Marked`` waits for its hooks, since systemd 260."""
    match = _SYSTEMD.fullmatch(message)
    if match is None:
        return None
    resource = match["what"]
    return ParsedKill(
        UserspaceOomDaemon(
            "systemd-oomd",
            signal="SIGKILL",
            reason=f"{resource}_used" if resource else "memory_pressure",
            limit=float(match["above"] or match["more"]),
            pressure=float(match["pressure"]) if match["pressure"] else None,
            memcg=_hierarchy_path(match["memcg"]) if match["memcg"] else None,
        ),
        original=message,
        path=_hierarchy_path(match["path"]),
        completed=match["done"] == "Killed",
    )


_EARLYOOM_HEAD: Final = (
    rf"sending (?P<signal>SIG[A-Z]{{3,5}}) to process (?P<pid>{_NUMBER}) "
    rf'(?:uid (?P<uid>{_NUMBER}) )?"'
)
_EARLYOOM: Final = re.compile(
    rf'(?P<original>{_EARLYOOM_HEAD}(?P<comm>.{{0,64}}?)": (?:badness|oom_score) -?{_NUMBER}, '
    rf"(?:oom_score_adj (?P<adj>-?{_NUMBER}), )?VmRSS (?P<rss>-?{_NUMBER}) MiB)"
    # The end may be missing: the journal truncates long messages.
    r'(?:, cmdline "(?P<command>.*))?',
    re.DOTALL,
)
_EARLYOOM_CUT: Final = re.compile(
    rf"(?P<original>{_EARLYOOM_HEAD}(?P<comm>(?:\\x[0-9a-f]{{2}}|.){{0,15}}))"
)
"""The first line of a message whose victim has a newline in its name."""
_EARLYOOM_1_2: Final = re.compile(
    rf"(?P<original>Killing process '(?P<comm>.{{0,64}})' with signal (?P<number>9|15), "
    rf"pid: (?P<pid>{_NUMBER}), badness: -?{_NUMBER}, VmRSS: (?P<rss>{_NUMBER}) MiB)",
    re.DOTALL,
)
_EARLYOOM_1_3_RC: Final = re.compile(
    rf'(?P<original>killing process (?P<pid>{_NUMBER}) "(?P<comm>.{{0,64}})" with signal '
    rf"(?P<number>9|15): badness -?{_NUMBER}, VmRSS (?P<rss>{_NUMBER}) MiB)",
    re.DOTALL,
)
_EARLYOOM_1_1: Final = re.compile(
    rf"(?P<original>Killing process: (?P<comm>.{{0,64}}), pid: (?P<pid>{_NUMBER}), "
    rf"badness: -?{_NUMBER}, VmRSS: (?P<rss>{_NUMBER}) MiB)",
    re.DOTALL,
)
_EARLYOOM_1_0: Final = re.compile(
    rf"(?P<original>Killing process (?P<pid>{_NUMBER}) (?P<comm>[^ ].{{0,63}}))", re.DOTALL
)
_EARLYOOM_FORMATS: Final = (
    *(_EARLYOOM, _EARLYOOM_1_3_RC, _EARLYOOM_1_2, _EARLYOOM_1_1, _EARLYOOM_1_0, _EARLYOOM_CUT),
)
_REVOKED: Final = (
    "dryrun, not actually sending",
    # Its other reason is that the process was still there after 10 s.
    "kill failed: Operation not permitted",
    "kill failed: No such process",
)
_KERNEL_KILL: Final = re.compile(
    r"trigger_kernel_oom: successfully triggered kernel OOM killer|Invoking oom killer: done"
)
_LOW: Final = re.compile(
    r"low memory! at or below SIG(?:TERM|KILL) limits:? "
    rf"\(?mem:? +(?P<limit>{_PERCENT}) ?%, swap.*",
    re.IGNORECASE,
)
_SIGNALS: Final = {"9": "SIGKILL", "15": "SIGTERM"}


def _parse_earlyoom(message: str, previous: str) -> ParsedKill | None:
    """Parse a kill that is logged before the signal is sent: the process may survive it.

    The limit is in the previous message.
    """
    matches = (format_.fullmatch(message) for format_ in _EARLYOOM_FORMATS)
    match = next(filter(None, matches), None)
    if match is None or not int(match["pid"]):
        return None
    fields: Mapping[str, str | None] = match.groupdict()
    uid, adj, command = fields.get("uid"), fields.get("adj"), fields.get("command")
    # --prefer and --avoid add and subtract 3 GiB: a negative size is unknown.
    resident = int(fields.get("rss") or -1)
    victim = Task(
        tgid=int(match["pid"]),
        uid=None if uid is None else int(uid),
        score_adj=None if adj is None else int(adj),
        comm=match["comm"] or None,
        command=None if command is None else tuple(command.removesuffix('"').split()),
    )
    # The oldest ones send SIGKILL alone.
    signal = fields.get("signal") or _SIGNALS[fields.get("number") or "9"]
    return ParsedKill(
        UserspaceOomDaemon(
            "earlyoom",
            signal=signal,
            reason="memory_available",
            limit=_parse_limit(previous),
        ),
        original=match["original"],
        victim=victim,
        resident=resident * MIB if resident >= 0 else None,
        completed=False,
    )


_SYSTEMD_CUT: Final = re.compile(
    r"(?P<done>Killed|Marked) (?P<path>/.{0,4096}?)(?: for killing)? due to (?P<what>[a-z]* ?.?).*>"
)
_EARLYOOM_CHOPPED: Final = re.compile(
    rf'(?P<original>{_EARLYOOM_HEAD}(?P<comm>.{{1,64}}?)(?P<end>":.*)?>)'
)
_CUT_REASONS: Final = (
    ("memory p", "memory_pressure"),
    ("memory u", "memory_used"),
    ("swap u", "swap_used"),
)


def parse_cut_message(unit: str, message: str) -> ParsedKill | None:
    """Parse a kill whose message is cut at the width of a terminal, with a mark at the end.

    Unlike the journal, a text file has such lines.
    """
    if unit == SYSTEMD_OOMD and (match := _SYSTEMD_CUT.fullmatch(message)):
        reasons = (reason for begin, reason in _CUT_REASONS if match["what"] == begin)
        killer = UserspaceOomDaemon("systemd-oomd", signal="SIGKILL", reason=next(reasons, None))
        path, is_done = _hierarchy_path(match["path"]), match["done"] == "Killed"
        return ParsedKill(killer, original=message, path=path, completed=is_done)
    if unit != EARLYOOM or any(form.fullmatch(message) for form in _EARLYOOM_FORMATS[:-1]):
        return None
    if not (match := _EARLYOOM_CHOPPED.fullmatch(message)) or not int(match["pid"]):
        return None
    return ParsedKill(
        UserspaceOomDaemon("earlyoom", signal=match["signal"], reason="memory_available"),
        original=message,
        victim=Task(
            tgid=int(match["pid"]),
            uid=int(match["uid"]) if match["uid"] else None,
            comm=match["comm"] if match["end"] else f"{match['comm']}…",
        ),
        completed=False,
    )


def _parse_limit(message: str) -> float | None:
    match = _LOW.fullmatch(message)
    return float(match["limit"]) if match else None


def revokes_kill(message: str) -> bool:
    """Return true if earlyoom sent no signal after all, or only simulates."""
    return message.startswith(_REVOKED)


def parse_kernel_kill(message: str, previous: str = "") -> UserspaceOomDaemon | None:
    """Return earlyoom if it says that it had the kernel choose a victim.

    By ``--kernel-oom`` (since 1.9), or by ``-k`` (until 1.1).
    """
    if not _KERNEL_KILL.fullmatch(message):
        return None
    return build_requester(EARLYOOM, _parse_limit(previous))


def build_requester(unit: str, limit: float | None = None) -> UserspaceOomDaemon:
    """Return the daemon of a ``unit`` as the one that had the kernel choose a victim."""
    reason = "memory_available" if unit == EARLYOOM else None
    name = unit.removesuffix(".service")
    return UserspaceOomDaemon(name, reason=reason, limit=limit, rule=_SYSRQ)


_SYSRQ: Final = "kernel OOM killer (sysrq f)"

_OOMD: Final = re.compile(
    # Messages to its own output begin with their place in its source.
    r"(?:\[[^]]{1,256}\] |oomd kill: )?"
    rf"(?P<pressure>{_PERCENT}) {_PERCENT} {_PERCENT} (?P<path>.*) (?P<usage>{_NUMBER}) "
    r"ruleset:\[(?P<rule>.*)\] detectorgroup:\[.*\] killer:(?P<by>[\w:]+) v2"
)


def _parse_oomd(message: str) -> ParsedKill | None:
    """Parse a kill of a cgroup by one of the configured rules."""
    match = _OOMD.fullmatch(message)
    if match is None:
        return None
    path = _hierarchy_path(f"/{match['path'].lstrip('/')}")
    return ParsedKill(
        UserspaceOomDaemon(
            "oomd",
            signal="SIGKILL",
            pressure=float(match["pressure"]),
            memcg=path,
            rule=f"{match['rule']} ({match['by']})",
        ),
        original=message,
        path=path,
        usage=int(match["usage"]),
    )


def _hierarchy_path(path: str) -> str:
    """Return a cgroup's path in its hierarchy; some messages prepend the mount point."""
    return path.removeprefix(_CGROUP_MOUNT) or "/"
