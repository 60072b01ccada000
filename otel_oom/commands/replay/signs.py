"""Words that are signs of a kill, searched for as one tree.

Each begins with a letter that is rare at the beginning of words: the search skips text without a
sign quickly. The tree is twice as fast as a list of alternatives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

BEGINS: Final = frozenset(
    {
        # invoked oom-killer:
        b"killer: ",
        # In JSON, text that is not UTF-8 is an array of numbers: only parsing shows its content.
        *(b'MESSAGE": [', b'MESSAGE":[', b'MESSAGE" : [', b'MESSAGE" :['),
        # The stack follows a panic: … panic_on_oom is enabled; System is deadlocked on memory
        *(b"_on_oom is enabled", b"_on_oom is selected", b"ked on memory"),
        b"Kernel panic - not syncing: Out of memory",
    }
)
"""Signs in the first line of a report."""
ENDS: Final = frozenset(
    {
        *(b"Killed process ", b"killed process ", b"Kill process ", b"kill process "),
        *(b"killing process ", b"OOM victim "),
        # no killable processes
        b"killable processes",
    }
)
"""Signs in the last line of a report."""
CHOICE: Final = b"kill:"
"""The sign of the line that names the chosen process."""
WINDOWS: Final = {
    # earlyoom (SIGTERM, SIGKILL): it says in the next message that it failed, or only simulates.
    **dict.fromkeys((b"M to process ", b"L to process "), 32),
    # The cgroup that a rule of systemd-oomd selects is the last of the candidates behind it.
    b"Rule '": 256,
    # nohang describes the victim, and names the signal last.
    **dict.fromkeys((b"MemAvailable [", b"Victim status ("), 64),
    # Talos: the next record has the processes.
    b"KILL to cgroup ": 64,
    # Android's: the size is in the next line.
    **dict.fromkeys((b"Killing '", b"killer: Killing '"), 8),
}
"""How many lines behind a message of a daemon may belong to it, with those of other programs."""
_OTHERS: Final = frozenset(
    {
        # oom-kill:constraint=…; … memory.oom.group set; oom_reaper: …
        *(CHOICE, b"killed due to memory", b"_reaper: ", b"Memory limit reached"),
        b"killed as a result of limit",
        # Start of a boot: by the kernel, and by journalctl.
        *(b"Linux version ", b"Boot ", b"Reboot "),
        # earlyoom; its limits; when it has the kernel choose
        *(b"VmRSS", b"Killing process ", b"M limits: mem", b"L limits: mem", b"Low Memory! "),
        *(b"OOM killer", b"killer: done"),
        # systemd-oomd; oomd; nohang
        *(b"Killed /", b"Marked /", b"killer:", b"M to the victim", b"L to the victim"),
        # What systemd says of a unit: systemd-oomd killed 3 process(es)
        *(b"killed %d" % digit for digit in range(1, 10)),
        # Android's driver and its daemon
        *(b"kill to ", b"killer: send", b"Kill '", b"killer: Kill '"),
    }
)
_END: Final = -1


class _Node(dict[int, "_Node"]):
    """The nodes that may follow, by their bytes; ``_END`` where a word ends."""


def compile_words(words: Iterable[bytes]) -> re.Pattern[bytes]:
    """Compile a search for any of some words; it finds the longest that begins at a place."""
    tree = _Node()
    for word in sorted(words):
        node = tree
        for byte in word:
            node = node.setdefault(byte, _Node())
        node[_END] = _Node()
    return re.compile(b"|".join(_write_branches(tree)))


def _write_branches(node: _Node) -> list[bytes]:
    branches = []
    for byte, child in node.items():
        if byte == _END:
            continue
        rest = _write_branches(child)
        text = b"|".join(rest)
        if len(rest) > 1 or (rest and _END in child):
            text = b"(?:%s)%s" % (text, b"?" if _END in child else b"")
        branches.append(re.escape(bytes([byte])) + text)
    return branches


SIGN: Final = compile_words(BEGINS | ENDS | WINDOWS.keys() | _OTHERS)
