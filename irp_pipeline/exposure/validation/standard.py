"""The rules of the OED standard, checked by ods_tools and reported in the words of a risk analyst."""

import datetime as dt
import gc
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedTable, specification_table
from irp_pipeline.exposure.validation import checks
from irp_pipeline.exposure.validation.checks import Check
from irp_pipeline.exposure.validation.findings import Finding, LoadedExposure

if TYPE_CHECKING:
    import pandas as pd
    from ods_tools.oed import OedExposure


_CELLS_TOLD = 3
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# How many rows of a table ods_tools gets at once: it makes several copies of them.
_ROWS_AT_ONCE = 200_000


def check_standard(exposure: LoadedExposure) -> Iterator[Finding]:
    """Find violations of the standard, in the version that the exposure names (else the newest).

    Raises:
        ExposureError: ods_tools refuses the exposure as a whole.
    """
    if exposure.has(OedTable.LOCATION) and not exposure.frames[OedTable.LOCATION].empty:
        specification, version_is_known, faults = _run_ods_tools(exposure)
        if not version_is_known:
            yield from _unknown_version(exposure)
        for fault in faults:
            yield from _reword(exposure, specification, fault)
        yield from _different_versions(exposure, faults)


@dataclass
class _Fault:
    """A fault that ods_tools found.

    Attributes:
        check: its check.
        table: the table.
        summary: the first line of its text.
        detail: the other lines, if they do not list rows.
        rows: the rows concerned, if it lists any.
        missing: the columns that each of these rows lacks, if that is the fault.
    """

    check: str
    table: OedTable
    summary: str
    detail: str
    rows: list[int] | None = None
    missing: list[str] | None = None


def _run_ods_tools(exposure: LoadedExposure) -> tuple[dict[str, Any], bool, list[_Fault]]:
    """Return the specification used, whether it has the version that the exposure names, and the faults."""
    from ods_tools.oed.common import OdsException

    specification: dict[str, Any] = {}
    version_is_known = True
    faults: dict[tuple[str, OedTable, str, str], _Fault] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas warns about the code of ods_tools
        try:
            for tables in _portions(exposure):
                oed, version_is_known = _oed_exposure(tables)
                specification = oed.oed_schema.schema
                for found in _ods_tools_faults(oed):
                    fault = faults.setdefault((found.check, found.table, found.summary, found.detail), found)
                    if fault is not found and fault.rows is not None:
                        fault.rows += found.rows or []
                        fault.missing = [*(fault.missing or ()), *(found.missing or ())] or None
        except OdsException as error:
            raise ExposureError(f"ods_tools cannot check this exposure: {error}") from error
    # In a fixed order, whichever portion each fault was first found in.
    in_order = sorted(faults.values(), key=lambda fault: (_ODS_TOOLS_CHECKS.index(fault.check), fault.summary))
    return specification, version_is_known, in_order


def _portions(exposure: LoadedExposure) -> "Iterator[dict[str, pd.DataFrame]]":
    """Yield the tables, with the locations in portions: each check here concerns one row at a time.

    Only for versions, the first row decides for all others. The tables are copies, because ods_tools fills in defaults.
    """
    tables = {table.value: frame for table, frame in exposure.frames.items() if not frame.empty}
    locations = tables.pop(OedTable.LOCATION.value)
    versions = exposure.texts(OedTable.LOCATION, "OEDVersion").nunique()
    size = _ROWS_AT_ONCE if versions == 1 else len(locations)
    for start in range(0, len(locations), size):
        if start:
            gc.collect()  # the objects that ods_tools made of the previous portion are full of cycles
        portion = {OedTable.LOCATION.value: locations.iloc[start : start + size].copy()}
        yield portion | ({name: frame.copy() for name, frame in tables.items()} if start == 0 else {})


def _oed_exposure(tables: "dict[str, pd.DataFrame]") -> "tuple[OedExposure, bool]":
    """Return the tables as an exposure of ods_tools, and whether ods_tools knows the version that they name."""
    from ods_tools.oed import OedExposure
    from ods_tools.oed.common import ClassOfBusiness

    # Stated rather than guessed: if a column is missing, the guess fails with a message about classes of business.
    options = {"use_field": True, "class_of_business": ClassOfBusiness.prop}
    try:
        return OedExposure(**tables, **options), True
    except ValueError:
        return OedExposure(**tables, **options, oed_schema_info="latest version"), False


