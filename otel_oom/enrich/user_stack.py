"""Symbols of user stacks: from frames of build id and offset to names of functions.

Runs after the kill is on disk. The files are read by another process, within bounds.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
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
_MAX_CACHED_PATHS: Final = 64
_HOST: Final = "host"
"""The scope of lines that all holders share; no holder has this name."""
_SYSTEM_DIRECTORIES: Final = (
    *("/bin/", "/sbin/", "/lib/", "/lib64/"),
    *("/usr/bin/", "/usr/sbin/", "/usr/lib/", "/usr/lib64/", "/usr/libexec/"),
)
"""Directories of the host to which only root writes."""
_MAX_NAME_BYTES: Final = 256
_RETRY_S: Final = 60.0
"""How long a frame without a file, or whose process was killed, is not looked up again."""


class _Search(NamedTuple):
    """Where a frame was searched in its scope."""

    executables: tuple[str, ...]
    has_libraries: bool


class _CachedLine(NamedTuple):
    """The line of a frame; empty without a file, after the ``search``, until ``expires_s``."""

    line: str
    expires_s: float = math.inf
    search: _Search | None = None


class UserSymbolizer:
    """Names of user frames.

    Holds no file open and no symbol table. Not safe for use by several threads.
    """

    def __init__(
        self, root: Path = Path("/"), timeout_s: float = TIMEOUT_S, *, spare_s: float = 0.0
    ) -> None:
        """Search the libraries below ``root``; a stack takes ``timeout_s`` at most.

        With ``spare_s`` a process stays ready for that time after each search.
        """
        self._root = root
        self._timeout_s = timeout_s
        self._child = SymbolChild(spare_s)
        self._budget = TimeBudget()
        self._lines: dict[tuple[str, FrameKey], _CachedLine] = {}
        """By scope: the host, or a holder, who can give a file any build id. Least used first."""
        self._paths: dict[tuple[str, bytes], str] = {}
        """The file of a build id, by scope: a search in it alone takes a fifth of the time."""
        self._spare_s = spare_s
        self._charged = ("", 0.0)
        """The holder of the last search, and the seconds that it was charged for."""
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
        valid, host, named = [key for key in keys if key], str(self._root), tuple(executables)
        # Files of the host are the same for all; a search of them finds no file of a tenant.
        system = tuple(path for path in named if _is_system_path(path))
        request = SymbolRequest((), system, (host,), (host,), host, self._find_owner())
        self._look_up(_HOST, valid, request, holder)
        # The process may be gone, and its root with it. Not exists(), which can hang.
        paths = tuple(str(root) for root in roots if os.path.lexists(root))[:_MAX_ROOTS]
        rest = [key for key in valid if not self._line_of(_HOST, key)]
        if paths or named != system:
            request = SymbolRequest((), named, (*paths, host), paths, host)
            self._look_up(holder, rest, request, holder)
        result = tuple(
            (key and (self._line_of(_HOST, key) or self._line_of(holder, key)))
            or f"{frame.build_id}+{frame.offset:#x}"
            for frame, key in zip(frames, keys, strict=True)
        )
        while len(self._lines) > _MAX_CACHED_LINES:
            del self._lines[next(iter(self._lines))]
        if not self._spare_s:
            self._settle()
        return result

    def end_spare(self) -> float:
        """End the process of the last search, and the spare one if its time is over.

        Return the seconds until then. It need not be called without spare processes.
        """
        self._settle()
        return self._child.end_spare()

    def close(self) -> None:
        """End the processes that are left."""
        self._child.close()

    def _find_owner(self) -> int | None:
        """Return who owns the host's root directory, and so its libraries."""
        with suppress(OSError):
            return self._root.stat().st_uid
        return None

    def _line_of(self, scope: str, key: FrameKey) -> str:
        cached = self._lines.get((scope, key))
        return cached.line if cached else ""

    def _look_up(
        self, scope: str, keys: Sequence[FrameKey], request: SymbolRequest, holder: str
    ) -> None:
        """Look up the frames that are not cached for ``scope``, at the expense of ``holder``."""
        search = _Search(request.executables, bool(request.library_roots))
        unknown = dict.fromkeys(key for key in keys if not self._is_cached(scope, key, search))
        paths = [self._paths.get((scope, key.build_id), "") for key in unknown]
        if unknown and all(paths):
            known_files = request._replace(
                executables=tuple(dict.fromkeys(paths)), library_roots=()
            )
            self._search(scope, [*unknown], known_files, holder)
            # A file may have been replaced since.
            unknown = dict.fromkeys(k for k in unknown if not self._is_cached(scope, k, search))
        if unknown:
            self._search(scope, [*unknown], request, holder)

    def _search(
        self, scope: str, keys: Sequence[FrameKey], request: SymbolRequest, holder: str
    ) -> None:
        """Search the files of a request for frames, and cache what was found."""
        self._settle()
        if not self._budget.allows(holder):
            self._count_failure("their share of time is spent")
            return
        request = request._replace(frames=tuple(keys)[:MAX_FRAMES])
        begin_s = time.monotonic()
        symbols = self._child.run(request, self._timeout_s)
        end_s = time.monotonic()
        self._charged = holder, end_s - begin_s
        self._budget.spend(*self._charged)
        search_done: _Search | None = _Search(request.executables, bool(request.library_roots))
        if symbols is None:
            self._count_failure(f"killed or failed after {end_s - begin_s:.1f} s")
            symbols, search_done = [NO_SYMBOL] * len(request.frames), None
        for key, symbol in zip(request.frames, symbols, strict=True):
            self._lines[scope, key] = (
                _CachedLine(_format(key, symbol))
                if symbol.file
                else _CachedLine("", end_s + _RETRY_S, search_done)
            )
            if symbol.file.startswith(b"/"):
                self._paths[scope, key.build_id] = os.fsdecode(symbol.file)
        while len(self._paths) > _MAX_CACHED_PATHS:
            del self._paths[next(iter(self._paths))]

    def _settle(self) -> None:
        """End the process of the last search, and charge the holder for the rest of its time."""
        (holder, charged_s), begin_s = self._charged, time.monotonic()
        if self._child.settle():
            # A spare process has taken CPU time before.
            spent_s = max(charged_s + time.monotonic() - begin_s, self._child.cpu_s)
            self._budget.spend(holder, spent_s - charged_s)

    def _is_cached(self, scope: str, key: FrameKey, search: _Search) -> bool:
        cached = self._lines.pop((scope, key), None)
        if (
            cached is None
            or cached.expires_s < time.monotonic()
            or cached.search not in (None, search)
        ):
            return False
        self._lines[scope, key] = cached
        return True

    def _count_failure(self, reason: str) -> None:
        """Log at most once a minute: tenants can cause as many as they like."""
        self._failed += 1
        if time.monotonic() - self._logged_s >= _RETRY_S:
            self._logged_s = time.monotonic()
            _LOG.warning("Symbols: left out: %s stacks=%d", reason, self._failed)


def _is_system_path(path: str) -> bool:
    return path.startswith(_SYSTEM_DIRECTORIES) and ".." not in path.split("/")


def _format(key: FrameKey, symbol: FrameSymbol) -> str:
    file = _printable(symbol.file.rpartition(b"/")[2])
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
