"""Runtimes by the names of executables and libraries, as distributions and images have them."""

from __future__ import annotations

import pytest

from otel_oom.linux.runtimes.recognition import list_libraries, recognize_runtime


@pytest.mark.parametrize(
    ("executable", "name", "version"),
    [
        ("/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "OpenJDK Runtime Environment", None),
        ("/usr/local/bin/node", "nodejs", None),
        ("/usr/share/dotnet/dotnet", ".NET", None),
        ("/usr/bin/python3.11", "cpython", "3.11"),
        ("/usr/bin/python3", "cpython", None),
        ("/usr/bin/ruby3.1", "ruby", "3.1"),
        ("/usr/sbin/php-fpm8.2", "php", "8.2"),
        ("/usr/lib/erlang/erts-13.1.5/bin/beam.smp", "BEAM", None),
        ("/usr/lib/postgresql/15/bin/postgres", "postgresql", None),
        ("/usr/bin/redis-server", "redis", None),
        ("/usr/sbin/mariadbd", "mysql", None),
    ],
)
def test_executables(executable: str, name: str, version: str | None) -> None:
    """The names are those of OpenTelemetry's SDKs (``process.runtime.name``)."""
    runtime = recognize_runtime(executable)
    assert runtime is not None
    assert (runtime.name, runtime.version, runtime.executable) == (name, version, executable)


@pytest.mark.parametrize(
    "executable", [None, "", "/bin/sh", "/usr/bin/javac", "/x/my-node", "/java/app"]
)
def test_other_executables(executable: str | None) -> None:
    assert recognize_runtime(executable) is None


@pytest.mark.parametrize(
    ("library", "name", "version"),
    [
        ("libjvm.so", "OpenJDK Runtime Environment", None),
        ("libcoreclr.so", ".NET", None),
        ("libnode.so.108", "nodejs", None),
        ("libpython3.11.so.1.0", "cpython", "3.11"),
        ("libruby-3.1.so.3.1.2", "ruby", "3.1"),
        ("libruby.so.3.3", "ruby", None),
    ],
)
def test_libraries(library: str, name: str, version: str | None) -> None:
    runtime = recognize_runtime("/opt/app/server", ["libc.so.6", library])
    assert runtime is not None
    assert (runtime.name, runtime.version) == (name, version)


def test_the_executable_decides_before_its_libraries() -> None:
    """PostgreSQL loads an interpreter for its procedural languages."""
    runtime = recognize_runtime("/usr/lib/postgresql/15/bin/postgres", ["libpython3.11.so.1.0"])
    assert runtime is not None
    assert runtime.name == "postgresql"


def test_the_mapped_libraries_of_a_process() -> None:
    """proc_pid_maps(5); a file counts by its first mapping, which is at the file's beginning."""
    maps = (
        "55d0a000-55d0b000 r--p 00000000 fe:00 1234                       /opt/my app/server\n"
        "7f00a000-7f00b000 rw-p 00000000 00:00 0 \n"
        "7f10a000-7f10b000 r--p 00000000 fe:00 1235      /usr/lib/jvm/x y/lib/server/libjvm.so\n"
        "7f10b000-7f10c000 r-xp 00001000 fe:00 1235      /usr/lib/jvm/x y/lib/server/libjvm.so\n"
        "7ffd0000-7ffd1000 rw-p 00000000 00:00 0                          [stack]\n"
        "7f10b000-7f10c000 r-xp 00000000 fe:00 12"
    )
    assert list_libraries(maps) == ["libjvm.so"]
