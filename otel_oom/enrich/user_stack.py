"""Symbols of user stacks: from frames of build id and offset to names of functions.

Runs after the kill is on disk. The files are read by another process, within bounds.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from otel_oom.enrich.symbols.child import TIMEOUT_S, SymbolChild
from otel_oom.enrich.symbols.request import (
    MAX_FRAMES,
    NO_SYMBOL,
    FrameKey,
    FrameSymbol,
    SymbolRequest,
    pad_build_id,
)
from otel_oom.enrich.symbols.time_budget import TimeBudget
from otel_oom.model.text import decode_bytes, escape_nonprintable
from otel_oom.model.types import UserFrame

_LOG = logging.getLogger(__name__)

_MAX_ROOTS: Final = 4
_MAX_CACHED_LINES: Final = 512
_MAX_NAME_BYTES: Final = 256
_RETRY_S: Final = 60.0
"""How long a frame without a file, or whose process was killed, is not looked up again."""


class _Search(NamedTuple):
    """Where a frame was searched besides the host's libraries."""

    executables: tuple[str, ...]
    has_root: bool


class _CachedLine(NamedTuple):
    """The line of a frame; empty without a file, after the ``search``, until ``expires_s``."""

    line: str
    expires_s: float = math.inf
    search: _Search | None = None


class UserSymbolizer:
    """Names of user frames.

    Holds no file open and no symbol table. Not safe for use by several threads.
    """

    def __init__(self, root: Path = Path("/"), timeout_s: float = TIMEOUT_S) -> None:
        """Search the libraries below ``root``; a stack takes ``timeout_s`` at most."""
        self._root = root
        self._timeout_s = timeout_s
        self._child = SymbolChild()
        self._budget = TimeBudget()
        self._lines: dict[tuple[str, FrameKey], _CachedLine] = {}
        """By holder, who can give a file any build id; the least recently used first."""
        self._failed = 0
        self._logged_s = -math.inf

    def symbolize(
        self,
        frames: Sequence[UserFrame],
        executables: Iterable[str] = (),
        roots: Iterable[Path] = (),
        holder: str = "",
    ) -> tuple[str, ...]:
        """Return one line for each of ``frames``, which go from the innermost outwards.

        ``malloc+0x1d4 (libc.so.6)`` is a function, the distance in bytes from its start, and its
        file; ``libc.so.6+0x2a1b3`` a file and an offset in it, without a symbol;
        ``93ac61…+0x2a1b3`` a build id without a file. C++ and Rust names are not demangled.

        All frames but the first are return addresses, behind the call: each is looked up one
        byte before, because a call at the very end of a function returns into the next one.

        Args:
            frames: at most some tens; those of one file take one pass over its symbols.
            executables: paths of programs that may be among the files, as they see them.
            roots: other roots to search first, such as ``/proc/PID/root`` of a container.
            holder: the owner of the files and of the time that they take (:func:`.find_holder`).
        """
        keys = [_key(frame, behind_call=index > 0) for index, frame in enumerate(frames)]
        # The process may be gone, and its root with it. Not exists(), which can hang.
        paths = tuple(str(root) for root in roots if os.path.lexists(root))[:_MAX_ROOTS]
        search = _Search(tuple(executables), bool(paths))
        unknown = dict.fromkeys(
            key for key in keys if key and not self._is_cached(holder, key, search)
        )
        if unknown:
            request = SymbolRequest(
                tuple(unknown)[:MAX_FRAMES], search.executables, (*paths, str(self._root))
            )
            self._look_up(holder, request, search)
        lines = (self._lines.get((holder, key)) if key else None for key in keys)
        result = tuple(
            cached.line if cached and cached.line else f"{frame.build_id}+{frame.offset:#x}"
            for frame, cached in zip(frames, lines, strict=True)
        )
        while len(self._lines) > _MAX_CACHED_LINES:
            del self._lines[next(iter(self._lines))]
        return result

    def _is_cached(self, holder: str, key: FrameKey, search: _Search) -> bool:
        cached = self._lines.pop((holder, key), None)
        if (
            cached is None
            or cached.expires_s < time.monotonic()
            or cached.search not in (None, search)
        ):
            return False
        self._lines[holder, key] = cached
        return True

    def _look_up(self, holder: str, request: SymbolRequest, search: _Search) -> None:
        begin_s = time.monotonic()
        if not self._budget.allows(holder):
            self._count_failure("their share of time is spent")
            return
        search_done: _Search | None = search
        symbols = self._child.run(request, self._timeout_s)
        end_s = time.monotonic()
        self._budget.spend(holder, end_s - begin_s)
        if symbols is None:
            self._count_failure(f"killed or failed after {end_s - begin_s:.1f} s")
            symbols, search_done = [NO_SYMBOL] * len(request.frames), None
        for key, symbol in zip(request.frames, symbols, strict=True):
            self._lines[holder, key] = (
                _CachedLine(_format(key, symbol))
                if symbol.file
                else _CachedLine("", end_s + _RETRY_S, search_done)
            )

    def _count_failure(self, reason: str) -> None:
        """Log at most once a minute: tenants can cause as many as they like."""
        self._failed += 1
        if time.monotonic() - self._logged_s >= _RETRY_S:
            self._logged_s = time.monotonic()
            _LOG.warning("Symbols: left out: %s stacks=%d", reason, self._failed)


def _format(key: FrameKey, symbol: FrameSymbol) -> str:
    file = _printable(symbol.file)
    if not symbol.function:
        return f"{file}+{key.offset:#x}"
    return f"{_printable(symbol.function)}+{symbol.distance:#x} ({file})"


def _printable(raw: bytes) -> str:
    return escape_nonprintable(decode_bytes(raw[:_MAX_NAME_BYTES]))


def _key(frame: UserFrame, *, behind_call: bool) -> FrameKey | None:
    """Return the key of a frame; ``None`` if its build id is invalid."""
    try:
        return FrameKey(pad_build_id(bytes.fromhex(frame.build_id)), frame.offset, behind_call)
    except ValueError:
        return None
