"""What the README says is there, and what is there the README says."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

import pytest

from otel_oom import cli
from otel_oom.config import containers as container_settings
from otel_oom.config import store
from otel_oom.config.otlp import known_variables
from otel_oom.store import Bounds
from tests.testlib.repository import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def _commands() -> dict[str, argparse.ArgumentParser]:
    parser = cli._parser()  # noqa: SLF001  the words of the command line are nowhere else
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))  # noqa: SLF001
    return dict(action.choices)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Those of a command and of its actions."""
    for action in parser._actions:  # noqa: SLF001  as above
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  as above
            for name, child in action.choices.items():
                yield name
                yield from _options(child)


@pytest.mark.parametrize("name", _commands())
def test_every_command_and_option_is_documented(name: str) -> None:
    """Each command has its row in the README, and each option is in that row."""
    row = next(
        (line for line in README.splitlines() if line.startswith(f"| `otel-oom {name}`")), ""
    )
    assert row, name
    for option in _options(_commands()[name]):
        assert option in row or option in {"-h", "--help"}, option


def test_every_variable_is_documented() -> None:
    """Each variable of the exporters stands in the README, and no other that looks like one."""
    general = {n for n in known_variables() if not re.search("_(LOGS|TRACES|METRICS)_", n)}
    mentioned = set(re.findall(r"OTEL_EXPORTER_OTLP_[A-Z_]+", README))
    assert general <= mentioned <= known_variables()


def test_every_bound_is_documented() -> None:
    """Each variable of the store's bounds stands in the README with its default, and no other."""
    rows = dict(re.findall(r"(?m)^\| `(OTEL_OOM_\w+)` \| `(\w+)`", README))
    assert rows.keys() == {store.MAX_BYTES, store.MAX_AGE}
    assert store.read(rows) == Bounds()


def test_the_labels_variable_is_documented() -> None:
    """What chooses the containers' labels stands in the README."""
    assert f"| `{container_settings.LABELS}` | none" in README


def test_every_link_leads_somewhere() -> None:
    """Links within the repository exist, in each page."""
    for page in ("README.md", "examples/README.md", "collector-config/README.md"):
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert ((REPOSITORY / page).parent / target).exists(), f"{page}: {target}"


def test_every_make_target_is_there() -> None:
    """Each `make x` of the README is a target."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?m)^([a-z-]+):", makefile))
    assert set(re.findall(r"(?m)(?:^|`)make ([a-z]+)", README)) <= targets
