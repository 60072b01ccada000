"""A wheel for this host, from the sdist without zig: the system's libbpf serves it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest

from otel_oom import __version__
from tests.testlib.command import CompletedCommand, mount_namespace, run_command
from tests.testlib.distribution import CONTENTS, built_sdist, built_wheel, copy_sources
from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require, require_programs

pytestmark = pytest.mark.slow

BUILD_S = 300.0
INSTALL_S = 400.0
QUIET = {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
LIBRARY = "otel_oom/capture/bpf/libbpf.so.1"


def build(source: Path, into: Path, path: str | None = None) -> CompletedCommand:
    """Build the wheel of ``source`` with the programs on ``path``."""
    words = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(into), str(source))
    env = {**QUIET, "PATH": path or os.environ["PATH"]}
    return run_command([sys.executable, "-m", "pip", *words], env=env, cwd=into, limit_s=BUILD_S)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the source distribution, for this host."""
    require_programs("clang", "llvm-strip", "make")
    folder = tmp_path_factory.mktemp("wheel")
    done = build(built_sdist(), folder)
    assert done.code == 0, done
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_is_for_this_platform(wheel: Path) -> None:
    """Its BPF object depends on the machine; a library it has not."""
    assert wheel.stem.split("-")[2:4] == ["py3", "none"]
    platform = wheel.stem.split("-")[4]
    assert platform.startswith("linux_")
    assert platform.endswith(os.uname().machine)
    with ZipFile(wheel) as archive:
        assert archive.read("otel_oom/capture/bpf/oom.bpf.o").startswith(b"\x7fELF")
        assert LIBRARY not in archive.namelist()


@dataclass(frozen=True)
class Installed:
    """An environment with a wheel, and nothing of the source tree."""

    folder: Path

    def __call__(self, *words: str) -> CompletedCommand:
        """Run its `otel-oom` without access to the source tree."""
        away = mount_namespace(f"mount -t tmpfs none {REPOSITORY}", "cd /")
        return run_command([*away, self.folder / "bin/otel-oom", *words])

    def install(self, wheel: Path) -> None:
        """Install the wheel in the place of an earlier one."""
        pip = (self.folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps")
        done = run_command([*pip, "--no-index", "--force-reinstall", wheel], QUIET)
        assert done.code == 0, done

    def libbpf_version(self) -> str:
        """Return the version of the library that doctor uses."""
        checks = json.loads(self("doctor", "--json").out)["checks"]
        (version,) = (str(each["detail"]) for each in checks if each["name"] == "libbpf")
        return version


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
    environment = Installed(folder)
    environment.install(wheel)
    return environment


def test_the_wheel_is_installed_with_its_dependencies(installed: Installed) -> None:
    """The command is there, of the right version, out of its own environment."""
    assert installed("--version") == CompletedCommand(0, f"otel-oom {__version__}\n", "")
    assert run_command([installed.folder / "bin/python", "-m", "pip", "check"], QUIET).code == 0


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


@pytest.mark.root
def test_the_library_of_the_system_is_the_fallback(installed: Installed) -> None:
    """For a wheel without, and for one whose library is that of another machine."""
    of_system = installed.libbpf_version()
    installed.install(built_wheel())
    assert installed.libbpf_version() != of_system
    (library,) = installed.folder.glob(f"lib/python3*/site-packages/{LIBRARY}")
    with ZipFile(built_wheel("aarch64")) as archive:
        library.write_bytes(archive.read(LIBRARY))
    assert installed.libbpf_version() == of_system


def test_building_without_clang_names_the_packages(tmp_path: Path) -> None:
    """For Debian and for Fedora."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("make", "sh"):
        (programs / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
    done = build(copy_sources(tmp_path / "source", *CONTENTS), tmp_path, str(programs))
    assert done.code != 0
    output = done.out + done.err
    assert "Building otel-oom needs clang and llvm-strip and libbpf's headers" in output
    assert "apt-get install clang llvm libbpf-dev make" in output
    assert "dnf install clang llvm libbpf-devel make" in output


@pytest.mark.root
def test_building_without_headers_names_the_package(tmp_path: Path) -> None:
    """After the compiler's message."""
    require(shutil.which("clang") and Path("/usr/include/bpf").is_dir(), "headers to be hidden")
    source = copy_sources(tmp_path / "source", *CONTENTS)
    hidden = mount_namespace("mount -t tmpfs none /usr/include/bpf")
    words = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path))
    done = run_command([*hidden, sys.executable, *words, source], QUIET, limit_s=BUILD_S)
    assert done.code != 0
    output = done.out + done.err
    assert "bpf_helpers.h" in output
    assert "apt-get install clang llvm libbpf-dev make" in output
