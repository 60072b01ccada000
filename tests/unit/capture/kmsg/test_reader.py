"""Records of /dev/kmsg."""

from __future__ import annotations

import pytest

from otel_oom.capture.kmsg.reader import parse_record
from otel_oom.linux.kernel_log.line_types import Line
from tests.testlib.samples.log_lines import KILLED


def test_record_is_parsed() -> None:
    """Lines of ``key=value`` after the text are skipped."""
    line = parse_record(b"3,435,6714986382,-,caller=T5356;Some text; more\n SUBSYSTEM=virtio\n")
    assert line == Line("Some text; more", 6714986382000, 435, 5356, exact=True)


def test_flag_c_continues_the_record_before() -> None:
    line = parse_record(b"4,5743,7587417807,c;,task=tail,pid=8045,uid=0\n")
    assert line is not None
    assert line.continues


def test_records_of_user_space_are_skipped() -> None:
    """User space can't write under the kernel's facility."""
    text = KILLED.encode()
    assert parse_record(b"3,1,1,-;" + text) is not None
    for facility in range(1, 24):
        assert parse_record(b"%d,1,1,-;%s" % (facility << 3 | 3, text)) is None


def test_escaped_bytes_are_decoded() -> None:
    line = parse_record(rb"4,1,1,-;x) a\x0a\x1b[31m\xff\x5c \xc3\xa4 \x5cx41")
    assert line is not None
    assert line.text == "x) a\n\x1b[31m\\xff\\ ä \\x41"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\n",
        b";",
        b"6,1;x",
        b"a,b,c,-;x",
        b"-1,1,1,-;x",
        b"6,1,1,-",
        b"9" * 9000 + b",1,1,-;x",
        b"\xff\xfe,1,1,-;x",
    ],
)
def test_malformed_record_is_skipped(broken: bytes) -> None:
    assert parse_record(broken) is None


def test_only_threads_are_callers() -> None:
    """``caller=C0`` is a processor in an interrupt."""
    for caller in (b"caller=C0", b"caller=T", b"caller=Tx", b"else=T1"):
        line = parse_record(b"6,1,1,-," + caller + b";x")
        assert line is not None
        assert line.caller is None
