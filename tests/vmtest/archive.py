"""Debian's package archive: the packages of a suite, without a trace in the machine's own apt."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.testlib.servers.recipes import BuildError

_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LIMIT_S: Final = 600.0
_ROLLING: Final = ("oldstable", "stable", "testing", "unstable", "sid")

_RELEASE: Final = r"\d+\.\d+\.\d+(?:\+[\w.]+)?(?:-\d+)?-"
"""The beginning of a kernel's release; a flavour follows, such as `amd64` or `cloud-amd64`."""

_MERGED: Final = ("bin", "lib", "sbin")
"""Folders of the root that are links to those of /usr."""

_UNPACK: Final = 'dpkg-deb --fsys-tarfile "$0" | tar -C "$1" -x --keep-directory-symlink'


@dataclass(frozen=True)
class Archive:
    """One suite; its lists and settings are in ``folder``, which need not exist."""

    suite: str
    folder: Path
    architecture: str = "amd64"

    def find_newest(self, package: str, series: str, flavour: str) -> tuple[str, str]:
        """Return the release of the newest kernel of ``series``, and its package's version.

        Args:
            package: the name before the release, such as `linux-image`.
            series: the beginning of the release.
            flavour: the end of the release, such as `amd64`.

        Raises:
            BuildError: the archive does not respond, or has none.
        """
        self._update()
        listed = self._run("apt-cache", "search", "--names-only", "--full", f"^{package}-[0-9]")
        matches = re.findall(
            rf"(?m)^Package: {package}-({re.escape(series)}.*)\n(?:.+\n)*?Version: (.+)$", listed
        )
        kernels = {
            release: version
            for release, version in matches
            if re.fullmatch(_RELEASE + re.escape(flavour), release)
        }
        if not kernels:
            raise BuildError(f"{self.suite} has no package {package}-{series}…-{flavour}")
        release = max(kernels, key=_numbers)
        return release, kernels[release]

    def fetch(self, packages: list[str], folder: Path) -> None:
        """Update the lists, then :meth:`unpack`."""
        self._update()
        self.unpack(packages, folder)

    def unpack(self, packages: list[str], folder: Path) -> None:
        """Download ``packages`` and put their files below ``folder``.

        Raises:
            BuildError: the archive does not respond, or lacks one.
        """
        self._run("apt-get", "download", "-qq", *packages, cwd=folder)
        for package in sorted(folder.glob("*.deb")):
            self._run("dpkg", "-x", str(package), str(folder))
            package.unlink()

    def unpack_closure(self, packages: list[str], root: Path) -> None:
        """Update the lists, and put the files of ``packages`` and all dependencies below ``root``.

        Raises:
            BuildError: the archive does not respond, or lacks one.
        """
        self._update()
        planned = self._run(
            "apt-get", "install", "--simulate", "--no-install-recommends", *packages
        )
        closure = sorted(set(re.findall(r"(?m)^Inst (\S+)", planned)))
        for name in _MERGED:
            (root / "usr" / name).mkdir(parents=True)
            (root / name).symlink_to(f"usr/{name}")
        downloads = self.folder / "downloads"
        downloads.mkdir()
        self._run("apt-get", "download", "-qq", *closure, cwd=downloads)
        for package in sorted(downloads.glob("*.deb")):
            self._run("sh", "-c", _UNPACK, str(package), str(root))
            package.unlink()

    def _update(self) -> None:
        self._prepare()
        self._run("apt-get", "update", "-qq")

    def _prepare(self) -> None:
        for name in ("lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        signed = f" signed-by={_KEYRING}" if _KEYRING.exists() else ""
        (self.folder / "sources.list").write_text(
            # Without `target`, the descriptions of desktop programs would come along.
            f"deb [arch={self.architecture} target=Packages{signed}] "
            f"{_mirror()} {self.suite} main\n",
            encoding="utf-8",
        )
        (self.folder / "status").touch()
        # An empty pkgcache: it would be larger than the lists. A mirror may be behind, and what it
        # has is still signed.
        (self.folder / "apt.conf").write_text(
            f"""
            Dir::Etc::sourcelist "{self.folder}/sources.list";
            Dir::Etc::sourceparts "/dev/null";
            Dir::State "{self.folder}";
            Dir::State::status "{self.folder}/status";
            Dir::Cache "{self.folder}/cache";
            Dir::Cache::pkgcache "";
            Dir::Cache::srcpkgcache "";
            APT::Architecture "{self.architecture}";
            APT::Architectures "{self.architecture}";
            APT::Sandbox::User "";
            APT::Update::Error-Mode "any";
            Acquire::Check-Valid-Until "false";
            Acquire::GzipIndexes "true";
            Acquire::Languages "none";
            Acquire::Retries "3";
            """,
            encoding="utf-8",
        )

    def _run(self, *command: str, cwd: Path | None = None) -> str:
        return _output(*command, cwd=cwd, APT_CONFIG=str(self.folder / "apt.conf"))


def _mirror() -> str:
    """Return the URL of the archive of this machine's own packages.

    Raises:
        BuildError: it has no package source, or not Debian's.
    """
    system = platform.freedesktop_os_release()
    if system.get("ID") != "debian":
        raise BuildError(f"kernels come from Debian's archive, and this is {system['NAME']}")
    # The lists need not be there: a container image is delivered without.
    lines = _output(
        "apt-get", "indextargets", "--no-release-info", "--format", "$(RELEASE) $(REPO_URI)"
    ).splitlines()
    suites = (system.get("VERSION_CODENAME"), *_ROLLING)
    for suite, _, address in (line.partition(" ") for line in lines):
        if suite in suites:
            return address
    raise BuildError("this machine's apt has no source of Debian's main archive")


def _numbers(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release.rpartition("-")[0])]


def _output(*command: str, cwd: Path | None = None, **environ: str) -> str:
    """Return what a command prints; BuildError with its error output if it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=True,
        )
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{' '.join(command)} took more than {_LIMIT_S:g} s") from error
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{' '.join(command)} failed:\n{error.stderr.strip()}") from error
    return done.stdout
