"""What the killers of user space write of a kill: a pure translation of one message.

Sources: systemd ``src/oom/oomd-manager.c`` (of 248 to 260), earlyoom ``kill.c`` (1.2 to 1.9), oomd
``src/oomd/plugins/BaseKillPlugin.cpp`` (0.2 to 0.5 and later). A kill that is only pretended
(``--dryrun``, ``(dry)``) is none, and so is what one of them only considers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otel_oom.capture.userspace.daemons import EARLYOOM, OOMD, SYSTEMD_OOMD
from otel_oom.model.types import Task, UserspaceOomDaemon
from otel_oom.model.units import MIB

_CGROUP_MOUNT: Final = "/sys/fs/cgroup"
_MOST_CHARS: Final = 9000
"""Two paths, and what is around them; a longer message is none of a kill, and slow to be read."""
_MOST_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class ParsedKill:
    """One kill as its killer told it: of a process, ``victim``, or of all in the cgroup ``path``.

    Sizes are in bytes. ``done`` is whether it was told when it was done.
    """

    killer: UserspaceOomDaemon
    victim: Task | None = None
    path: str | None = None
    resident: int | None = None
    usage: int | None = None
    done: bool = True


def parse_message(unit: str, message: str, before: str = "") -> ParsedKill | None:
    """What ``message`` of a killer's ``unit`` tells; ``None`` for whatever is no kill.

    ``before`` is what it said before that, if it is known.
    """
    if unit == EARLYOOM:
        return _earlyoom(message, before)
    read = {SYSTEMD_OOMD: _systemd_oomd, OOMD: _oomd}.get(unit)
    return read(message) if read and len(message) <= _MOST_CHARS else None


_NUMBER: Final = rf"\d{{1,{_MOST_DIGITS}}}"
_PERCENT: Final = rf"{_NUMBER}(?:\.\d{{1,2}})?"

_SYSTEMD: Final = re.compile(
    rf"(?P<done>Killed|Marked) (?P<path>/.{{0,4096}}?)(?: for killing)? due to "
    rf"(?:memory pressure for (?P<memcg>/.*) being (?P<pressure>{_PERCENT})% > "
    rf"(?P<above>{_PERCENT})% for > .* with reclaim activity"
    rf"|(?P<what>memory|swap) used \({_NUMBER}\) / total \({_NUMBER}\)"
    rf"(?: and swap used \({_NUMBER}\) / total \({_NUMBER}\))?"
    rf" being more than (?P<more>{_PERCENT})%)",
    re.DOTALL,
)


def _systemd_oomd(message: str) -> ParsedKill | None:
    """It kills all of a cgroup: one that is ``Marked`` waits for its hooks, since systemd 260."""
    found = _SYSTEMD.fullmatch(message)
    if found is None:
        return None
    what = found["what"]
    return ParsedKill(
        UserspaceOomDaemon(
            "systemd-oomd",
            signal="SIGKILL",
            reason=f"{what}_used" if what else "memory_pressure",
            limit=float(found["above"] or found["more"]),
            pressure=float(found["pressure"]) if found["pressure"] else None,
            memcg=_cgroup(found["memcg"]) if found["memcg"] else None,
        ),
        path=_cgroup(found["path"]),
        done=found["done"] == "Killed",
    )


_EARLYOOM: Final = re.compile(
    rf"sending (?P<signal>SIG[A-Z]{{3,5}}) to process (?P<pid>{_NUMBER}) "
    rf'(?:uid (?P<uid>{_NUMBER}) )?"(?P<comm>.{{0,64}}?)": (?:badness|oom_score) -?{_NUMBER}, '
    rf"(?:oom_score_adj (?P<adj>-?{_NUMBER}), )?VmRSS (?P<rss>-?{_NUMBER}) MiB"
    # Without its end: the journal cuts what is long.
    r'(?:, cmdline ".*)?',
    re.DOTALL,
)
_EARLYOOM_1_2: Final = re.compile(
    rf"Killing process '(?P<comm>.{{0,64}})' with signal (?P<number>9|15), "
    rf"pid: (?P<pid>{_NUMBER}), badness: -?{_NUMBER}, VmRSS: (?P<rss>{_NUMBER}) MiB",
    re.DOTALL,
)
_LOW: Final = re.compile(
    rf"low memory! at or below SIG[A-Z]{{3,5}} limits: mem +(?P<limit>{_PERCENT})%, swap .*"
)
_SIGNALS: Final = {"9": "SIGKILL", "15": "SIGTERM"}


def _earlyoom(message: str, before: str) -> ParsedKill | None:
    """It tells before it sends a signal; whether that killed is another matter.

    At which limit it does so is said in the message before.
    """
    found = _EARLYOOM.fullmatch(message) or _EARLYOOM_1_2.fullmatch(message)
    if found is None or not int(found["pid"]):
        return None
    told: Mapping[str, str | None] = found.groupdict()
    uid, adj = told.get("uid"), told.get("adj")
    victim = Task(
        tgid=int(found["pid"]),
        uid=None if uid is None else int(uid),
        score_adj=None if adj is None else int(adj),
        comm=found["comm"] or None,
    )
    signal = told.get("signal") or _SIGNALS[found["number"]]
    return ParsedKill(
        UserspaceOomDaemon(
            "earlyoom",
            signal=signal,
            reason="memory_available",
            limit=float(low["limit"]) if (low := _LOW.fullmatch(before)) else None,
        ),
        victim=victim,
        # Those that it is told to prefer or to avoid it takes for larger or smaller by 3 GiB.
        resident=int(found["rss"]) * MIB if int(found["rss"]) >= 0 else None,
        done=False,
    )


_OOMD: Final = re.compile(
    # What goes to its own output has the place in its source before it.
    r"(?:\[[^]]{1,256}\] |oomd kill: )?"
    rf"(?P<pressure>{_PERCENT}) {_PERCENT} {_PERCENT} (?P<path>.*) (?P<usage>{_NUMBER}) "
    r"ruleset:\[(?P<rule>.*)\] detectorgroup:\[.*\] killer:(?P<by>[\w:]+) v2",
    re.DOTALL,
)


def _oomd(message: str) -> ParsedKill | None:
    """It kills all of a cgroup, by whichever of the rules that it was given."""
    found = _OOMD.fullmatch(message)
    if found is None:
        return None
    path = _cgroup(f"/{found['path'].lstrip('/')}")
    return ParsedKill(
        UserspaceOomDaemon(
            "oomd",
            signal="SIGKILL",
            pressure=float(found["pressure"]),
            memcg=path,
            rule=f"{found['rule']} ({found['by']})",
        ),
        path=path,
        usage=int(found["usage"]),
    )


def _cgroup(path: str) -> str:
    """A cgroup's path in its hierarchy; some of their messages have where that is mounted."""
    return path.removeprefix(_CGROUP_MOUNT) or "/"
