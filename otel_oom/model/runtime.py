"""The runtime of a victim's program, and the memory settings that it was started with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

JVM: Final = "OpenJDK Runtime Environment"
NODEJS: Final = "nodejs"
GO: Final = "go"
DOTNET: Final = ".NET"
CPYTHON: Final = "cpython"
RUBY: Final = "ruby"
PHP: Final = "php"
BEAM: Final = "BEAM"
POSTGRESQL: Final = "postgresql"
REDIS: Final = "redis"
MYSQL: Final = "mysql"
"""Values of ``process.runtime.name``, as OpenTelemetry's SDKs set them; of servers their names."""


class RuntimeSettings(Struct, frozen=True):
    """A runtime, and its memory settings by the names of options and variables.

    The names are those that :mod:`otel_oom.linux.runtimes.settings` allows, the values numbers
    and words of its grammar. The victim's owner chose them. ``is_complete``: the command line and
    the environment were both read, so a setting that is not here was not made in them.
    """

    name: str
    version: str | None = None
    executable: str = ""
    settings: Mapping[str, str] = {}
    is_complete: bool = False
