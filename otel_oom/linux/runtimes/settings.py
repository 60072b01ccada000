"""Select the memory settings in a command line and an environment.

Both hold secrets. So a setting is kept only if its name is one of those below, and its value is a
number with a unit, or a word of a closed list: a secret can't be such a value. All sources of a
command line use :func:`select_settings`, and nothing else of it leaves the function that read it.

Sources of names and grammar: the manual pages of java(1) and node(1), "A Guide to the Go Garbage
Collector", "Runtime configuration options for garbage collection" of .NET, mallopt(3),
postgres(1), the comments of redis.conf, the reference manual of MySQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from otel_oom.linux.runtimes.option_words import find_program, list_own_options, split_words

_NUMBER: Final = r"[0-9]{1,19}"
_DECIMAL: Final = r"[0-9]{1,19}(?:\.[0-9]{1,9})?"
_HEX: Final = r"(?:0[xX])?[0-9a-fA-F]{1,16}"
_JVM_SIZE: Final = rf"(?:{_NUMBER}|0x[0-9a-fA-F]{{1,16}})[kKmMgGtT]?"
_SERVER_SIZE: Final = rf"{_DECIMAL}(?:[kKmMgGtT]?[bB]?)"

_DOTNET: Final = (
    *("GCHeapHardLimit", "GCHeapHardLimitPercent", "GCHeapHardLimitSOH", "GCHeapHardLimitLOH"),
    *("GCHeapHardLimitPOH", "GCHeapCount", "GCConserveMemory", "gcServer"),
)
_NUMBERS_BY_VARIABLE: Final = {
    "GOMEMLIMIT": rf"off|{_NUMBER}(?:B|KiB|MiB|GiB|TiB)?",
    "GOGC": rf"off|{_NUMBER}",
    "GOMAXPROCS": _NUMBER,
    "MALLOC_ARENA_MAX": _NUMBER,
    "MALLOC_TRIM_THRESHOLD_": _NUMBER,
    "MALLOC_MMAP_THRESHOLD_": _NUMBER,
    "PYTHONMALLOC": r"default|debug|malloc|malloc_debug|pymalloc|pymalloc_debug|mimalloc",
    "RUBY_GC_HEAP_GROWTH_FACTOR": _DECIMAL,
    "RUBY_GC_MALLOC_LIMIT_MAX": _NUMBER,
    "RUBY_GC_OLDMALLOC_LIMIT_MAX": _NUMBER,
    **{f"{prefix}_{name}": _HEX for prefix in ("DOTNET", "COMPlus") for name in _DOTNET},
}
OPTION_VARIABLES: Final = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "NODE_OPTIONS")
"""Variables that hold options, of which the allowed ones are kept, as they were written."""

VARIABLES: Final = frozenset({*_NUMBERS_BY_VARIABLE, *OPTION_VARIABLES})
"""The variables of an environment that are of use here."""

ARGUMENT_FILE: Final = "@argfile"
"""The name of a setting without value: options are in a file, too, which is not read."""

_JVM_SIZES: Final = (
    *("MaxHeapSize", "InitialHeapSize", "MaxRAM", "MaxMetaspaceSize", "MaxDirectMemorySize"),
    *("ReservedCodeCacheSize", "ThreadStackSize"),
)
_INTERPRETER_OPTIONS: Final = (
    rf"(-Xm[xs]|-Xss)({_JVM_SIZE})",
    rf"(-XX:(?:{'|'.join(_JVM_SIZES)}))=({_JVM_SIZE})",
    rf"(-XX:(?:Max|Min|Initial)RAMPercentage)=({_DECIMAL})",
    rf"(-XX:(?:MaxRAMFraction|ActiveProcessorCount))=({_NUMBER})",
    r"(-XX:)([+-]UseContainerSupport)",
    rf"(--max-(?:old-space|semi-space|heap)-size)=({_NUMBER})",
    rf"(--max-old-space-size-percentage)=({_DECIMAL})",
)
_SERVER_NAMES: Final = (
    *("shared_buffers", "work_mem", "maintenance_work_mem", "autovacuum_work_mem", "temp_buffers"),
    *("hash_mem_multiplier", "max_connections"),  # of PostgreSQL
    *("innodb_buffer_pool_size", "memory_limit"),  # of MySQL and PHP
)
_SERVER_OPTIONS: Final = (
    rf"(?:--)?({'|'.join(_SERVER_NAMES)})=({_SERVER_SIZE})",
    rf"--(maxmemory)=({_SERVER_SIZE})",
)
_INTERPRETER_OPTION: Final = re.compile("|".join(_INTERPRETER_OPTIONS))
_SERVER_OPTION: Final = re.compile("|".join(_SERVER_OPTIONS))
_VALUES: Final = {name: re.compile(value) for name, value in _NUMBERS_BY_VARIABLE.items()}
_ARGUMENT_FILES: Final = ("@", "-XX:Flags=", "-XX:VMOptionsFile=", "--env-file")
_MAX_OPTION_CHARS: Final = 80
_MAX_VALUE_CHARS: Final = 4096
_MAX_VARIABLE_OPTIONS: Final = 16


def select_settings(argv: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the allowed settings by name, from a command line and an environment.

    The name is that of an option, such as ``-Xmx``, or of a variable. Of an option that is given
    several times the last one counts, and comes last. Options of a program itself, after its name,
    are left out where an interpreter runs it. ``argv`` may be cut off at its end.
    """
    settings: dict[str, str] = {}
    for name, text in environ.items():
        if name in OPTION_VARIABLES:
            options = split_words(text[:_MAX_VALUE_CHARS])
            written = [word for word in options if _match_option(word, _INTERPRETER_OPTION)]
            if written:
                settings[name] = " ".join(written[-_MAX_VARIABLE_OPTIONS:])
            if any(word.startswith(_ARGUMENT_FILES) for word in options):
                settings[ARGUMENT_FILE] = ""
        elif name in _VALUES and _VALUES[name].fullmatch(text.strip()):
            settings[name] = text.strip()
    for name, value in _select_options(argv):
        settings.pop(name, None)
        settings[name] = value
    return settings


