"""The task table of a report: its layouts, its largest processes, its page size."""

from __future__ import annotations

import os

import pytest

from otel_oom.linux.kernel_log.task_table import MAX_LARGEST, TableRow, TaskTableReader

PAGE = os.sysconf("SC_PAGE_SIZE")

LAYOUTS = {
    "2.6.25": (
        "uid tgid total_vm rss cpu oom_adj name",
        "[ 5007]  1000  5007     8421     1220   3     -17 a b) c",
        TableRow(5007, 1000, 5007, 1220, "a b) c"),
    ),
    "2.6.36": (
        "uid tgid total_vm rss cpu oom_adj oom_score_adj name",
        "[   17]     0    16      710       12   0       0           -17 x",
        TableRow(17, 0, 16, 12, "x", score_adj=-17),
    ),
    "3.7": (
        "uid tgid total_vm rss nr_ptes swapents oom_score_adj name",
        "[  811] 65534   811    40000      900      70      300             0  7 8",
        TableRow(811, 65534, 811, 900, " 7 8", 300, 70, score_adj=0),
    ),
    "4.0": (
        "uid tgid total_vm rss nr_ptes nr_pmds swapents oom_score_adj name",
        "[  811]    -1   811    40000      900      70       3      300          1000 ",
        TableRow(811, (1 << 32) - 1, 811, 900, "", 300, 73, score_adj=1000),
    ),
    "4.15": (
        "uid tgid total_vm rss pgtables_bytes swapents oom_score_adj name",
        "[    811]     0   811    40000      900   290816      300         -1000 y",
        TableRow(811, 0, 811, 900, "y", 300, page_table_bytes=290816, score_adj=-1000),
    ),
    "6.8": (
        "uid tgid total_vm rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj x",
        "[1234567] 1000 1234567    40000     900     800     90    10   290816     300   5 z",
        TableRow(1234567, 1000, 1234567, 900, "z", 300, page_table_bytes=290816, score_adj=5),
    ),
}


def read_rows(columns: str, *rows: str) -> TaskTableReader:
    """Return a reader that accepted these rows."""
    table = TaskTableReader(tuple(columns.split()), 0)
    assert [table.add(row) for row in rows] == [True] * len(rows)
    return table


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_read_by_its_header(layout: str) -> None:
    columns, text, row = LAYOUTS[layout]
    table = read_rows(columns, text).build()
    assert table.largest == (row,)
    assert table.tgids == ({row.tid: row.tgid} if row.tid != row.tgid else {})


def test_the_largest_rows_are_kept_and_all_are_counted() -> None:
    """By resident memory, swap and page tables."""
    columns = LAYOUTS["4.15"][0]
    rows = [
        f"[{pid:7}]     0 {pid:5}     9000 {pid:8}     0        0     0 p" for pid in range(500)
    ]
    rows.append(f"[    999]     0   999     9000        0 {600 * PAGE:8} 400    0 swapped")
    table = read_rows(columns, *rows).build()
    assert table.count == 501
    assert [row.tid for row in table.largest] == [999, *range(499, 499 - MAX_LARGEST + 1, -1)]


@pytest.mark.parametrize("size", [4096, 16384, 65536])
def test_the_page_size_is_that_of_the_kernel_that_printed_it(size: int) -> None:
    """A file may come from another machine: the size follows from a process shown in kB."""
    table = read_rows(*LAYOUTS["4.15"][:2]).build()
    assert table.page_bytes(811, 40000 * size) == size
    for unknown in (
        table.page_bytes(1, 40000 * size),
        table.page_bytes(811, 40000 * 5),
        table.page_bytes(811, 0),
    ):
        assert unknown == PAGE


@pytest.mark.parametrize(
    "text",
    [
        "[  811]     0   811    40000      900   290816      300",
        "[  811]     0   811    40000      900   290816      300         -1000y",
        "[  811]     0   x11    40000      900   290816      300         -1000 y",
        "[" + " " * 9000 + "811]     0   811    40000      900   290816      300   -1000 y",
        "[  811]     0   811    40000      900   290816      300         -1000 " + "y" * 100,
        "[  811]     0   811    40000      900   290816      300         " + "9" * 99 + " y",
        "",
    ],
)
def test_a_line_that_resembles_a_row_is_none(text: str) -> None:
    table = TaskTableReader(tuple(LAYOUTS["4.15"][0].split()), 0)
    assert not table.add(text)
    assert table.build().count == 0


def test_a_table_without_end_is_bounded() -> None:
    reader = TaskTableReader(tuple(LAYOUTS["2.6.25"][0].split()), 0)
    for pid in range(20_000):
        assert reader.add(f"[{pid}] 0 {pid + 1} 1 {pid} 0 0 x")
    table = reader.build()
    assert table.count == 20_000
    assert len(table.largest) == MAX_LARGEST
    assert len(table.total_vm) <= 4096
    assert len(table.tgids) <= 4096
