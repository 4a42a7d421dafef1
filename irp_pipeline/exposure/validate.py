"""What is wrong with an exposure, for a risk analyst: everything at once, with table, row, column and value.

ods_tools checks the rules of the standard. Further checks find what ods_tools accepts although an Oasis LMF run fails,
or gives wrong losses: currencies that do not exist, missing columns of insured values, missing tables or coordinates
that the model needs, broken references between the tables, and terms that have no effect.
:mod:`irp_pipeline.exposure.validation.checks` lists all checks.

The whole exposure is loaded into memory here, as in any model run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.currencies import CURRENCIES, FORMER_CURRENCIES
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.sources import FileSource
from irp_pipeline.exposure.totals.control_total import MONEY_COLUMNS
from irp_pipeline.exposure.validation import checks
from irp_pipeline.exposure.validation.findings import Finding, LoadedExposure, Severity, blank
from irp_pipeline.exposure.validation.identifiers import check_identifiers
from irp_pipeline.exposure.validation.needs import Needs, needs_of_perspectives
from irp_pipeline.exposure.validation.policies import check_policies
from irp_pipeline.exposure.validation.references import check_perils, check_references, scope_matches
from irp_pipeline.exposure.validation.repeated import check_repeated
from irp_pipeline.exposure.validation.standard import check_standard
from irp_pipeline.exposure.validation.treaties import check_treaties
from irp_pipeline.vocabulary import Perspective

__all__ = [
    "Finding",
    "Needs",
    "PortfolioFindings",
    "Severity",
    "needs_of_perspectives",
    "refused_portfolios",
    "validate",
]

_COORDINATES = ("Latitude", "Longitude")
_FINDINGS_TOLD = 3
_LINES_PER_PORTFOLIO = 20


def validate(
    files: Mapping[OedTable, Path | FileSource],
    *,
    needs: Needs | None = None,
    rows_per_fault: int = 1000,
    currency: str | None = None,
) -> list[Finding]:
    """Check an exposure.

    Args:
        files: the Parquet or CSV file of each existing table; a :class:`FileSource` says how a CSV file is written.
        needs: what the analyses need, according to their risk engines. None means that the analyses are not known:
            nothing is required, and whatever could be needed and is missing gives a warning.
        rows_per_fault: how many rows with the same fault in the same column to name; a last finding
            then says how many more there are.
        currency: the currency code of the losses, if the models do not convert amounts: then every
            amount must be in it, since amounts are added up without conversion.

    Returns:
        All findings: by table in the order of :class:`OedTable`, then by check, then by row.

    Raises:
        ExposureError: a file is missing or unreadable, or has text in a column of numbers.
    """
    if needs is None:
        needs = Needs(unknown=("which analyses there will be is not known",))
    exposure = LoadedExposure(files, rows_per_fault, perspectives=needs.perspectives or tuple(Perspective))
    matches = scope_matches(exposure)
    findings = [
        *_check_files(exposure, needs),
        *check_standard(exposure),
        *_check_insured_values(exposure),
        *_check_needed_columns(exposure, needs),
        *_check_currencies(exposure, currency),
        *check_identifiers(exposure),
        *check_repeated(exposure),
        *check_references(exposure, matches),
        *check_perils(exposure),
        *check_policies(exposure),
        *check_treaties(exposure, matches),
    ]
    order = {table: number for number, table in enumerate(OedTable)}
    return sorted(findings, key=lambda finding: -1 if finding.table is None else order[finding.table])


@dataclass(frozen=True)
class PortfolioFindings:
    """The findings in a portfolio.

    Attributes:
        findings: the findings of :func:`validate`; empty if it could not read the portfolio.
        unreadable: why the portfolio could not be read, if so.
    """

    findings: tuple[Finding, ...] = ()
    unreadable: str | None = None

    @property
    def errors(self) -> list[str]:
        """Return the errors that keep analyses from running on the portfolio, one line each."""
        lines = [str(finding) for finding in self.findings if finding.severity is Severity.ERROR]
        return [*([self.unreadable] if self.unreadable else []), *lines]

    @property
    def refusal(self) -> str | None:
        """Return why no analysis can run on the portfolio, in a sentence; None if analyses can run."""
        if not self.errors:
            return None
        told = "; ".join(self.errors[:_FINDINGS_TOLD])
        more = len(self.errors) - _FINDINGS_TOLD
        return f"{told}; and {more:,} more" if more > 0 else told

    def count(self, severity: Severity) -> int:
        """Return how many findings have this severity."""
        return sum(finding.severity is severity for finding in self.findings)


def refused_portfolios(portfolios: Mapping[str, PortfolioFindings], *, strict: bool = False) -> dict[str, str]:
    """Decide which portfolios no analysis may run on.

    Args:
        portfolios: the findings in each, by name.
        strict: whether one portfolio with errors stops all portfolios.

    Returns:
        The reason, by the name of the portfolio, in the same order.

    Raises:
        ExposureError: no portfolio is left, or one is refused and ``strict`` is set; the message lists all of them.
    """
    refused = {name: reason for name, found in portfolios.items() if (reason := found.refusal) is not None}
    if refused and (strict or len(refused) == len(portfolios)):
        lines = "\n".join(
            f"{name}: {line}" for name in refused for line in portfolios[name].errors[:_LINES_PER_PORTFOLIO]
        )
        raise ExposureError(f"The exposure has errors:\n{lines}")
    return refused


def _check_files(exposure: LoadedExposure, needs: Needs) -> Iterator[Finding]:
    needed = dict(needs.tables)
    if OedTable.RI_INFO in exposure.frames or OedTable.RI_SCOPE in exposure.frames:
        needed = {**needs_of_perspectives({Perspective.RI}).tables, **needed}
    for table in OedTable:
        if table not in exposure.frames and table in needed:
            yield exposure.of_file(checks.TABLE_MISSING, table, None, f"is missing; {needed[table]}")
    if OedTable.LOCATION not in (*exposure.frames, *needed):
        message = "is missing; only models that use accounts alone (such as cyber) do not need it"
        yield exposure.of_file(checks.TABLE_UNKNOWN_NEED, OedTable.LOCATION, None, message)
    for table, frame in exposure.frames.items():
        if frame.empty:
            yield exposure.of_file(checks.TABLE_EMPTY, table, None, "has no records")


def _check_insured_values(exposure: LoadedExposure) -> Iterator[Finding]:
    table = OedTable.LOCATION
    if not exposure.has(table):
        return
    frame = exposure.frames[table]
    if "BuildingTIV" not in frame.columns:
        message = "this column is missing; Oasis LMF stops without it. Add it, with 0."
        yield exposure.of_file(checks.BUILDING_TIV_MISSING, table, "BuildingTIV", message)
    for column in MONEY_COLUMNS:
        if column not in frame.columns and column != "BuildingTIV":
            message = "this column is missing; a model that covers it stops. Add it, with 0 where nothing is insured."
            yield exposure.of_file(checks.TIV_COLUMN_MISSING, table, column, message)
    present = [column for column in MONEY_COLUMNS if column in frame.columns]
    if present:
        uninsured = (frame[present].fillna(0) == 0).all(axis="columns")
        message = "no coverage has an insured value, so this location can have no loss"
        yield from exposure.of_rows(checks.NOTHING_INSURED, table, present[0], uninsured, message)


def _check_needed_columns(exposure: LoadedExposure, needs: Needs) -> Iterator[Finding]:
    table = OedTable.LOCATION
    if not exposure.filled(table):
        return
    frame = exposure.frames[table]
    for column, reason in needs.location_columns.items():
        is_filled = column in needs.filled_columns
        yield from _missing_values(exposure, checks.LOCATION_COLUMN_NEEDED, column, reason, in_rows=is_filled)
    if needs.unknown:
        for column in _COORDINATES:
            if column not in needs.location_columns:
                reason = "a model that uses coordinates does not find the location"
                yield from _missing_values(exposure, checks.LOCATION_COLUMN_MAYBE, column, reason)
    if exposure.has(table, *_COORDINATES):
        message = "latitude and longitude are both 0, in the Atlantic: probably not geocoded"
        nowhere = (frame["Latitude"] == 0) & (frame["Longitude"] == 0)
        yield from exposure.of_rows(checks.NOT_GEOCODED, table, "Latitude", nowhere, message)


def _missing_values(
    exposure: LoadedExposure, check: checks.Check, column: str, reason: str, *, in_rows: bool = True
) -> Iterator[Finding]:
    table = OedTable.LOCATION
    if not exposure.has(table, column):
        yield exposure.of_file(check, table, column, f"this column is missing; {reason}")
    elif in_rows:
        yield from exposure.of_rows(check, table, column, blank(exposure.frames[table][column]), f"is empty; {reason}")


def _check_currencies(exposure: LoadedExposure, wanted: str | None) -> Iterator[Finding]:
    """Find wrong currencies: with a currency that does not exist, Oasis LMF continues and exits with status 0."""
    for table, frame in exposure.frames.items():
        for column in frame.columns:
            if not column.endswith("Currency"):
                continue
            codes = frame[column]
            former = codes.isin(FORMER_CURRENCIES.keys())
            unknown = ~(blank(codes) | former | codes.isin(CURRENCIES))
            yield from exposure.of_rows(checks.UNKNOWN_CURRENCY, table, column, unknown, _unknown_currency)
            yield from exposure.of_rows(checks.FORMER_CURRENCY, table, column, former, _former_currency)
            if wanted is not None:
                other = codes.isin(CURRENCIES | FORMER_CURRENCIES.keys()) & (codes != wanted)
                yield from exposure.of_rows(
                    *(checks.OTHER_CURRENCY, table, column, other), lambda code: _other_currency(code, wanted)
                )


def _unknown_currency(code: str) -> str:
    known = code.strip().upper()
    hint = f" Write {known}." if known in CURRENCIES else ""
    return f"{code!r} is not a currency code of ISO 4217.{hint}"


def _other_currency(code: str, wanted: str) -> str:
    return f"is {code}, but losses are in {wanted} (sheet Metadata), and amounts are added up without conversion"


def _former_currency(code: str) -> str:
    return f"{code} is no longer a currency; {FORMER_CURRENCIES[code]} replaced it"