def _unknown_version(exposure: LoadedExposure) -> Iterator[Finding]:
    for table, frame in exposure.frames.items():
        if "OEDVersion" in frame.columns:
            versions = ", ".join(map(repr, frame["OEDVersion"].dropna().unique()[:5]))
            yield exposure.of_file(
                checks.VERSION, table, "OEDVersion", f"{versions} is not a version of OED that can be checked here"
            )


_CHECKS: Mapping[str, Check] = {
    "required_fields": checks.VALUE_MISSING,
    "valid_values": checks.VALUE_NOT_ALLOWED,
    "perils": checks.UNKNOWN_PERIL,
    "occupancy_code": checks.UNKNOWN_CODE,
    "construction_code": checks.UNKNOWN_CODE,
    "country_and_area_code": checks.UNKNOWN_CODE,
    "dates": checks.BAD_DATE,
}
# All checks of ods_tools except "source_coherence", whose messages name Python objects; _check_files does the same.
_ODS_TOOLS_CHECKS = (
    "required_fields",
    "unknown_column",
    "valid_values",
    "perils",
    "occupancy_code",
    "construction_code",
    "country_and_area_code",
    "conditional_requirement",
    "dates",
    "oedversion_consistency",
)


def _ods_tools_faults(oed: "OedExposure") -> Iterator[_Fault]:
    """Yield the faults that ods_tools finds.

    The checks are called one by one, since a fault does not say which check it comes from.
    """
    import pandas as pd
    from ods_tools.oed.validator import Validator

    class Listing(pd.DataFrame):
        """A table that prints as JSON: the text of a fault ends with the table of the rows concerned."""

        @property
        def _constructor(self) -> "type[Listing]":
            return Listing

        def __repr__(self) -> str:
            missing = self["missing value"].tolist() if "missing value" in self.columns else None
            return json.dumps({"rows": self.index.tolist(), "missing": missing})

    for source in oed.get_oed_sources():
        source.dataframe = Listing(source.dataframe)
    validator = Validator(oed)
    for check in _ODS_TOOLS_CHECKS:
        for said in getattr(validator, f"check_{check}")():
            summary, _, detail = said["msg"].partition("\n")
            fault = _Fault(check, OedTable(said["name"]), summary, detail)
            if detail.startswith("{"):
                fault.detail, listed = "", json.loads(detail)
                fault.rows, fault.missing = listed["rows"], listed["missing"]
            yield fault


def _reword(exposure: LoadedExposure, specification: dict[str, Any], fault: _Fault) -> Iterator[Finding]:
    """Report a fault of ods_tools in the words of a risk analyst, once for each row that it concerns."""
    check, table, summary = fault.check, fault.table, fault.summary
    if fault.rows is None:
        yield from _reword_without_rows(exposure, check, table, summary, fault.detail)
        return
    if check == "conditional_requirement":
        for column, rows in _rows_by_missing_column(fault.rows, fault.missing or []).items():
            messages = {
                row: f"must be filled in, because this row has {asking}"
                for row, asking in _asking(exposure, specification, table, column, rows).items()
            }
            yield from exposure.of_rows(checks.VALUE_EXPECTED, table, column, rows, messages)
        return
    named = re.search(r"column '(?P<quoted>.+)' has|(?P<first>\w+) has invalid|invalid (?P<last>\w+)", summary)
    column = next(name for name in named.groups() if name) if named else ""
    yield from exposure.of_rows(
        *(_CHECKS.get(check, checks.STANDARD), table, column, fault.rows),
        _wording(check, specification, table, column, summary),
    )


def _reword_without_rows(
    exposure: LoadedExposure, check: str, table: OedTable, summary: str, detail: str
) -> Iterator[Finding]:
    if check == "required_fields":
        column = summary.rpartition(" ")[2]
        message = "this column is missing, and OED requires it"
        yield exposure.of_file(checks.COLUMN_MISSING, table, column, message)
    elif check == "unknown_column":
        column = summary.partition("'")[2].rpartition("'")[0]
        keep = {
            OedTable.LOCATION: f" To keep it, call it FlexiLoc{column}.",
            OedTable.ACCOUNT: f" To keep it, call it FlexiAcc{column}.",
        }
        message = f"is not a column of OED.{keep.get(table, '')}"
        yield exposure.of_file(checks.UNKNOWN_COLUMN, table, column, message)
    elif check != "oedversion_consistency":
        yield exposure.of_file(checks.STANDARD, table, None, f"{summary} {detail}".strip())


