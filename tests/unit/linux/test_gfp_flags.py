"""The kernel's own names of gfp flags, from a tracepoint's print format."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_oom.linux.gfp_flags import GfpFlagNames, parse_flag_names

HEAD = 'print fmt: "gfp_flags=%s", (REC->gfp_flags) ? __print_flags(REC->gfp_flags, "|", '

OLD = HEAD + (
    "{(unsigned long)((( gfp_t)(0x400u|0x800u)) | (( gfp_t)0x40u) | (( gfp_t)0x80u)), "
    '"GFP_KERNEL"}, {(unsigned long)(( gfp_t)0x8000u), "__GFP_NOFAIL"}, '
    '{(unsigned long)(( gfp_t)0x100u), "__GFP_ZERO"} ) : "none"'
)
NEW = HEAD + (
    "{( unsigned long)((( gfp_t)(((((1UL))) << (10))|((((1UL))) << (11)))) | "
    "(( gfp_t)((((1UL))) << (6))) | (( gfp_t)((((1UL))) << (7)))) & ~(( gfp_t)0), "
    '"GFP_KERNEL"}, {( unsigned long)(( gfp_t)((((1UL))) << (15))), "__GFP_NOFAIL"}, '
    '{( unsigned long)(( gfp_t)0), "__GFP_NOTHING"} ) : "none"'
)


@pytest.mark.parametrize("text", [OLD, NEW], ids=["numbers", "shifts"])
def test_both_forms_of_the_table_are_parsed(text: str) -> None:
    """Kernels print numbers or shifts; a flag without bits is left out."""
    assert parse_flag_names(text)[:2] == [(0xCC0, "GFP_KERNEL"), (0x8000, "__GFP_NOFAIL")]
    assert "__GFP_NOTHING" not in [name for _, name in parse_flag_names(text)]


def test_a_mask_is_formatted_like_the_kernel(tmp_path: Path) -> None:
    """Names in the table's order, each taking its bits away; the rest is a number."""
    (tmp_path / "format").write_text(OLD, encoding="ascii")
    names = GfpFlagNames((tmp_path / "missing", tmp_path / "format"))
    # Read beforehand: a kill waits for no file.
    (tmp_path / "format").unlink()
    assert names.format_mask(0x8CC0) == "GFP_KERNEL|__GFP_NOFAIL"
    assert names.format_mask(0xCC0 | 1 << 40) == "GFP_KERNEL|0x10000000000"


def test_without_tracefs_there_are_no_names(tmp_path: Path) -> None:
    assert GfpFlagNames((tmp_path / "missing",)).format_mask(0xCC0) is None


@pytest.mark.parametrize(
    "value",
    [
        "(1UL) << (99999)",
        "1 << -1",
        "f(1)",
        "1.5",
        "1 + 1",
        "~" * 99999,
        "1|" * 2000 + "1",
        "(" * 9000,
        "(1",
        "1 +",
        "x",
        "",
        "~",
        "1UL << ",
    ],
)
def test_an_invalid_expression_costs_its_name_alone(value: str) -> None:
    text = HEAD + f'{{{value}, "BAD"}}, {{0x40u, "GOOD"}} ) : "none"'
    assert parse_flag_names(text) == [(0x40, "GOOD")]


FORMATS = Path(__file__).with_name("data") / "gfp"

# What the kernels themselves wrote of OOM kills: a fault, a shell's fork, sysrq.
LOGGED = {
    "5.10": ["0x100cca(GFP_HIGHUSER_MOVABLE)", "0xcc0(GFP_KERNEL)"],
    "6.1": ["0x100cca(GFP_HIGHUSER_MOVABLE)", "0xcc0(GFP_KERNEL)"],
    "6.12": ["0x100cca(GFP_HIGHUSER_MOVABLE)", "0xcc0(GFP_KERNEL)"],
    "6.18": [
        "0x100cca(GFP_HIGHUSER_MOVABLE)",
        "0x440dc0(GFP_KERNEL_ACCOUNT|__GFP_ZERO|__GFP_COMP)",
        "0x500cc2(GFP_HIGHUSER|__GFP_ACCOUNT)",
        "0xcc0(GFP_KERNEL)",
    ],
    "7.2": ["0x100cca(GFP_HIGHUSER_MOVABLE)", "0xcc0(GFP_KERNEL)"],
}


@pytest.mark.parametrize("kernel", LOGGED)
def test_masks_of_real_kernels(kernel: str) -> None:
    """Masks that each kernel logged, by the tracepoint's format of that kernel."""
    path = FORMATS / f"{kernel}.txt"
    names = GfpFlagNames((path,))
    for logged in LOGGED[kernel]:
        mask, _, text = logged.rstrip(")").partition("(")
        assert names.format_mask(int(mask, 16)) == text
    text = path.read_text(encoding="ascii")
    assert len(parse_flag_names(text)) == text.count('"__GFP_') + text.count('"GFP_') > 30


def test_an_empty_mask_is_an_empty_text() -> None:
    """As by format_flags(); "none" is the tracepoint's own word."""
    assert GfpFlagNames((FORMATS / "6.12.txt",)).format_mask(0) == ""
