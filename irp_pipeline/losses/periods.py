"""The losses of each sampled year, from period loss tables.

The tables are those of Oasis LMF: ``plt_sample``, one row for each occurrence of an event, sample and summary, in the
Open Results Data standard (https://github.com/OasisLMF/ODS_OpenResultsData, SPLT).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from irp_pipeline.errors import IrpError

if TYPE_CHECKING:
    import pyarrow as pa

SegmentValues = tuple[str, ...]
"""The values of a segment."""
YEAR = ("Period", "SampleId")
"""The columns that identify a sampled year."""

_MOMENT = ("Year", "Month", "Day", "Hour", "Minute")
_SUMMARY = "SummaryId"
_SEGMENT = "Segment"
_WEIGHT = "PeriodWeight"
_NEEDED = (*YEAR, "EventId", "Loss")
_ROWS_AT_ONCE = 20_000_000
_WEIGHT_TOLERANCE = 1e-4  # the weights are in single precision


class LossError(IrpError):
    """Losses cannot be read or added up as requested."""


def period_losses(*paths: Path, periods: int | None = None) -> pa.Table:
    """Add up the losses of each sampled year, over one or several tables of one occurrence set.

    An event that is in several tables is one occurrence: its losses are added up before the largest occurrence of a
    year is found. A table with several summaries counts as several tables. The rows of mean and maximum losses
    (``SampleId`` 0 and below) are left out.

    At most about 20 million rows are held at once: larger inputs are read several times, a range of years each time.

    Args:
        paths: Parquet files as Oasis LMF writes ``plt_sample``.
        periods: the number of simulated years, to check the years and their weights against it; None means no check.

    Returns:
        One row for each sampled year with a loss, in the order of years and samples: Period, SampleId, AnnualLoss (the
        sum of its occurrences), LargestLoss (the largest of them). Years without a loss are missing.

    Raises:
        LossError: a file is missing or is not such a table, it has years that are not among the ``periods``, or the
            years have different weights.
    """
    import pyarrow as pa

    for path in paths:
        _check(path, periods)
    parts = [_by_year(_by_occurrence(paths, first, last)) for first, last in _ranges(paths)]
    return pa.concat_tables(parts).sort_by([(name, "ascending") for name in YEAR])


def segment_period_losses(
    sources: Sequence[tuple[Path, Mapping[int, SegmentValues]]], periods: int | None = None
) -> dict[SegmentValues, pa.Table]:
    """Add up the losses of each sampled year for each segment, as :func:`period_losses` does for the whole.

    Args:
        sources: tables of one occurrence set, whose summaries are segments; each with the segment of its summaries by
            their ``SummaryId``. Other summaries are left out.
        periods: as for :func:`period_losses`.

    Returns:
        By segment, a table as :func:`period_losses` returns it; empty for a segment without a loss.

    Raises:
        LossError: as for :func:`period_losses`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    paths = [path for path, _ in sources]
    for path in paths:
        _check(path, periods)
    numbers: dict[SegmentValues, int] = {}
    for _, of_summary in sources:
        for segment in of_summary.values():
            numbers.setdefault(segment, len(numbers))
    segments = [{summary: numbers[segment] for summary, segment in of.items()} for _, of in sources]
    parts = [_by_year(_by_occurrence(paths, first, last, segments), _SEGMENT) for first, last in _ranges(paths)]
    years = pa.concat_tables(parts).sort_by([(name, "ascending") for name in (_SEGMENT, *YEAR)])
    ends = {entry["values"].as_py(): entry["counts"].as_py() for entry in pc.value_counts(years[_SEGMENT])}
    found, begin = {}, 0
    for segment, number in numbers.items():
        count = ends.get(number, 0)
        found[segment] = years.slice(begin, count).drop_columns([_SEGMENT])
        begin += count
    return found


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """Add up the sampled years of several occurrence sets by their numbers: the sets share no occurrences.

    Args:
        tables: as :func:`period_losses` returns them.

    Returns:
        A table of the same form.
    """
    import pyarrow as pa

    added = pa.concat_tables(tables).group_by(list(YEAR), use_threads=False)
    return (
        added.aggregate([("AnnualLoss", "sum"), ("LargestLoss", "max")])
        .rename_columns([*YEAR, "AnnualLoss", "LargestLoss"])
        .sort_by([(name, "ascending") for name in YEAR])
    )


