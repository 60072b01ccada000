"""The pinned requirements of the agent, compared with its dependencies."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.testlib.repository import REPOSITORY


class Pin(NamedTuple):
    """A version, and the SHA-256 hashes of its files."""

    version: str
    hashes: frozenset[str]


def read_text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def read_pins(name: str) -> dict[str, Pin]:
    """Read a file that pip-compile has written."""
    pins = {}
    for block in re.split(r"\n(?=\w)", read_text(name)):
        match = re.match(r"([\w.-]+)==(\S+) .*\\\n", block)
        assert match, block
        hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})\b", block))
        pins[match[1]] = Pin(match[2], hashes)
    return pins


def dependencies() -> list[Requirement]:
    """Return the dependencies of the agent in pyproject.toml, with those of three extras."""
    project = tomllib.loads(read_text("pyproject.toml"))["project"]
    extras = (project["optional-dependencies"][name] for name in ("grpc", "prometheus", "zstd"))
    return [Requirement(text) for texts in (project["dependencies"], *extras) for text in texts]


def test_every_dependency_is_pinned_by_hash() -> None:
    pins = read_pins("requirements.txt")
    assert all(pin.hashes for pin in pins.values())
    for dependency in dependencies():
        assert dependency.specifier.contains(pins[canonicalize_name(dependency.name)].version)


def test_their_own_dependencies_are_pinned_too() -> None:
    """With those of each interpreter that the tests run with."""
    pins, waiting, names = read_pins("requirements.txt"), dependencies(), set[str]()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        is_needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if is_needed and name not in names:
            names.add(name)
            waiting += map(Requirement, requires(name) or ())
    assert names <= pins.keys()


def test_the_tests_run_with_the_pinned_versions() -> None:
    pins, of_development = read_pins("requirements.txt"), read_pins("requirements-dev.txt")
    assert pins == {name: of_development[name] for name in pins}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dist.txt"])
def test_the_pins_name_no_registry(name: str) -> None:
    """Whoever installs them chooses one."""
    lines = [line.strip() for line in read_text(name).splitlines()]
    assert {line[:7] for line in lines if line.startswith("-")} == {"--hash="}
    assert not any("://" in line for line in lines)


def test_releases_install_by_hash() -> None:
    """In each place that describes or makes an installation."""
    for name in ("README.md", "docs/install.md", ".github/workflows/release.yml"):
        installs = re.findall(
            r"pip install .*(?:requirements\.txt|\.whl| \.)(?=\s|$)", read_text(name)
        )
        assert any("--require-hashes" in line for line in installs), name
        for line in installs:
            assert "--require-hashes" in line or "--no-deps" in line, f"{name}: {line}"