def parse_options(text: str) -> dict[str, str]:
    """Return the options in the value of one of the :data:`OPTION_VARIABLES`, by name."""
    matches = (_match_option(word, _INTERPRETER_OPTION) for word in split_words(text))
    return dict(filter(None, matches))


def format_setting(name: str, value: str) -> str:
    """Return a setting as a person writes it: ``-Xmx512m``, ``GOGC=100``."""
    if name.startswith("-X") and not name.endswith(("Size", "RAM", "Percentage", "Fraction")):
        return f"{name}{value}"
    return f"{name}={value}"


def _select_options(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    program = find_program(argv)
    for word in list_own_options(program):
        if word.startswith(_ARGUMENT_FILES):
            yield ARGUMENT_FILE, ""
        elif option := _match_option(word, _INTERPRETER_OPTION):
            yield option
    if program.is_interpreter:
        return
    for word, following in pairwise((*program.words, "")):
        joined = f"{word}={following}" if word.startswith("--") and "=" not in word else word
        if option := _match_option(joined, _SERVER_OPTION):
            yield option


def _match_option(word: str, pattern: re.Pattern[str]) -> tuple[str, str] | None:
    """Return name and value of an allowed option, spelt with ``-``, of servers with ``_``."""
    if len(word) > _MAX_OPTION_CHARS:
        return None
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        is_server = pattern is _SERVER_OPTION
        name = name.replace("-", "_") if is_server else name.replace("_", "-")
        word = f"--{name}{equals}{value}"
    match = pattern.fullmatch(word)
    groups = [group for group in match.groups() if group is not None] if match else []
    return (groups[0], groups[1]) if groups else None
