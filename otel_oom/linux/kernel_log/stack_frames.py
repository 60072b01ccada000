"""Parse a frame of a kernel stack, as show_stack() of each architecture prints it.

- ``oom_kill_process+0x1a2/0x300 [module]``: x86 since 4.10, arm64 since 4.15;
- ``[<ffffffff8116cdde>] oom_kill_process+0x24e/0x3b0``: older ones, and riscv, loongarch, mips,
  s390, parisc; ``[0000000000603744] …`` on sparc64;
- ``[c0000003f4a7f9b0] [c000000000379b5c] .oom_kill_process+0x21c/0x220``: powerpc, with the stack
  pointer; a dot precedes functions of the first ABI;
- ``dump_header from oom_kill_process+0x23c/0x248``: 32-bit arm, which names callee and caller;
  before 5.19 ``[<c033f134>] (dump_header) from [<c033e4ac>] (oom_kill_process+0x358/0x3a8)``.

A blank may precede or follow; some syslog daemons strip it.
"""

from __future__ import annotations

from typing import Final

from otel_oom.linux.kernel_log.line_types import compile_pattern

_NAME: Final = r"\.?([\w$][\w.$]{0,119}"
_OFFSET: Final = r"\+0x[0-9a-f]{1,8})/0x[0-9a-f]{1,8}"
_MODULE: Final = r" \[([\w-]{1,64})(?: [0-9a-f]{1,64})?\]"
_ADDRESS: Final = r"\[<?[0-9a-f]{8,16}>?\] {1,2}"
_FRAME: Final = compile_pattern(
    rf"[ \t]{{0,8}}(?:</?[A-Z]{{2,8}}> {{1,4}})?(?:{_ADDRESS}){{0,2}}"
    # Before 2.6.25 the module precedes.
    rf"(?::([\w-]{{1,64}}):)?{_NAME}{_OFFSET}(?:{_MODULE})?(?: \([A-Z]{{1,8}}\))? {{0,16}}"
)
_CALLER: Final = compile_pattern(
    rf" {{0,4}}(?:{_ADDRESS}\()?[\w.$]{{1,120}}(?:\+0x[0-9a-f]{{1,8}}/0x[0-9a-f]{{1,8}})?"
    rf"(?: \[[\w-]{{1,64}}\])?\)? from (?:{_ADDRESS}\()?{_NAME}{_OFFSET}(?:{_MODULE})?\)? {{0,16}}"
)
_FROM: Final = " from "


def parse_frame(text: str) -> str | None:
    """Return ``function+0x1a2``, and its module, of a line of a stack; ``None`` for others.

    A frame is uncertain if its address was only found on the stack, and is then no frame here. It
    has a question mark before it, ``(unreliable)`` behind it on powerpc, parentheses on s390.
    """
    if _FROM in text:
        match = _CALLER.fullmatch(text)
        return match and _format_frame(match[1], match[2])
    match = _FRAME.fullmatch(text)
    return match and _format_frame(match[2], match[1] or match[3])


def _format_frame(function: str, module: str | None) -> str:
    return f"{function} [{module}]" if module else function
