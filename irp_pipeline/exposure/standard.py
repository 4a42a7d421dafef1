"""The rules of the OED standard, checked by ods_tools and said in the words of a risk analyst."""

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from irp_pipeline.exposure import ExposureError, checks
from irp_pipeline.exposure.checks import Check
from irp_pipeline.exposure.findings import Finding, LoadedExposure
from irp_pipeline.exposure.oed import OedTable, specification_table

if TYPE_CHECKING:
    from ods_tools.oed import OedExposure


def check_standard(exposure: LoadedExposure) -> Iterator[Finding]:
    """Find what breaks a rule of the standard, in the version that the exposure names (else the newest).

    Raises:
        ExposureError: ods_tools refuses the exposure as a whole.
    """
    if exposure.has(OedTable.LOCATION) and not exposure.frames[OedTable.LOCATION].empty:
        specification, version_is_known, faults = _run_ods_tools(exposure)
        if not version_is_known:
            yield from _unknown_version(exposure)
        for check, table, text in faults:
            yield from _reword(exposure, specification, check, table, text)
        yield from _different_versions(exposure, faults)


def _run_ods_tools(exposure: LoadedExposure) -> tuple[dict[str, Any], bool, list[tuple[str, OedTable, str]]]:
    """The specification used, whether it is of the version that the exposure names, and the faults."""
    from ods_tools.oed import OedExposure
    from ods_tools.oed.common import ClassOfBusiness, OdsException

    # Copies, because ods_tools fills in defaults.
    tables = {table.value: frame.copy() for table, frame in exposure.frames.items() if not frame.empty}
    # Told rather than guessed: where a column is missing, the guess fails with a message about classes of business.
    options = {"use_field": True, "class_of_business": ClassOfBusiness.prop}
    version_is_known = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pandas says about the code of ods_tools
        try:
            try:
                oed = OedExposure(**tables, **options)
            except ValueError:
                version_is_known = False
                oed = OedExposure(**tables, **options, oed_schema_info="latest version")
            return oed.oed_schema.schema, version_is_known, list(_ods_tools_faults(oed))
        except OdsException as error:
            raise ExposureError(f"ods_tools cannot check this exposure: {error}") from error


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
# All checks of ods_tools but "source_coherence", whose messages name Python objects; _check_files does the same.
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


def _ods_tools_faults(oed: "OedExposure") -> Iterator[tuple[str, OedTable, str]]:
    """The faults that ods_tools finds: the check, the table, and the text.

    The checks are called one by one, since a fault does not tell which check it comes from.
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
        for fault in getattr(validator, f"check_{check}")():
            yield check, OedTable(fault["name"]), fault["msg"]


def _reword(
    exposure: LoadedExposure, specification: dict[str, Any], check: str, table: OedTable, text: str
) -> Iterator[Finding]:
    """Say a fault of ods_tools in the words of a risk analyst, once for each row it concerns."""
    summary, _, listing = text.partition("\n")
    if not listing.startswith("{"):
        yield from _reword_without_rows(exposure, check, table, summary, listing)
        return
    concerned = json.loads(listing)
    if check == "conditional_requirement":
        for column, rows in _rows_by_missing_column(concerned).items():
            message = "must be filled in: another column of this row asks for it"
            yield from exposure.of_rows(checks.VALUE_EXPECTED, table, column, rows, message)
        return
    named = re.search(r"column '(?P<quoted>.+)' has|(?P<first>\w+) has invalid|invalid (?P<last>\w+)", summary)
    column = next(name for name in named.groups() if name) if named else ""
    yield from exposure.of_rows(
        *(_CHECKS.get(check, checks.STANDARD), table, column, concerned["rows"]),
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


def _different_versions(exposure: LoadedExposure, faults: list[tuple[str, OedTable, str]]) -> Iterator[Finding]:
    """The versions that are not the first one or no versions at all, which ods_tools reports row by row."""
    different: dict[OedTable, list[int]] = {}
    malformed: dict[OedTable, list[int]] = {}
    for check, table, text in faults:
        if check == "oedversion_consistency":
            rows = malformed if "regex" in text.partition("\n")[0] else different
            rows.setdefault(table, []).append(int(text.rpartition(" ")[2]))
    for table, numbers in different.items():
        yield from exposure.of_rows(
            *(checks.VERSION, table, "OEDVersion", numbers),
            lambda value: f"{value!r} is not the version that the first record has; all must have the same",
        )
    for table, numbers in malformed.items():
        yield from exposure.of_rows(
            *(checks.VERSION, table, "OEDVersion", numbers), lambda value: f"{value!r} is not a version such as 4.0.0"
        )


def _rows_by_missing_column(concerned: dict[str, Any]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, columns in zip(concerned["rows"], concerned["missing"], strict=True):
        for column in columns.split(", "):
            rows.setdefault(column, []).append(row)
    return rows


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
            return lambda value: f"{value!r} is not a date written as YYYY-MM-DD"
        case _:
            return summary


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
