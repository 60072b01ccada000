"""Build the Debian package of a wheel: `make deb`.

One package fits Debian 12 and 13. Its Python packages are the pinned ones of requirements.txt, in a
virtual environment of the package's own. Only their compiled modules differ from one version of
Python to the next, and those are beside each other, since their names contain that version.
"""

from __future__ import annotations

import argparse
import email.utils
import filecmp
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otel_oom.commands.unit import PROGRAM, UNIT
from scripts.build_distributions import commit_time
from scripts.generate_man import COMPLETIONS, MAN_PAGE, render_completion, render_man_page

REPOSITORY: Final = Path(__file__).parents[1]
DEBIAN: Final = REPOSITORY / "deploy/debian"
PYTHONS: Final = ("3.11", "3.13")
"""The Python of Debian 12 and of Debian 13; deploy/debian/control has the same."""
ARCHITECTURES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
"""Debian's name of each machine, with that of the wheel."""

REVISION: Final = "1"

_PRIVATE: Final = "/usr/lib/otel-oom"
_COMMAND: Final = f"""\
#!{_PRIVATE}/bin/python3 -I
import sys

from otel_oom.cli import main

sys.exit(main())
"""
_ENVIRONMENT: Final = "home = /usr/bin\ninclude-system-site-packages = false\n"
_UNUSED: Final = ("bin", "*.dist-info/RECORD", "*.dist-info/REQUESTED", "*.dist-info/INSTALLER")
"""Files of pip, wrong once the packages of two versions are one."""
_UNNEEDED: Final = ("pygments*", "markdown_it*", "mdurl*")
"""What rich imports only to highlight source and to render Markdown, which no command does."""


def main() -> int:
    """Build a package of each wheel in the folder, and print its path."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=REPOSITORY / "dist", metavar="FOLDER")
    parser.add_argument("--architecture", action="append", choices=ARCHITECTURES)
    arguments = parser.parse_args()
    folder: Path = arguments.into.absolute()
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or commit_time()
    for architecture in arguments.architecture or ARCHITECTURES:
        (wheel,) = folder.glob(f"otel_oom-*_{ARCHITECTURES[architecture]}.whl")
        sys.stdout.write(f"{build_deb(wheel, architecture, folder, epoch)}\n")
    return 0


def build_deb(wheel: Path, architecture: str, into: Path, epoch: str) -> Path:
    """Build the package of a wheel for Debian's ``architecture``, and return its path.

    Two builds of the same wheel with the same ``epoch``, in seconds, have the same bytes.

    Raises:
        subprocess.CalledProcessError: pip or debhelper failed.
    """
    environ = {**os.environ, "SOURCE_DATE_EPOCH": epoch, "DEB_HOST_ARCH": architecture}
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "otel-oom")
        shutil.copytree(DEBIAN, source / "debian")
        version = f"{debian_version(wheel.name.split('-')[1])}-{REVISION}"
        _write_changelog(source / "debian/changelog", version, int(epoch))
        _write_environment(source)
        _install_packages(wheel, ARCHITECTURES[architecture], source / "site-packages")
        # Not dpkg-buildpackage: it wants a compiler for each architecture.
        done = ("debian/rules", "binary")
        subprocess.run(done, cwd=source, env=environ, stdout=sys.stderr, check=True)
        (built,) = Path(name).glob("*.deb")
        into.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(built, into))


def _write_environment(source: Path) -> None:
    """Write what is beside the Python packages: command, unit, man page, completions."""
    for name, text in {
        "CHANGELOG.md": (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"),
        "pyvenv.cfg": _ENVIRONMENT,
        "bin/otel-oom": _COMMAND,
        "debian/otel-oom.service": UNIT.read_text(encoding="utf-8").replace(
            f"ExecStart={PROGRAM} ", f"ExecStart=/usr/bin/{PROGRAM.name} "
        ),
        MAN_PAGE: render_man_page(),
        **{f"completions/{name}": render_completion(shell) for shell, name in COMPLETIONS.items()},
    }.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    (source / "bin/otel-oom").chmod(0o755)


def _install_packages(wheel: Path, machine: str, target: Path) -> None:
    """Unpack the pinned packages for each version of Python, and the wheel, into one folder."""
    with tempfile.TemporaryDirectory() as name:
        for version in PYTHONS:
            folder = Path(name, version)
            pip = _pip(machine, version, folder)
            requirements = ("--require-hashes", "-r", REPOSITORY / "requirements.txt")
            subprocess.run((*pip, *requirements), stdout=sys.stderr, check=True)
            subprocess.run((*pip, "--no-index", wheel), stdout=sys.stderr, check=True)
            for path in _list_unused(folder):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            _merge(folder, target)
    for module in target.rglob("*.so*"):
        # llvm-strip knows all machines. Some wheels have their debugging information.
        if not module.is_relative_to(target / "otel_oom"):
            subprocess.run(("llvm-strip", "--strip-unneeded", module), check=True)


def _pip(machine: str, version: str, target: Path) -> tuple[str | Path, ...]:
    """Return the command that unpacks wheels for another Python than this one."""
    platforms = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
    return (
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--root-user-action=ignore", "--no-compile", "--no-deps", "--only-binary=:all:"),
        *("--implementation=cp", f"--python-version={version}", "--upgrade"),
        *(f"--platform={platform}_{machine}" for platform in platforms),
        *("--target", target),
    )


def _list_unused(folder: Path) -> Iterator[Path]:
    for pattern in (*_UNUSED, *_UNNEEDED):
        yield from folder.glob(pattern)


def _merge(folder: Path, target: Path) -> None:
    """Move the files of ``folder`` into ``target``.

    Raises:
        ValueError: both have a file, and it differs.
    """
    for path in sorted(filter(Path.is_file, folder.rglob("*"))):
        other = target / path.relative_to(folder)
        # A WHEEL names the tags of its wheel, and nothing reads it here.
        if other.exists() and other.name != "WHEEL" and not filecmp.cmp(path, other, shallow=False):
            raise ValueError(f"{other.relative_to(target)} differs between {', '.join(PYTHONS)}")
        other.parent.mkdir(parents=True, exist_ok=True)
        path.replace(other)
        other.chmod(0o644)


def debian_version(version: str) -> str:
    """Return a version of Python's in Debian's order, where 1.0~rc1 is before 1.0."""
    return re.sub(r"(?<=\d)(a|b|rc|\.dev)(?=\d)", r"~\1", version)


def _write_changelog(path: Path, version: str, epoch: int) -> None:
    maintainer = re.search(r"(?m)^Maintainer: (.+)$", (DEBIAN / "control").read_text("utf-8"))
    assert maintainer  # noqa: S101  it is a file of ours
    path.write_text(
        f"otel-oom ({version}) stable; urgency=medium\n\n"
        "  * See changelog.gz beside this file.\n\n"
        f" -- {maintainer[1]}  {email.utils.formatdate(epoch)}\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    sys.exit(main())
