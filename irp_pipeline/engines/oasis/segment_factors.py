"""Factors on the ground-up losses of segments, which Oasis LMF applies as post-loss amplification.

A location belongs to a segment by the values of its OED fields. Its items get the amplification id of their factor (by
:mod:`irp_pipeline.engines.oasis.amplify`, between the files and the losses of a run), and each id gets the factor in
every event. A model that has amplification ids or loss factors of its own is refused: they would be replaced.
"""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from irp_pipeline.columns import quoted
from irp_pipeline.engines.oasis import amplify
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.model import Model
from irp_pipeline.engines.oasis.portfolio import rows_of
from irp_pipeline.exposure.oed import OedTable, known_spelling
from irp_pipeline.files import make_folder, write_atomically

LARGEST: Final = 100
_FACTOR: Final = "factor"
_HOOK: Final = "post_file_gen_module"
_CANNOT: Final = {
    _HOOK: "it changes the files of a run itself",
    "exposure_pre_analysis_module": "it changes the portfolio before it runs",
    "model_storage_json": "its data are in a storage",
    "model_custom_gulcalc": "it computes ground-up losses by a program of its own",
}
"""Entries of a model's configuration with which there are no factors by segment, and why."""


@dataclass(frozen=True)
class SegmentFactors:
    """A table of factors.

    Attributes:
        fields: the OED fields of the location table that make a segment.
        factors: the factor by the values of the fields, as text.
        lines: the line of the table of each.
    """

    fields: tuple[str, ...]
    factors: Mapping[tuple[str, ...], float]
    lines: Mapping[tuple[str, ...], int]


def read_factors(path: Path) -> SegmentFactors:
    """Read a table of factors: CSV with OED fields of the location table, and ``factor``.

    Raises:
        OasisError: it is not one; the message names the line and what is wrong there.
        OSError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise OasisError(f"{path.name} is not CSV in UTF-8: {error}") from None
    header = [name.strip() for name in rows[0]] if rows else []
    if _FACTOR not in header or len(header) < 2:
        raise OasisError(
            f"{path.name} must have a column {_FACTOR} and at least one OED field of the location table, such as "
            "OccupancyCode"
        )
    fields = [name for name in header if name != _FACTOR]
    for name in fields:
        if known_spelling(OedTable.LOCATION, name) is None:
            raise OasisError(f"{path.name}: {quoted(name)} is no OED field of the location table")
    factors: dict[tuple[str, ...], float] = {}
    lines: dict[tuple[str, ...], int] = {}
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise OasisError(f"{path.name}, line {line}: has {len(row)} cells; the header has {len(header)}")
        cells = dict(zip(header, (cell.strip() for cell in row), strict=True))
        segment = tuple(cells[name] for name in fields)
        if segment in factors:
            raise OasisError(f"{path.name}, line {line}: the segment {'+'.join(segment)} is there twice")
        factors[segment] = _factor(cells[_FACTOR], f"{path.name}, line {line}")
        lines[segment] = line
    return SegmentFactors(tuple(fields), factors, lines)


def _factor(text: str, place: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        raise OasisError(f"{place}: the factor {quoted(text)} is not a number") from None
    if not 0 < factor <= LARGEST:
        raise OasisError(f"{place}: the factor {text} must be above 0 and at most {LARGEST}")
    return factor


def by_segment(folder: Path, request: Mapping[str, Any], model: Model) -> tuple[dict[str, str], list[str]]:
    """Write what Oasis LMF needs for the factors of a job.

    Args:
        folder: the job's folder, with ``inputs``.
        request: its request; ``segment_multipliers`` is the table on this machine.
        model: its model.

    Returns:
        The entries of the model's configuration for the factors, and the lines of the table that apply to no location,
        in words; both empty if the analysis names no table.

    Raises:
        OasisError: the table is wrong, or applies to no location; or the model cannot have such factors.
    """
    if not request.get("segment_multipliers"):
        return {}, []
    for entry, why in _CANNOT.items():
        if model.configuration.get(entry):
            raise OasisError(f"The model cannot have segment_multipliers: {why} ({entry})")
    data = model.path("model_data_dir")
    if data is None or any(data.glob("lossfactors*")):
        raise OasisError("The model has loss factors of its own (lossfactors), which segment_multipliers would replace")
    path = Path(str(request["segment_multipliers"]))
    table = read_factors(path)
    uniform = float(request["analysis"].get("loss_multiplier") or 1)
    segments = _segments(folder / "inputs" / "location.csv", table, path.name)
    ignored = [
        f"line {line} of {path.name}: no location has {'+'.join(table.fields)} {'+'.join(segment)}"
        for segment, line in table.lines.items()
        if segment not in set(segments)
    ]
    if len(ignored) == len(table.factors):
        raise OasisError(
            f"{path.name} applies to no location of the portfolio: {ignored[0] if ignored else 'it is empty'}"
        )
    of_row = [uniform * table.factors.get(segment, 1.0) for segment in segments]
    ids = {factor: number for number, factor in enumerate(sorted(set(of_row)), start=1)}
    make_folder(folder / "user_data")
    (folder / "user_data" / "lossfactors.bin").write_bytes(_loss_factors(_events(data), ids))
    setting = folder / "amplify.json"
    write_atomically(setting, json.dumps({"amplification_of_row": [ids[factor] for factor in of_row]}))
    return {
        _HOOK: str(Path(amplify.__file__)),
        "post_file_gen_class_name": amplify.Amplify.__name__,
        "post_file_gen_setting_json": str(setting),
        "user_data_dir": str(folder / "user_data"),
    }, ignored


def _segments(locations: Path, table: SegmentFactors, name: str) -> list[tuple[str, ...]]:
    """The segment of each row of the location table."""
    if not locations.is_file():
        raise OasisError(f"{name} needs a location table, and the portfolio has none")
    return [tuple(row[field].strip() for field in table.fields) for row in rows_of(locations, table.fields)]


def _events(data: Path) -> Sequence[int]:
    """All events of a model."""
    found: set[int] = set()
    for file in data.glob("events*.bin"):
        found.update(number for (number,) in struct.iter_unpack("<i", file.read_bytes()))
    if not found:
        raise OasisError(f"The model cannot have segment_multipliers: {data} has no events*.bin")
    return sorted(found)


def _loss_factors(events: Sequence[int], ids: Mapping[float, int]) -> bytes:
    """``lossfactors.bin``: a header of four bytes; for each event its number, the number of ids, and each id's factor.

    ``get_post_loss_amplification_factors`` in ``oasislmf/pytools/pla/structure.py``
    """
    factors = b"".join(struct.pack("<if", number, factor) for factor, number in ids.items())
    return b"\0\0\0\0" + b"".join(_of_events(events, len(ids), factors))


def _of_events(events: Sequence[int], count: int, factors: bytes) -> Iterator[bytes]:
    for event in events:
        yield struct.pack("<ii", event, count)
        yield factors
