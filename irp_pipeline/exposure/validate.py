"""What is wrong with an exposure, said to a risk analyst: all of it at once, with file, row, column and value.

The rules of the standard are checked by ods_tools. On top of that comes what ods_tools lets pass and an Oasis LMF run
fails on, or worse, runs on with: currencies that do not exist, missing columns of insured values or coordinates, a
missing account or reinsurance file, and references between the files that lead nowhere.

The whole exposure is loaded into memory here, as any model run does.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from irp_pipeline.exposure.control_total import MONEY_COLUMNS
from irp_pipeline.exposure.currencies import CURRENCIES, FORMER_CURRENCIES
from irp_pipeline.exposure.findings import Finding, LoadedExposure, Severity, blank
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.standard import check_standard

__all__ = ["Finding", "Severity", "validate"]


def validate(
    files: Mapping[OedTable, Path],
    *,
    perspectives: Collection[str] = ("GUL",),
    needs_coordinates: bool = True,
    rows_per_fault: int = 1000,
    currency: str | None = None,
) -> list[Finding]:
    """Check an exposure.

    Args:
        files: the Parquet or CSV file of each table there is.
        perspectives: which losses will be asked for: ``GUL`` (ground-up), ``IL`` (insured, for which the account
            file is needed), ``RI`` (net of reinsurance, for which the reinsurance files are needed too).
        needs_coordinates: whether the models find a location by latitude and longitude.
        rows_per_fault: of the rows that have the same fault in the same column, name this many; a last finding
            then says how many more there are.
        currency: the code of the one that losses are stated in, if the models do not convert amounts: then every
            amount must be in it, since they are added up as they are.

    Returns:
        All findings: by table in the order of :class:`OedTable`, then by fault, then by row.

    Raises:
        ExposureError: a file is missing or unreadable, or holds text in a column of numbers.
    """
    exposure = LoadedExposure(files, rows_per_fault)
    findings = [
        *_check_files(exposure, perspectives),
        *check_standard(exposure),
        *_check_insured_values(exposure),
        *(_check_coordinates(exposure) if needs_coordinates else ()),
        *_check_currencies(exposure, currency),
        *_check_locations_are_unique(exposure),
        *_check_references(exposure),
    ]
    order = {path.name: number for number, path in enumerate(exposure.paths.values())}
    return sorted(findings, key=lambda finding: order.get(finding.file, -1))


def _check_files(exposure: LoadedExposure, perspectives: Collection[str]) -> Iterator[Finding]:
    needed: dict[OedTable, str] = {OedTable.LOCATION: "every model run needs it"}
    if OedTable.RI_INFO in exposure.paths or OedTable.RI_SCOPE in exposure.paths or "RI" in perspectives:
        needed[OedTable.RI_INFO] = needed[OedTable.RI_SCOPE] = "reinsurance needs both the info and the scope file"
        needed[OedTable.ACCOUNT] = "reinsurance applies to insured losses, which need the accounts and their policies"
    elif "IL" in perspectives:
        needed[OedTable.ACCOUNT] = "insured losses need the accounts and their policies"
    for table, reason in needed.items():
        if table not in exposure.paths:
            yield exposure.of_file(table, None, f"is missing; {reason}")
    for table, frame in exposure.frames.items():
        if frame.empty:
            yield exposure.of_file(table, None, "holds no record")


def _check_insured_values(exposure: LoadedExposure) -> Iterator[Finding]:
    table = OedTable.LOCATION
    if not exposure.has(table):
        return
    frame = exposure.frames[table]
    if "BuildingTIV" not in frame.columns:
        yield exposure.of_file(
            table, "BuildingTIV", "this column is missing; Oasis LMF stops without it. Add it, with 0."
        )
    for column in MONEY_COLUMNS:
        if column not in frame.columns and column != "BuildingTIV":
            message = "this column is missing; a model that covers it stops. Add it, with 0 where nothing is insured."
            yield exposure.of_file(table, column, message, Severity.WARNING)
    present = [column for column in MONEY_COLUMNS if column in frame.columns]
    if present:
        uninsured = (frame[present].fillna(0) == 0).all(axis="columns")
        message = "no coverage has an insured value, so this location can have no loss"
        yield from exposure.of_rows(table, present[0], uninsured, message, Severity.WARNING)


def _check_coordinates(exposure: LoadedExposure) -> Iterator[Finding]:
    table = OedTable.LOCATION
    if not exposure.has(table):
        return
    frame = exposure.frames[table]
    for column in ("Latitude", "Longitude"):
        if column not in frame.columns:
            yield exposure.of_file(
                table, column, "this column is missing; models that go by coordinates find no location"
            )
        else:
            message = "is empty; models that go by coordinates do not find this location"
            yield from exposure.of_rows(table, column, frame[column].isna(), message)
    if exposure.has(table, "Latitude", "Longitude"):
        message = "latitude and longitude are both 0, in the Atlantic: probably not geocoded"
        nowhere = (frame["Latitude"] == 0) & (frame["Longitude"] == 0)
        yield from exposure.of_rows(table, "Latitude", nowhere, message, Severity.WARNING)


def _check_currencies(exposure: LoadedExposure, wanted: str | None) -> Iterator[Finding]:
    """Oasis LMF runs on with a currency that does not exist, and exits with status 0."""
    for table, frame in exposure.frames.items():
        for column in frame.columns:
            if not column.endswith("Currency"):
                continue
            codes = frame[column]
            former = codes.isin(FORMER_CURRENCIES.keys())
            unknown = ~(blank(codes) | former | codes.isin(CURRENCIES))
            yield from exposure.of_rows(table, column, unknown, _unknown_currency)
            yield from exposure.of_rows(table, column, former, _former_currency, Severity.WARNING)
            if wanted is not None:
                other = codes.isin(CURRENCIES | FORMER_CURRENCIES.keys()) & (codes != wanted)
                yield from exposure.of_rows(table, column, other, lambda code: _other_currency(code, wanted))


def _unknown_currency(code: str) -> str:
    known = code.strip().upper()
    hint = f" Write {known}." if known in CURRENCIES else ""
    return f"{code!r} is not a currency code of ISO 4217.{hint}"


def _other_currency(code: str, wanted: str) -> str:
    return (
        f"is {code}, but losses are stated in {wanted} (sheet Metadata), and amounts are added up without being "
        "converted"
    )


def _former_currency(code: str) -> str:
    return f"{code} is no currency any more; {FORMER_CURRENCIES[code]} took its place"


def _check_locations_are_unique(exposure: LoadedExposure) -> Iterator[Finding]:
    identifiers = ["PortNumber", "AccNumber", "LocNumber"]
    if exposure.has(OedTable.LOCATION, *identifiers):
        frame = exposure.frames[OedTable.LOCATION]
        # A location has several rows only where it has several sets of terms.
        terms = [column for column in ("LocPeril", "CondTag") if column in frame.columns]
        repeated = frame.duplicated([*identifiers, *terms])
        message = "an earlier row has the same portfolio, account and location: its insured value counts twice"
        yield from exposure.of_rows(OedTable.LOCATION, "LocNumber", repeated, message, Severity.WARNING)


def _check_references(exposure: LoadedExposure) -> Iterator[Finding]:
    """What one file names must be in the other one."""
    accounts = ["PortNumber", "AccNumber"]
    yield from _check_reference(
        *(exposure, OedTable.LOCATION, OedTable.ACCOUNT, accounts),
        "the account file has no such account in this portfolio, so no policy applies to this location",
    )
    yield from _check_reference(
        *(exposure, OedTable.ACCOUNT, OedTable.LOCATION, accounts),
        "no location belongs to this account",
        Severity.WARNING,
    )
    yield from _check_reference(
        *(exposure, OedTable.RI_SCOPE, OedTable.RI_INFO, ["ReinsNumber"]),
        "the reinsurance info file has no such reinsurance",
    )
    yield from _check_reference(
        *(exposure, OedTable.RI_INFO, OedTable.RI_SCOPE, ["ReinsNumber"]),
        "the reinsurance scope file does not say what this reinsurance covers",
    )
    for columns in (["PortNumber"], accounts, [*accounts, "LocNumber"]):
        yield from _check_reference(
            *(exposure, OedTable.RI_SCOPE, OedTable.LOCATION, columns),
            "the location file has none such, so this reinsurance does not apply to it",
            Severity.WARNING,
        )


def _check_reference(
    exposure: LoadedExposure,
    table: OedTable,
    other: OedTable,
    columns: list[str],
    message: str,
    severity: Severity = Severity.ERROR,
) -> Iterator[Finding]:
    """Find the rows whose columns, if all are filled in, occur nowhere in the other table."""
    import pandas as pd

    if not (exposure.has(table, *columns) and exposure.has(other, *columns)):
        return
    frame = exposure.frames[table][columns].astype(object)
    filled = ~frame.apply(blank).any(axis="columns")
    known = pd.MultiIndex.from_frame(exposure.frames[other][columns].astype(object).drop_duplicates())
    missing = filled & ~pd.MultiIndex.from_frame(frame).isin(known)
    yield from exposure.of_rows(table, columns[-1], missing, lambda value: f"{value}: {message}", severity)
