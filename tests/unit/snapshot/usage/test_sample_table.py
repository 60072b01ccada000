"""The table of samples."""

from __future__ import annotations

from otel_oom.snapshot.usage.sample_table import SampleTable


def fill(table: SampleTable, column: int, samples: dict[int, int]) -> None:
    for tick in range(max(samples) + 1):
        table.begin_row(tick)
        if tick in samples:
            table.set_sample(column, samples[tick])


def test_the_last_samples_stay_in_their_order_and_a_missing_one_is_none() -> None:
    table = SampleTable(row_count=4, max_columns=128)
    column = table.add_column()
    assert column is not None
    fill(table, column, {0: 10, 1: 11, 2: 12, 4: 14, 5: 15})
    assert table.read_column(column, last_tick=5) == [12, None, 14, 15]
    assert table.read_column(column, last_tick=4) == [12, None, 14]
    assert table.read_column(column, last_tick=99) == [12, None, 14, 15]


def test_rows_of_missed_ticks_are_empty() -> None:
    table = SampleTable(row_count=4, max_columns=128)
    column = table.add_column()
    assert column is not None
    fill(table, column, {0: 10, 1: 11, 2: 12, 3: 13})
    table.begin_row(6)
    table.set_sample(column, 16)
    assert table.read_column(column, last_tick=6) == [13, None, None, 16]
    table.begin_row(1_000_000)
    assert table.read_column(column, last_tick=1_000_000) == [None] * 4


def test_a_released_column_is_given_away_without_its_samples() -> None:
    table = SampleTable(row_count=4, max_columns=128)
    column = table.add_column()
    assert column is not None
    fill(table, column, {0: 10})
    table.release_column(column)
    assert table.add_column() == column
    assert table.read_column(column, last_tick=0) == [None]


def test_no_more_columns_than_allowed_and_each_has_its_own_samples() -> None:
    table = SampleTable(row_count=2, max_columns=256)
    columns = [column for _ in range(256) if (column := table.add_column()) is not None]
    assert len(set(columns)) == 256
    assert table.add_column() is None
    table.begin_row(0)
    for column in columns:
        table.set_sample(column, 1000 + column)
    assert all(table.read_column(column, 0) == [1000 + column] for column in columns)


def test_a_thousand_columns_of_ten_minutes_take_half_a_megabyte() -> None:
    table = SampleTable(row_count=121, max_columns=2048)
    for _ in range(1000):
        table.add_column()
    assert table.size_bytes <= 500_000
