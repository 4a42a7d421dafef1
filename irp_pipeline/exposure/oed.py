"""The tables of the Open Exposure Data standard, their columns, and the type of each column here.

Only names and types, from the specification in ods_tools. :mod:`irp_pipeline.exposure.readers` reads data,
:mod:`irp_pipeline.exposure.validate` checks values.

A column's type depends only on its name, never on the data. So every batch, every database and every quarter
gives the same Parquet schema. Identifiers such as ``PortNumber`` or ``PostalCode`` are text and keep their leading
zeros. A column that the standard does not know is kept, as text.
"""

import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from irp_pipeline.exposure import ExposureError
from irp_pipeline.vocabulary import OedTable as OedTable


class ColumnType(StrEnum):
    """The type of a column; the values are pyarrow's names."""

    TEXT = "string"
    NUMBER = "double"
    INTEGER = "int32"
    LARGE_INTEGER = "int64"


class Content(StrEnum):
    """What the text of a column means, which decides which values may become that text."""

    IDENTIFIER = "identifier"
    """A number, code or name that OED defines: it cannot be a float, a boolean or a date."""
    DATE = "date"
    FREE = "free"
    """Defined by the user, or possibly a number: any value, written as text."""


@dataclass(frozen=True)
class OedColumn:
    """A column as the source names it, and what OED says about it.

    Attributes:
        source_name: its name in the source.
        name: its name as OED spells it.
        type: its type.
        content: what its text means; not used for numbers.
        largest: the largest amount that OED allows in it, if OED sets a limit.
        is_known: whether the standard knows it.
    """

    source_name: str
    name: str
    type: ColumnType
    content: Content = Content.FREE
    largest: float | None = None
    is_known: bool = True


# The specification file's names for the tables and the types.
_SPECIFICATION_TABLES = {
    OedTable.LOCATION: "Loc",
    OedTable.ACCOUNT: "Acc",
    OedTable.RI_INFO: "ReinsInfo",
    OedTable.RI_SCOPE: "ReinsScope",
}
_SPECIFICATION_TYPES = {
    "category": ColumnType.TEXT,
    "float64": ColumnType.NUMBER,
    "Int8": ColumnType.INTEGER,
    "Int32": ColumnType.INTEGER,
    "Int64": ColumnType.LARGE_INTEGER,
}
_SPECIFICATION_DATES = ("smalldatetime", "date")
# ReinstatementCharge is a list of shares, which may be a single one.
_FREE_TEXTS = ("UserDef", "Flexi", "ReinstatementCharge")
# GeogSchemeXX stands for GeogScheme1, GeogScheme2, …; FlexiLocZZZ for FlexiLoc with any name after it.
_OPEN_ENDINGS = ("XX", "ZZZ")


def oed_columns(table: OedTable, names: Iterable[str], source: str) -> tuple[OedColumn, ...]:
    """Return the columns of a source with their OED spelling and type, in the order of the source.

    Args:
        table: which OED table the source has.
        names: its column names; they are not case-sensitive, as the standard says.
        source: the source's name in messages, such as ``location.csv``.

    Raises:
        ExposureError: a column has no name, or occurs twice (even if spelled differently).
    """
    columns: dict[str, OedColumn] = {}
    for position, source_name in enumerate(names, start=1):
        column = _oed_column(table, source_name)
        if not column.name:
            raise ExposureError(f"{source}: column {position} has no name. Give it one, or remove it.")
        earlier = columns.get(column.name.lower())
        if earlier is not None:
            raise ExposureError(
                f"{source}: the column {column.name} occurs twice, as {earlier.source_name!r} and as "
                f"{source_name!r} (names are not case-sensitive in OED). Remove one of them."
            )
        columns[column.name.lower()] = column
    return tuple(columns.values())


def _oed_column(table: OedTable, source_name: str) -> OedColumn:
    name = source_name.strip()
    known = _fields(table).get(name.lower())
    if known is not None:
        return replace(known, source_name=source_name)
    for opening in _open_ended_fields(table):
        if name.lower().startswith(opening.name.lower()) and len(name) > len(opening.name):
            return replace(opening, source_name=source_name, name=opening.name + name[len(opening.name) :])
    return OedColumn(source_name, name, ColumnType.TEXT, is_known=False)


