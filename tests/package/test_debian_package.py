"""The Debian package in guests of Debian 12 and 13: installed, used, upgraded, removed, purged.

dpkg, systemd, bpftool and the kernel judge each step.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Final

import pytest

from otel_oom import __version__
from scripts.build_deb import PYTHONS, debian_version
from tests.package.guest import KERNELS, run_guest
from tests.package.step import Step
from tests.testlib.command import run_command
from tests.testlib.debian.package import built_deb, repack_deb
from tests.testlib.require import require, require_programs
from tests.vmtest.boots import Boots, needs_guest

SCRIPT: Final = Path(__file__).with_name("guest.sh")
VERSION: Final = debian_version(__version__)
DPKG: Final = "/var/lib/dpkg/info/otel-oom."
WANTED: Final = "/etc/systemd/system/multi-user.target.wants/otel-oom.service"
CONFIGURATION: Final = "/etc/default/otel-oom"
STATE: Final = "/var/lib/private/otel-oom"
CHANGE: Final = "# Changed by the administrator."

IMPORT_ALL: Final = """\
import importlib, pkgutil, sys
sys.path.append(sys.argv[1])
import otel_oom
for module in pkgutil.walk_packages(otel_oom.__path__, "otel_oom."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from otel_oom.cli import main
main(["doctor"])
"""


def boot(suite: str, folder: Path) -> Path:
    """Boot a guest of the suite, whose script leaves its steps in the folder."""
    require(os.geteuid() == 0, "a root of Debian needs root")
    package = built_deb()
    repack_deb(package, "0", folder / "old")
    (folder / "new").mkdir()
    shutil.copy(package, folder / "new")
    run_guest(suite, SCRIPT, folder)
    return folder


@pytest.fixture(params=[pytest.param(suite, marks=needs_guest(boot, suite)) for suite in KERNELS])
def folder(request: pytest.FixtureRequest, boots: Boots) -> Path:
    """Return the folder with the steps of a suite."""
    path: Path = boots.result((boot, request.param))
    return path


@pytest.mark.vm
@pytest.mark.root
class TestInGuest:
    """The steps of the script, in its order."""

    def test_installing_starts_the_service(self, folder: Path) -> None:
        """Enabled, ready, as an unprivileged user; nothing was there before."""
        before, installed = Step(folder / "before"), Step(folder / "installed")
        assert before.lines("files") == []
        assert before.programs() == set()
        assert installed.lines("package") == [f"{VERSION}-0 installed"]
        assert installed.text("enabled") == "enabled"
        unit = installed.unit()
        assert (unit["ActiveState"], unit["SubState"]) == ("active", "running")
        assert (unit["DynamicUser"], unit["NRestarts"], unit["Result"]) == ("yes", "0", "success")
        assert "path=/usr/bin/otel-oom ;" in unit["ExecStart"]
        assert installed.programs() != set()

    def test_a_real_kill_is_listed(self, folder: Path) -> None:
        """The kernel's only kill is that of the unit that reached its limit."""
        installed = Step(folder / "installed")
        assert installed.kernel_count() == 1
        assert installed.listed_pids() == installed.killed_pids()
        assert "victim@first" in installed.text("events")
        messages = [str(record["MESSAGE"]) for record in installed.journal()]
        assert any("Ready: capturing OOM kills by tp_btf/mark_victim" in each for each in messages)

    def test_an_upgrade_keeps_configuration_and_events(self, folder: Path) -> None:
        """The service restarts once, and later kills are captured as well."""
        installed, upgraded = Step(folder / "installed"), Step(folder / "upgraded")
        assert upgraded.lines("package") == [f"{VERSION}-1 installed"]
        unit = upgraded.unit()
        assert unit["ActiveState"] == "active"
        assert unit["NRestarts"] == "0"
        assert unit["MainPID"] != installed.unit()["MainPID"]
        assert upgraded.lines("default") == [*installed.lines("default"), CHANGE]
        assert upgraded.kernel_count() == 2
        assert upgraded.listed_pids() == upgraded.killed_pids()
        assert upgraded.programs() == installed.programs()

    def test_removal_unloads_everything_and_keeps_the_state(self, folder: Path) -> None:
        """Neither process nor BPF program; state and configuration remain, and dpkg's list."""
        removed = Step(folder / "removed")
        assert removed.lines("package") == [f"{VERSION}-1 config-files"]
        assert removed.unit()["LoadState"] in {"not-found", "masked"}
        assert removed.text("agents") == ""
        assert removed.programs() == set()
        assert not [path for path in removed.lines("pins") if "otel-oom" in path]
        assert "otel-oom.db" in removed.text("state")
        assert removed.lines("default")[-1] == CHANGE
        assert f"{STATE}/otel-oom.db" in removed.lines("files")
        # The link by which it was enabled remains as well, as with every package of Debian's.
        remaining = (CONFIGURATION, STATE, "/var/lib/otel-oom", DPKG, "/var/lib/systemd/", WANTED)
        others = [path for path in removed.lines("files") if not path.startswith(remaining)]
        assert others == []

    def test_purging_leaves_nothing(self, folder: Path) -> None:
        """No file of that name, and dpkg has forgotten the package."""
        purged = Step(folder / "purged")
        assert purged.lines("files") == []
        assert "no packages found" in purged.text("package")
        assert purged.programs() == set()
        assert purged.text("agents") == ""


@pytest.mark.slow
def test_lintian_has_no_objection() -> None:
    """Neither errors nor warnings, except those of the overrides."""
    require_programs("lintian")
    words = ("lintian", "--allow-root", "--fail-on=error,warning")
    done = run_command([*words, built_deb()], limit_s=300)
    assert (done.code, done.out) == (0, ""), done


@pytest.mark.slow
def test_the_package_depends_on_each_library(tmp_path: Path) -> None:
    """A library that a compiled module needs is in a package that it depends on, by dpkg."""
    require_programs("readelf", "dpkg")
    package = built_deb()
    depends = run_command(["dpkg-deb", "--field", package, "Depends"]).out
    packages = set(re.findall(r"[a-z][a-z0-9.+-]+", re.sub(r"\([^)]*\)", "", depends)))
    assert run_command(["dpkg-deb", "--extract", package, tmp_path]).code == 0
    modules = [path for path in tmp_path.rglob("*.so*") if path.name != "oom.bpf.o"]
    dynamic = run_command(["readelf", "--dynamic", *modules]).out
    libraries = set(re.findall(r"NEEDED.*\[(.+)\]", dynamic))
    assert libraries
    for library in libraries:
        owners = run_command(["dpkg", "--search", f"*/{library}"]).out
        assert packages & set(re.findall(r"(?m)^([^:]+)", owners)), library


@pytest.mark.slow
def test_each_module_and_a_page_need_only_what_the_package_has(tmp_path: Path) -> None:
    """By a Python of the same version as Debian's, without any other package."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}" not in PYTHONS:
        pytest.skip(f"the package has modules for {' and '.join(PYTHONS)}")
    assert run_command(["dpkg-deb", "--extract", built_deb(), tmp_path]).code == 0
    packages = tmp_path / "usr/lib/otel-oom/site-packages"
    state = {"STATE_DIRECTORY": str(tmp_path / "state")}
    words = [sys.executable, "-I", "-S", "-B", "-c", IMPORT_ALL, str(packages)]
    done = run_command(words, state, limit_s=60)
    assert (done.code, done.err) == (0, ""), done
    assert "endpoint" in done.out


@pytest.mark.slow
def test_the_package_has_modules_for_each_python() -> None:
    """Every compiled module is there for both, or for all by the stable ABI."""
    listed = run_command(["dpkg-deb", "--contents", built_deb()]).out
    modules = re.findall(r"(\S+)\.cpython-(\d+)-x86_64-linux-gnu\.so", listed)
    by_version = {tag: {name for name, each in modules if each == tag} for tag in ("311", "313")}
    assert {tag for _, tag in modules} == by_version.keys()
    assert by_version["311"] == by_version["313"] != set()
