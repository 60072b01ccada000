"""The runtime of a process, from its files in /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from otel_oom.linux.process import ProcessDir
from otel_oom.model.runtime import RuntimeSettings
from otel_oom.snapshot.runtime import read_runtime


def make_process(folder: Path, command: str, executable: str, maps: str = "") -> ProcessDir:
    (folder / "7").mkdir()
    (folder / "7/cmdline").write_text(command.replace(" ", "\0") + "\0", encoding="ascii")
    (folder / "7/maps").write_text(maps, encoding="ascii")
    (folder / "7/exe").symlink_to(executable)
    return ProcessDir(7, folder)


def test_a_real_process_of_python() -> None:
    """This test's own interpreter, whose name the link in /proc has."""
    with subprocess.Popen([sys.executable, "-c", "input()", "hunter2"], stdin=-1) as process:
        runtime = read_runtime(ProcessDir(process.pid), {"MALLOC_ARENA_MAX": "2"})
        process.communicate(b"\n")
    assert runtime is not None
    assert (runtime.name, runtime.settings) == ("cpython", {"MALLOC_ARENA_MAX": "2"})
    assert runtime.executable == os.path.realpath(sys.executable)
    assert "hunter2" not in repr(runtime)


def test_options_and_variables(tmp_path: Path) -> None:
    process = make_process(tmp_path, "java -Xmx1g -Dx=hunter2 Main", "/usr/bin/java")
    assert read_runtime(process, {"JAVA_TOOL_OPTIONS": "-Xss1m -Dy=hunter2"}) == RuntimeSettings(
        "OpenJDK Runtime Environment",
        None,
        "/usr/bin/java",
        {"JAVA_TOOL_OPTIONS": "-Xss1m", "-Xmx": "1g"},
        is_complete=True,
    )


def test_a_library_names_the_runtime_of_a_program(tmp_path: Path) -> None:
    maps = "7f10a000-7f10b000 r--p 00000000 fe:00 1235      /app/libcoreclr.so\n"
    process = make_process(tmp_path, "/app/shop", "/app/shop", maps)
    runtime = read_runtime(process, {"DOTNET_GCHeapHardLimit": "C800000"})
    assert runtime is not None
    assert (runtime.name, runtime.is_complete) == (".NET", True)


def test_once_the_memory_is_gone_the_settings_are_not_complete(tmp_path: Path) -> None:
    """A missing setting could then be one that was made: no default may be assumed."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cmdline").touch()
    runtime = read_runtime(ProcessDir(7, tmp_path), {}, "/usr/bin/java")
    assert runtime is not None
    assert not runtime.is_complete


def test_a_file_of_arguments_makes_the_settings_incomplete(tmp_path: Path) -> None:
    process = make_process(tmp_path, "java @app.args Main", "/usr/bin/java")
    runtime = read_runtime(process, {})
    assert runtime is not None
    assert not runtime.is_complete


def test_a_program_without_a_runtime(tmp_path: Path) -> None:
    assert read_runtime(make_process(tmp_path, "sleep 1", "/bin/sleep"), {}) is None


def test_a_variable_of_go_names_it_where_the_program_is_gone(tmp_path: Path) -> None:
    """A program of Go has a name of its own, and its file goes with its memory."""
    (tmp_path / "7").mkdir()
    runtime = read_runtime(ProcessDir(7, tmp_path), {"GOMEMLIMIT": "1GiB"}, "/app/shop")
    assert runtime is not None
    assert (runtime.name, runtime.settings) == ("go", {"GOMEMLIMIT": "1GiB"})


def test_a_command_line_beyond_the_bound_makes_the_settings_incomplete(tmp_path: Path) -> None:
    """An option behind the bound could be the one that decides."""
    command = f"java -Xss1m -cp {'/app/library.jar:' * 5000} -Xmx1g Main"
    runtime = read_runtime(make_process(tmp_path, command, "/usr/bin/java"), {})
    assert runtime is not None
    assert (dict(runtime.settings), runtime.is_complete) == ({"-Xss": "1m"}, False)
