"""Numbers of records of the kernel log, by which a kill of the log is identified.

/dev/kmsg numbers each record. syslog(2) does not: its records are numbered by their time, in a
range of their own.
"""

from __future__ import annotations

from typing import Final

_SYSLOG: Final = 1 << 62
_INDEX_BITS: Final = 8


def number_syslog_record(time_us: int, index: int) -> int:
    """Return the number of a record of syslog(2), the same for each reader.

    ``index`` counts the records before it with the same microsecond.
    """
    return _SYSLOG | time_us << _INDEX_BITS | min(index, (1 << _INDEX_BITS) - 1)


def is_same_numbering(number: int, other: int) -> bool:
    """Return whether two numbers are of the same range, and so can be compared."""
    return (number >= _SYSLOG) == (other >= _SYSLOG)
