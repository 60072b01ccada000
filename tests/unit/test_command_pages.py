"""The man page and the completions of shells, read by the programs that use them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otel_oom import cli
from scripts.command_line import list_commands
from scripts.generate_man import MAN_PAGE, render_completion, render_man_page
from tests.testlib.command import run_command
from tests.testlib.require import require_programs

_COMPLETE = """\
source "$0"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
$(complete -p otel-oom | sed 's/.*-F //; s/ .*//')
printf '%s\\n' "${COMPREPLY[@]}"
"""
COMMANDS = list(list_commands("otel-oom", cli.build_parser()))


def complete_by_bash(folder: Path, *words: str) -> set[str]:
    """Return what bash offers for the last of the words."""
    script = folder / "otel-oom"
    script.write_text(render_completion("bash"), encoding="utf-8")
    bash = ("bash", "--norc", "-c", _COMPLETE)
    done = run_command([*bash, script, "otel-oom", *words], cwd=folder)
    assert done.code == 0, done
    return set(done.out.split())


def test_bash_completes_commands_options_and_values(tmp_path: Path) -> None:
    first = {command.name.split()[1] for command in COMMANDS}
    assert complete_by_bash(tmp_path, "") == first
    assert complete_by_bash(tmp_path, "ev") == {"events"}
    assert complete_by_bash(tmp_path, "run", "--so") == {"--source"}
    assert complete_by_bash(tmp_path, "run", "--source", "kms") == {"kmsg"}


def test_bash_completes_folders(tmp_path: Path) -> None:
    """For an option that is a folder, and no files."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert complete_by_bash(tmp_path, "run", "--state-dir", "f") == {"folder"}


def test_the_man_page_has_every_command_and_option() -> None:
    page = render_man_page().replace("\\-", "-")
    sections = re.split(r"(?m)^\.S[HS] ", page)
    for command in COMMANDS:
        (section,) = (s for s in sections if s.startswith(f"{command.name}\n"))
        assert command.sentence in section
        for words, _ in command.arguments:
            assert f'.B "{words}"' in section
    assert ".SS otel-oom queue drop\n" in page
    assert '.B "OTEL_EXPORTER_OTLP_ENDPOINT"' in page


@pytest.mark.slow
def test_mandoc_finds_no_fault_in_the_man_page(tmp_path: Path) -> None:
    """Except long lines of its source, and that it has no date: it is the same on every day."""
    require_programs("mandoc")
    (tmp_path / MAN_PAGE).write_text(render_man_page(), encoding="utf-8")
    done = run_command(["mandoc", "-Tlint", MAN_PAGE], cwd=tmp_path)
    faults = re.findall(r"(?m)^mandoc: (?!.*(?:longer than 80 bytes|missing date)).*$", done.out)
    assert faults == []
    text = run_command(["mandoc", "-Tutf8", MAN_PAGE], cwd=tmp_path).out
    assert re.sub(".\b", "", text).startswith("OTEL-OOM(8)")


@pytest.mark.slow
def test_zsh_loads_its_completion(tmp_path: Path) -> None:
    """As a function of the command, by compinit."""
    require_programs("zsh")
    (tmp_path / "_otel-oom").write_text(render_completion("zsh"), encoding="utf-8")
    script = (
        "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; "
        "autoload +X _otel-oom && print $_comps[otel-oom]"
    )
    done = run_command(["zsh", "-f", "-c", script], cwd=tmp_path)
    assert (done.code, done.out, done.err) == (0, "_otel-oom\n", "")
