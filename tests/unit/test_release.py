"""What `make release` says of a release, and that versions agree everywhere."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_oom import __version__
from scripts import release
from scripts.build_deb import debian_version
from scripts.build_sbom import add_libraries, list_libraries
from tests.testlib.command import run_command
from tests.testlib.repository import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
CHANGELOG = """\
# Changelog

## Unreleased

- Next.

## 1.2.0 - 2026-11-28

### Added

- New.

## 1.2.0rc1 - 2026-11-01

- Old.
"""


def test_versions_agree_everywhere() -> None:
    """Each file of the table names the version of the package, at one place or more."""
    found = list(release.find_versions())
    assert {name for name, _ in found} == set(release.VERSIONED)
    assert {version for _, version in found} == {__version__}


def test_no_other_file_names_the_version() -> None:
    """A file that names it belongs into the table, or takes it from the package."""
    git = ("git", "-c", "safe.directory=*", "grep", "-lFI", "--untracked")
    places = (
        "deploy",
        "docs",
        "README.md",
        "RELEASING.md",
        "*.toml",
        "Makefile",
        ".github",
        "scripts",
        "otel_oom",
    )
    done = run_command([*git, __version__, "--", *places], cwd=REPOSITORY)
    assert done.code == 0, done
    assert set(done.out.split()) == set(release.VERSIONED)


@pytest.mark.parametrize("version", ["0.1.0.dev3", "0.1.0a1", "0.1.0rc2"])
def test_debian_orders_versions_like_python(version: str) -> None:
    """By dpkg's own comparison: a candidate is older than its release."""
    words = ("dpkg", "--compare-versions", f"{debian_version(version)}-1", "lt", "0.1.0-1")
    assert run_command(words).code == 0


def test_notes_are_the_section_of_the_version() -> None:
    assert release.cut_notes(CHANGELOG, "1.2.0") == "### Added\n\n- New.\n"
    assert release.cut_notes(CHANGELOG, "1.2.0rc1") == "- Old.\n"
    with pytest.raises(ValueError, match=r"no section 1\.3\.0"):
        release.cut_notes(CHANGELOG, "1.3.0")


def test_each_artefact_is_listed_with_its_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the judgement of sha256sum; the others are missing, with the target that makes them."""
    built = sorted(release.ARTEFACTS)[:2]
    for name in built:
        (tmp_path / name).write_text(name, encoding="utf-8")
    assert release.main(["--dist", str(tmp_path)]) == 0
    listed = capsys.readouterr().out.splitlines()
    words = ("sha256sum", "--check", "--strict", release.SUMS)
    checked = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert sorted(checked.stdout.split()[::2]) == sorted(f"{name}:" for name in built)
    for name, target in release.ARTEFACTS.items():
        (line,) = (each for each in listed if each.endswith(f" {name}"))
        assert (f"missing: {target}" in line) == (name not in built)
    assert (tmp_path / release.NOTES).read_text(encoding="utf-8").strip()


def test_a_release_that_is_not_ready_fails_and_tags_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git = ("git", "-c", "safe.directory=*", "tag")
    tags = run_command(git, cwd=REPOSITORY)
    for option in ("--strict", "--tag"):
        assert release.main(["--dist", str(tmp_path), option]) == 1
        assert capsys.readouterr().err == "Not ready: see the lines with NO above.\n"
    assert run_command(git, cwd=REPOSITORY) == tags


def test_targets_of_artefacts_exist() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8")))
    assert {target.removeprefix("make ") for target in release.ARTEFACTS.values()} <= targets


def test_the_bill_of_materials_has_the_libraries_in_c() -> None:
    """Those of native/NOTICE, as dependencies of the package."""
    document: dict[str, Any] = {
        "components": [],
        "dependencies": [{"ref": "root"}],
        "metadata": {"component": {"bom-ref": "root"}},
    }
    add_libraries(document)
    libraries = list(list_libraries())
    assert [library["name"] for library in libraries] == ["libbpf", "elfutils", "zlib"]
    assert json.loads(json.dumps(document))["components"] == libraries
    root, *others = document["dependencies"]
    assert root["dependsOn"] == sorted(each["ref"] for each in others)
    licences = {
        name: each["licenses"][0]["expression"] for each in libraries for name in [each["name"]]
    }
    assert licences == {
        "libbpf": "BSD-2-Clause",
        "elfutils": "LGPL-3.0-or-later OR GPL-2.0-or-later",
        "zlib": "Zlib",
    }


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    """With the version in a comment, which dependabot keeps up to date."""
    text = path.read_text(encoding="utf-8")
    uses = re.findall(r"(?m)^.*\buses: (.+)$", text)
    assert uses
    for each in uses:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", each), each
    ecosystems = yaml.safe_load((REPOSITORY / ".github/dependabot.yml").read_text("utf-8"))
    assert "github-actions" in {each["package-ecosystem"] for each in ecosystems["updates"]}
