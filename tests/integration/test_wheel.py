"""The wheel: its content, and its use without the source tree."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest

from otel_oom import __version__
from tests.testlib.command import CompletedCommand, mount_namespace, run_command
from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require

pytestmark = pytest.mark.slow

BUILD_S = 120.0
INSTALL_S = 400.0
QUIET = {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def sources(folder: Path) -> Path:
    """Copy the current source files, without anything that was built."""
    require(shutil.which("git") and (REPOSITORY / ".git").exists(), "git names the source files")
    # Git does not trust the folder of another user (a mounted one, in CI) without this option.
    git = ("git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard")
    listed = run_command(git, cwd=REPOSITORY)
    assert listed.code == 0, listed
    for name in filter(None, listed.out.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    return folder


def build(source: Path, into: Path, path: str | None = None) -> CompletedCommand:
    """Build the wheel of ``source`` with the programs on ``path``."""
    words = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(into), str(source))
    env = {**QUIET, "PATH": path or os.environ["PATH"]}
    return run_command([sys.executable, "-m", "pip", *words], env=env, cwd=into, limit_s=BUILD_S)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the source files."""
    require(shutil.which("clang") and shutil.which("llvm-strip"), "building needs clang and llvm")
    folder = tmp_path_factory.mktemp("wheel")
    done = build(sources(tmp_path_factory.mktemp("source")), folder)
    assert done.code == 0, done
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    """The package with the BPF object, and the licences; no tests, tools or leftovers."""
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        elf = archive.read("otel_oom/capture/bpf/oom.bpf.o")
    info = f"otel_oom-{__version__}.dist-info"
    licences = {name for name in names if name.startswith(f"{info}/licenses/")}
    assert {name.rpartition("/")[2] for name in licences} == {
        "LICENSE",
        "LICENSE.BSD-3-Clause",
        "LICENSE.GPL-2.0-only",
    }
    assert elf.startswith(b"\x7fELF")
    source = REPOSITORY / "bpf/bcc/oom.bcc.c"
    included = re.findall(r'#include "(.+)"', source.read_text(encoding="utf-8"))
    assert {f"otel_oom/capture/bcc/bpf_source/{path}" for path in ("bcc/oom.bcc.c", *included)} <= {
        *names
    }
    assert f"{info}/entry_points.txt" in names
    assert {name.partition("/")[0] for name in names} == {"otel_oom", info}
    endings = {Path(name).suffix for name in names if name.startswith("otel_oom/")}
    assert endings == {".py", ".o", ".c", ".h", ".typed", ".yaml"}
    assert [name for name in names if "test" in name or "__pycache__" in name] == []


def test_the_wheel_has_every_module(wheel: Path) -> None:
    tree = {str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("otel_oom/**/*.py")}
    with ZipFile(wheel) as archive:
        assert tree <= set(archive.namelist())


def test_the_wheel_is_for_this_platform(wheel: Path) -> None:
    """The BPF object depends on the machine."""
    assert wheel.stem.split("-")[2:4] == ["py3", "none"]
    platform = wheel.stem.split("-")[4]
    assert platform.startswith("linux_")
    assert platform.endswith(os.uname().machine)


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, and nothing of the source tree."""

    folder: Path

    def __call__(self, *words: str) -> CompletedCommand:
        """Run its `otel-oom` without access to the source tree."""
        away = mount_namespace(f"mount -t tmpfs none {REPOSITORY}", "cd /")
        return run_command([*away, self.folder / "bin/otel-oom", *words])


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Create a virtual environment with the pinned requirements, then the wheel."""
    folder = tmp_path_factory.mktemp("environment")
    assert run_command([sys.executable, "-m", "venv", folder]).code == 0
    python = folder / "bin/python"
    pip = (python, "-m", "pip", "install", "--quiet", "--only-binary=:all:")
    environ = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    pinned = ("--require-hashes", "-r", REPOSITORY / "requirements.txt")
    done = run_command([*pip, *pinned], {**QUIET, **environ}, limit_s=INSTALL_S)
    require(done.code == 0, f"the dependencies could not be had: {done.err[-500:]}")
    done = run_command([*pip, "--no-index", "--no-deps", wheel], QUIET, limit_s=INSTALL_S)
    assert done.code == 0, done
    return Installed(folder)


def test_the_wheel_is_installed_with_its_dependencies(installed: Installed) -> None:
    """The command is there, of the right version, out of its own environment."""
    assert installed("--version") == CompletedCommand(0, f"otel-oom {__version__}\n", "")
    assert run_command([installed.folder / "bin/python", "-m", "pip", "check"], QUIET).code == 0


@pytest.mark.usefixtures("real_kills")
def test_doctor_attaches_from_the_wheel(installed: Installed) -> None:
    """The kernel accepts the BPF object of the wheel."""
    states = {
        f["name"]: f["state"] for f in json.loads(installed("doctor", "--json").out)["checks"]
    }
    assert states["hook"] == "ok"


@pytest.mark.usefixtures("real_kills")
def test_the_demo_runs_from_the_wheel(installed: Installed) -> None:
    """From the kernel to OTLP/JSON: one line with the log, and one with the span."""
    done = installed("demo", "--json")
    assert done.code == 0, done
    log, span = map(json.loads, done.out.splitlines())
    (record,) = log["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert record["eventName"] == "oom.kill"
    (exported,) = span["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert (exported["traceId"], exported["spanId"]) == (record["traceId"], record["spanId"])


def test_building_without_clang_names_the_packages(tmp_path: Path) -> None:
    """For Debian and for Fedora."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("make", "sh"):
        (programs / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
    done = build(sources(tmp_path / "source"), tmp_path, str(programs))
    assert done.code != 0
    output = done.out + done.err
    assert "Building otel-oom needs clang and llvm-strip and libbpf's headers" in output
    assert "apt-get install clang llvm libbpf-dev make" in output
    assert "dnf install clang llvm libbpf-devel make" in output


def test_building_without_headers_names_the_package(tmp_path: Path) -> None:
    """After the compiler's message."""
    require(shutil.which("clang") and Path("/usr/include/bpf").is_dir(), "headers to be hidden")
    source = sources(tmp_path / "source")
    hidden = mount_namespace("mount -t tmpfs none /usr/include/bpf")
    words = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path))
    done = run_command([*hidden, sys.executable, *words, source], QUIET, limit_s=BUILD_S)
    assert done.code != 0
    output = done.out + done.err
    assert "bpf_helpers.h" in output
    assert "apt-get install clang llvm libbpf-dev make" in output
