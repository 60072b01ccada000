"""Say what a release of this tree is, and what is still missing: `make release`.

Nothing leaves this machine. --strict fails unless everything is ready; --tag also makes the signed
tag, whose push starts the workflow `release`.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom import __version__
from scripts.build_deb import REVISION, debian_version

REPOSITORY: Final = Path(__file__).parents[1]
SUMS: Final = "SHA256SUMS"
NOTES: Final = "RELEASE_NOTES.md"

VERSIONED: Final = {
    "otel_oom/__init__.py": r'(?m)^__version__ = "(.+)"$',
    "deploy/kubernetes/chart/Chart.yaml": r"(?m)^(?:version|appVersion): (.+)$",
    "otel_oom/otlp/registry/manifest.yaml": r"(?m)^schema_url: https://otel-oom.invalid/schemas/(.+)$",
    "deploy/kubernetes/otel-oom.yaml": r"(?:image: \S+/otel-oom:|/version: )(\S+)",
}
"""Every file that names the version, with the pattern of each place.

Package, image, tag and bill of materials take it from otel_oom/__init__.py when they are built.
"""

_PYTHON: Final = __version__
_DEBIAN: Final = f"{debian_version(__version__)}-{REVISION}"
ARTEFACTS: Final = {
    f"otel_oom-{_PYTHON}.tar.gz": "make dist",
    f"otel_oom-{_PYTHON}-py3-none-manylinux_2_17_x86_64.whl": "make dist",
    f"otel_oom-{_PYTHON}-py3-none-manylinux_2_17_aarch64.whl": "make dist",
    f"otel-oom_{_DEBIAN}_amd64.deb": "make deb",
    f"otel-oom_{_DEBIAN}_arm64.deb": "make deb",
    f"otel-oom-{_PYTHON}-image-amd64.tar": "make image-archives",
    f"otel-oom-{_PYTHON}-image-arm64.tar": "make image-archives",
    f"otel-oom-{_PYTHON}.tgz": "make chart",
    f"otel-oom-{_PYTHON}.cdx.json": "make sbom",
}
"""Each file of a release, with the target that makes it."""

_NEXT: Final = f"""\
The release itself, which this command does not do:
  git tag --sign v{__version__} --message "otel-oom {__version__}"     (make release TAG=1)
  git push origin main v{__version__}
The workflow `release` then builds all of this again, and attaches it to a draft. Publish the draft,
upload the wheels and the sdist with twine, push the images with podman and the chart with helm.
"""


@dataclass(frozen=True)
class Check:
    """A condition of a release."""

    ok: bool
    sentence: str


def main(words: Sequence[str] | None = None) -> int:
    """Write sums and notes beside the artefacts; print all and what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dist", type=Path, default=REPOSITORY / "dist", metavar="FOLDER")
    parser.add_argument("--strict", action="store_true", help="fail unless everything is ready")
    parser.add_argument("--tag", action="store_true", help="strict; then make the signed tag")
    arguments = parser.parse_args(words)
    folder: Path = arguments.dist
    write = sys.stdout.write
    write(f"otel-oom {__version__}\n\n")
    sums = dict(_hash_artefacts(folder))
    for name, target in ARTEFACTS.items():
        write(f"  {sums.get(name, f'missing: {target}'):64}  {name}\n")
    _write_companions(folder, sums)
    checks = [*_check_files(sums), *_check_repository()]
    write("\n" + "".join(f"  {'ok' if c.ok else 'NO'}  {c.sentence}\n" for c in checks))
    write(f"\n{_NEXT}")
    ready = all(check.ok for check in checks)
    if not ready and (arguments.strict or arguments.tag):
        sys.stderr.write("Not ready: see the lines with NO above.\n")
        return 1
    if arguments.tag:
        message = f"--message=otel-oom {__version__}"
        subprocess.run(("git", "tag", "--sign", message, _tag()), cwd=REPOSITORY, check=True)
    return 0


def find_versions() -> Iterator[tuple[str, str]]:
    """Yield each place in the tree that names the version: the file, and the version there."""
    for name, pattern in VERSIONED.items():
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        for version in re.findall(pattern, text):
            yield name, version.strip('"')


def cut_notes(changelog: str, version: str) -> str:
    """Return the section of a version, without its heading.

    Raises:
        ValueError: there is no such section, or it is empty.
    """
    section = re.search(
        rf"(?ms)^## \[?{re.escape(version)}\]?(?: .*?)?$\n(.*?)(?=^## |\Z)", changelog
    )
    if section is None or not section[1].strip():
        raise ValueError(f"CHANGELOG.md has no section {version}, or an empty one")
    return section[1].strip() + "\n"


def _hash_artefacts(folder: Path) -> Iterator[tuple[str, str]]:
    for name in ARTEFACTS:
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                yield name, hashlib.file_digest(file, "sha256").hexdigest()


def _write_companions(folder: Path, sums: dict[str, str]) -> None:
    """Write the sums, in the format of sha256sum(1), and the notes."""
    folder.mkdir(exist_ok=True)
    lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (folder / SUMS).write_text(lines, encoding="utf-8")
    (folder / NOTES).write_text(_notes(), encoding="utf-8")


def _notes() -> str:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    try:
        return cut_notes(changelog, __version__)
    except ValueError:
        return cut_notes(changelog, "Unreleased")


def _check_files(sums: dict[str, str]) -> Iterator[Check]:
    missing = [name for name in ARTEFACTS if name not in sums]
    yield Check(not missing, f"{len(sums)} of {len(ARTEFACTS)} artefacts are built")
    versions = set(find_versions())
    others = sorted(f"{name} has {version}" for name, version in versions if version != __version__)
    yield Check(not others, "; ".join(others) or f"{len(VERSIONED)} files name the same version")
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    dated = re.search(rf"(?m)^## \[?{re.escape(__version__)}\]? .*\d{{4}}-\d\d-\d\d$", changelog)
    yield Check(bool(dated), f"CHANGELOG.md has a section {__version__} with a date")


def _check_repository() -> Iterator[Check]:
    yield Check(not _git("status", "--porcelain"), "the tree has no changes to commit")
    head, tagged = _git("rev-parse", "HEAD"), _git("rev-parse", "-q", "--verify", f"{_tag()}^{{}}")
    yield Check(tagged in {"", head}, f"the tag {_tag()} is new, or that of this commit")


def _tag() -> str:
    return f"v{__version__}"


def _git(*words: str) -> str:
    """Return the output of git; nothing where it fails."""
    command = ("git", "-c", "safe.directory=*", *words)
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main())