def _check(path: Path, periods: int | None) -> None:
    import pyarrow as pa
    import pyarrow.dataset as ds

    if not path.is_file():
        raise LossError(f"The period losses {path} are missing")
    try:
        names = ds.dataset(path, format="parquet").schema.names
    except (pa.ArrowInvalid, OSError) as error:
        raise LossError(f"{path} cannot be read as a Parquet file: {error}") from error
    if lacking := [name for name in _NEEDED if name not in names]:
        raise LossError(f"{path} is not a table of period losses: it has no column {', '.join(lacking)}")
    if periods is None:
        return
    first, last = _extremes(path, "Period")
    if first is not None and last is not None and not 1 <= first <= last <= periods:
        raise LossError(f"{path} has losses of the years {first:g} to {last:g}, but there are {periods:,} years")
    if _WEIGHT in names:
        least, most = _extremes(path, _WEIGHT)
        even = 1 / periods
        if least is not None and most is not None and max(even - least, most - even) > _WEIGHT_TOLERANCE * even:
            raise LossError(
                f"The years of {path} have weights from {least:g} to {most:g}. Only years of equal weight (here "
                f"{even:g}) can be added up"
            )


def _extremes(path: Path, column: str) -> tuple[float | None, float | None]:
    """Return the smallest and the largest value of a column: from the file's footer, else by reading the column."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        position = file.schema_arrow.names.index(column)
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        told = [group.column(position).statistics for group in groups if group.num_rows]
        if all(item is not None and item.has_min_max for item in told):
            return min((item.min for item in told), default=None), max((item.max for item in told), default=None)
        extremes = pc.min_max(file.read([column])[column]).as_py()
    return extremes["min"], extremes["max"]


def _ranges(paths: Sequence[Path]) -> Iterator[tuple[int, int]]:
    """Cut the years into ranges that fit into memory; each range includes its last year."""
    import pyarrow.parquet as pq

    rows = sum(pq.read_metadata(path).num_rows for path in paths)
    parts = max(1, -(-rows // _ROWS_AT_ONCE))
    last_period = int(max((_extremes(path, "Period")[1] or 1 for path in paths), default=1))
    step = -(-last_period // parts)
    for first in range(1, last_period + 1, step):
        yield first, min(first + step - 1, last_period)


def _by_occurrence(
    paths: Sequence[Path], first: int, last: int, segments: Sequence[Mapping[int, int]] | None = None
) -> pa.Table:
    """Return the loss of each occurrence in a range of years, over all tables; of each segment, if there are any.

    An event that occurs twice at the same moment has two identical rows. The largest of them is the loss of one
    occurrence, their sum is the loss of both in the year.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    period = pc.field("Period")
    chosen = (period >= first) & (period <= last) & (pc.field("SampleId") > 0) & (pc.field("Loss") != 0)
    tables = []
    for number, path in enumerate(paths):
        dataset = ds.dataset(path, format="parquet")
        names = set(dataset.schema.names)
        columns = {name: pc.field(name).cast("int32") for name in (*YEAR, "EventId")}
        columns |= {name: pc.field(name).cast("int32") if name in names else pc.scalar(0) for name in _MOMENT}
        columns |= {
            _SUMMARY: pc.field(_SUMMARY).cast("int32") if _SUMMARY in names else pc.scalar(1),
            "Table": pc.scalar(number),
            "Loss": pc.field("Loss").cast("float64"),
        }
        table = dataset.to_table(columns=columns, filter=chosen)
        tables.append(table if segments is None else _with_segments(table, segments[number]))
    occurrence = [*([] if segments is None else [_SEGMENT]), *YEAR, "EventId", *_MOMENT]
    of_each = (
        pa.concat_tables(tables)
        .group_by([*occurrence, _SUMMARY, "Table"], use_threads=False)  # threads would add in a different order
        .aggregate([("Loss", "sum"), ("Loss", "max")])
    )
    return of_each.group_by(occurrence, use_threads=False).aggregate([("Loss_sum", "sum"), ("Loss_max", "sum")])


def _with_segments(losses: pa.Table, numbers: Mapping[int, int]) -> pa.Table:
    """Add the number of its segment to each loss; leave out losses of summaries without one."""
    import pyarrow as pa

    segments = pa.table(
        {_SUMMARY: pa.array(numbers.keys(), pa.int32()), _SEGMENT: pa.array(numbers.values(), pa.int32())}
    )
    return losses.join(segments, _SUMMARY, join_type="inner", use_threads=False)


def _by_year(occurrences: pa.Table, *more: str) -> pa.Table:
    key = [*more, *YEAR]
    years = occurrences.group_by(key, use_threads=False)
    return years.aggregate([("Loss_sum_sum", "sum"), ("Loss_max_sum", "max")]).rename_columns(
        [*key, "AnnualLoss", "LargestLoss"]
    )