def _different_versions(exposure: LoadedExposure, faults: list[_Fault]) -> Iterator[Finding]:
    """Report values that differ from the first version or are not versions, which ods_tools reports row by row."""
    different: dict[OedTable, list[int]] = {}
    malformed: dict[OedTable, list[int]] = {}
    for fault in faults:
        if fault.check == "oedversion_consistency":
            rows = malformed if "regex" in fault.summary else different
            number = int(f"{fault.summary}\n{fault.detail}".strip().rpartition(" ")[2])
            rows.setdefault(fault.table, []).append(number)
    for table, numbers in different.items():
        yield from exposure.of_rows(
            *(checks.VERSION, table, "OEDVersion", numbers),
            lambda value: f"{value!r} is not the version of the first record; all records must have the same version",
        )
    for table, numbers in malformed.items():
        yield from exposure.of_rows(
            *(checks.VERSION, table, "OEDVersion", numbers), lambda value: f"{value!r} is not a version such as 4.0.0"
        )


def _rows_by_missing_column(concerned: list[int], missing: list[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, columns in zip(concerned, missing, strict=True):
        for column in columns.split(", "):
            rows.setdefault(column, []).append(row)
    return rows


def _asking(
    exposure: LoadedExposure, specification: dict[str, Any], table: OedTable, column: str, rows: list[int]
) -> dict[int, str]:
    """Return, for each row that lacks a column, its cells that require the column, such as ``LocDed6All 100``."""
    frame = exposure.frames[table].iloc[rows]
    fields = specification["input_fields"][specification_table(table)]
    found: dict[int, list[str]] = {row: [] for row in rows}
    for name, asks_for in specification["cr_field"][specification_table(table)].items():
        if column not in asks_for or name == column or name not in frame.columns:
            continue
        texts = exposure.texts(table, name).iloc[rows]
        default = str(fields[name.lower()]["Default"])
        for row, text in zip(rows, texts, strict=True):
            if text not in ("", "0", default):
                found[row].append(f"{name} {text}")
    return {row: ", ".join(cells[:_CELLS_TOLD]) if cells else "terms that go with it" for row, cells in found.items()}


def _wording(
    check: str, specification: dict[str, Any], table: OedTable, column: str, summary: str
) -> str | Callable[[Any], str]:
    """What to say about a value that a check of ods_tools rejects."""
    match check:
        case "required_fields":
            return "is empty, and OED requires a value"
        case "valid_values":
            allowed = _allowed_values(specification, table, column)
            return lambda value: f"{value} is not allowed{allowed}"
        case "perils":
            known = specification["perils"]["info"]
            return lambda value: (
                f"{', '.join(code for code in str(value).split(';') if code not in known)} is not a peril code of OED"
            )
        case "country_and_area_code" if "pair" in summary:
            return lambda value: f"the AreaCode in this row is none that OED knows in the country {value}"
        case "occupancy_code" | "construction_code" | "country_and_area_code":
            return lambda value: f"{value} is not a code that OED knows"
        case "dates":
            return _wrong_date
        case _:
            return summary


def _wrong_date(value: object) -> str:
    text = str(value)
    if not _ISO_DATE.fullmatch(text):
        return f"{text!r} is not a date written as YYYY-MM-DD"
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return f"{text!r} is no day of the calendar"
    return f"{text!r} is too far away: Oasis LMF knows the years 1678 to 2261"


def _allowed_values(specification: dict[str, Any], table: OedTable, column: str) -> str:
    field = specification["input_fields"][specification_table(table)].get(column.lower(), {})
    ranges = field.get("Valid value range")
    if not isinstance(ranges, list):
        return ""
    return f"; OED allows {' or '.join(map(_range_in_words, ranges))}"


def _range_in_words(allowed: Mapping[str, Any]) -> str:
    match allowed:
        case {"min": low, "max": high}:
            return f"{low:g} to {high:g}"
        case {"min": low}:
            return f"{low:g} and more"
        case {"max": high}:
            return f"{high:g} and less"
        case {"enum": values}:
            return ", ".join(map(str, values))
        case _:
            return str(allowed)
