"""Recognise the runtime of a program by the name of its executable, and by its libraries.

A process's owner chooses both names. They decide which settings matter, and are believed no
further.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from otel_oom.model import runtime
from otel_oom.model.runtime import RuntimeSettings

_VERSION: Final = r"(?P<version>[0-9]+(?:\.[0-9]+){1,2})?"


def _compile(patterns: Mapping[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern), name) for pattern, name in patterns.items())


_EXECUTABLES: Final = _compile(
    {
        "java": runtime.JVM,
        "node|nodejs": runtime.NODEJS,
        "dotnet": runtime.DOTNET,
        rf"python(?:{_VERSION}|[23])": runtime.CPYTHON,
        rf"ruby{_VERSION}": runtime.RUBY,
        rf"php(?:-fpm|-cgi)?{_VERSION}": runtime.PHP,
        r"beam(?:\.smp)?": runtime.BEAM,
        "postgres": runtime.POSTGRESQL,
        "redis-server|valkey-server": runtime.REDIS,
        "mysqld|mariadbd": runtime.MYSQL,
    }
)
_LIBRARIES: Final = _compile(
    {
        r"libjvm\.so": runtime.JVM,
        r"libnode\.so(?:\..*)?": runtime.NODEJS,
        r"libcoreclr\.so": runtime.DOTNET,
        rf"libpython{_VERSION}[a-z]*\.so(?:\..*)?": runtime.CPYTHON,
        rf"libruby(?:-{_VERSION})?\.so(?:\..*)?": runtime.RUBY,
    }
)
_MAPPED_FILE: Final = re.compile(
    r"^\S+ \S+ 00000000 \S+ [1-9][0-9]* +/(?:[^/\n]*/)*(lib[^/\n]+)$", re.MULTILINE
)
"""The line of a file's first mapping in ``/proc/PID/maps``, as the loader makes it."""


def recognize_runtime(
    executable: str | None, libraries: Iterable[str] = ()
) -> RuntimeSettings | None:
    """Return the runtime of a program, without settings; ``None`` if it is not one of the list.

    ``executable`` is a path, ``libraries`` are names of mapped files. The executable decides
    before any library: servers load interpreters, too.
    """
    path = executable or ""
    name = path.rpartition("/")[2]
    return _match(name, _EXECUTABLES, path) or next(
        filter(None, (_match(library, _LIBRARIES, path) for library in libraries)), None
    )


def list_libraries(maps: str) -> list[str]:
    """Return the names of the libraries in a ``/proc/PID/maps``, whole or cut off at its end."""
    return _MAPPED_FILE.findall(maps)


def _match(
    name: str, patterns: tuple[tuple[re.Pattern[str], str], ...], executable: str
) -> RuntimeSettings | None:
    for pattern, runtime_name in patterns:
        if match := pattern.fullmatch(name):
            return RuntimeSettings(runtime_name, match.groupdict().get("version"), executable)
    return None