def specification_table(table: OedTable) -> str:
    """Return the specification's name for a table."""
    return _SPECIFICATION_TABLES[table]


@cache
def _fields(table: OedTable) -> dict[str, OedColumn]:
    """Return the fields of a table in the newest OED version, by their name in lower case."""
    specification = json.loads(_specification_file().read_bytes())
    fields = specification["input_fields"][_SPECIFICATION_TABLES[table]]
    return {lower_name: _field(field) for lower_name, field in fields.items()}


def _field(field: dict[str, Any]) -> OedColumn:
    name = field["Input Field Name"]
    ranges = field["Valid value range"]
    limits = [limits.get("max") for limits in ranges] if isinstance(ranges, list) else []
    known = [float(limit) for limit in limits if limit is not None]
    return OedColumn(
        source_name=name,
        name=name,
        type=_SPECIFICATION_TYPES[field["pd_dtype"]],
        content=_content(name, field["Data Type"]),
        largest=max(known) if known and len(known) == len(limits) else None,
    )


def _content(name: str, data_type: str) -> Content:
    if data_type in _SPECIFICATION_DATES:
        return Content.DATE
    return Content.FREE if any(part in name for part in _FREE_TEXTS) else Content.IDENTIFIER


def known_spelling(table: OedTable, name: str) -> str | None:
    """Return the OED spelling of a column's name; None if the table has no such column in OED."""
    column = _oed_column(table, name)
    return column.name if column.name.lower() in _fields(table) else None


def field_of(table: OedTable, name: str) -> OedColumn | None:
    """Return a field of a table in OED by its name, in any capitals; None if the table has no such field."""
    column = _oed_column(table, name)
    return column if column.is_known else None


def similar_field(tables: Iterable[OedTable], name: str) -> str | None:
    """Return the field of some tables whose name is most similar to ``name``; None if none is similar."""
    fields = {lower: field.name for table in tables for lower, field in _fields(table).items()}
    close = get_close_matches(name.lower(), fields, 1)
    return fields[close[0]] if close else None


def is_required(table: OedTable, column: str) -> bool:
    """Return whether OED requires a column for property, whatever the other columns contain."""
    return column in _required_fields(table)


@cache
def _required_fields(table: OedTable) -> frozenset[str]:
    specification = json.loads(_specification_file().read_bytes())
    fields = specification["input_fields"][_SPECIFICATION_TABLES[table]].values()
    return frozenset(field["Input Field Name"] for field in fields if field.get("Property field status") == "R")


@cache
def perils_of(codes: str) -> frozenset[str]:
    """Return the single perils that peril codes stand for, in the newest OED version.

    Args:
        codes: the content of a cell: codes of perils and peril groups, separated by ``;``. Unknown codes are left out.
    """
    covered = _covered_perils()
    return frozenset(peril for code in codes.split(";") for peril in covered.get(code.strip(), ()))


@cache
def _covered_perils() -> dict[str, list[str]]:
    perils: dict[str, list[str]] = json.loads(_specification_file().read_bytes())["perils"]["covered"]
    return perils


@cache
def _open_ended_fields(table: OedTable) -> tuple[OedColumn, ...]:
    openings = [
        replace(field, name=field.name.removesuffix(ending))
        for field in _fields(table).values()
        for ending in _OPEN_ENDINGS
        if field.name.endswith(ending)
    ]
    return tuple(sorted(openings, key=lambda opening: -len(opening.name)))


def _specification_file() -> Path:
    """Return the newest specification in ods_tools, without importing that package, which takes 1.5 seconds."""
    package = importlib.util.find_spec("ods_tools")
    if package is None or not package.submodule_search_locations:
        raise ExposureError("the package ods_tools, which contains the OED specification, is not installed")
    folder = Path(package.submodule_search_locations[0]) / "data"
    files = list(folder.glob("OpenExposureData_*Spec.json"))
    if not files:
        raise ExposureError(f"there is no OED specification in {folder}. Reinstall ods_tools.")
    return max(files, key=_specification_version)


def _specification_version(file: Path) -> tuple[int, ...]:
    version = file.name.removeprefix("OpenExposureData_").removesuffix("Spec.json")
    return tuple(int(part) for part in version.split("."))
