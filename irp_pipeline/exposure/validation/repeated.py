"""Rows that describe the same thing as an earlier row."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.totals.control_total import MONEY_COLUMNS
from irp_pipeline.exposure.validation import checks
from irp_pipeline.exposure.validation.findings import Finding, LoadedExposure
from irp_pipeline.exposure.validation.references import FILTERS

if TYPE_CHECKING:
    pass
from irp_pipeline.exposure.validation.rows import LOCATION_KEY, positions_in, treaty_types

_LOCATION, _ACCOUNT, _INFO, _SCOPE = OedTable.LOCATION, OedTable.ACCOUNT, OedTable.RI_INFO, OedTable.RI_SCOPE


def check_repeated(exposure: LoadedExposure) -> Iterator[Finding]:
    """Find rows that describe the same thing as an earlier row."""
    yield from _check_repeated_locations(exposure)
    yield from _check_repeated_policies(exposure)
    yield from _check_repeated_treaties(exposure)
    yield from _check_repeated_scopes(exposure)


def _check_repeated_locations(exposure: LoadedExposure) -> Iterator[Finding]:
    if not exposure.filled(_LOCATION, *LOCATION_KEY):
        return
    frame = exposure.frames[_LOCATION]
    several = frame.duplicated(LOCATION_KEY, keep=False)
    if not several.any():
        return
    rows = frame[several]
    copied = rows.duplicated()
    # A location has several rows only if it has several sets of terms.
    terms = [column for column in ("LocPeril", "CondTag") if column in frame.columns]
    repeated = rows.duplicated([*LOCATION_KEY, *terms]) & ~copied
    values = rows[[column for column in MONEY_COLUMNS if column in frame.columns]].fillna(0)
    first = values.groupby([exposure.texts(_LOCATION, column)[several] for column in LOCATION_KEY]).transform("first")
    other_values = (values != first).any(axis="columns") & ~repeated & ~copied
    dropped = values.sum(axis="columns")[repeated]
    positions: dict[int, float] = dict(zip(positions_in(frame, dropped), dropped.tolist(), strict=True))
    yield from exposure.of_rows(
        *(checks.LOCATION_REPEATED, _LOCATION, "LocNumber", list(positions)),
        {
            position: (
                f"an earlier row has the same portfolio, account and location. Oasis LMF keeps that row and drops this "
                f"one: its insured value of {value:,.0f} has no losses. Give every building a different LocNumber"
            )
            for position, value in positions.items()
        },
    )
    yield from exposure.of_rows(
        *(checks.LOCATION_VALUES_DIFFER, _LOCATION, "LocNumber", other_values[other_values].index.tolist()),
        "the insured values in this row are not those of the first row of this location, which Oasis LMF uses; write "
        "the same values into all its rows",
    )
    yield from exposure.of_rows(
        *(checks.LOCATION_COPIED, _LOCATION, "LocNumber", copied[copied].index.tolist()),
        "this row is a copy of an earlier one. Oasis LMF drops it, so the losses are right; remove it",
    )


def _check_repeated_policies(exposure: LoadedExposure) -> Iterator[Finding]:
    key = ["PortNumber", "AccNumber", "PolNumber"]
    if not exposure.filled(_ACCOUNT, *key):
        return
    frame = exposure.frames[_ACCOUNT]
    copied = frame.duplicated()
    # A policy has a row for each layer, peril, condition and step.
    several = ("LayerNumber", "PolPeril", "AccPeril", "CondTag", "CondNumber", "CondPeril", "StepNumber")
    repeated = frame.duplicated([*key, *(column for column in several if column in frame.columns)]) & ~copied
    yield from exposure.of_rows(
        *(checks.ACCOUNT_REPEATED, _ACCOUNT, "PolNumber", repeated),
        lambda number: (
            f"{number}: an earlier row has the same policy, layer, peril and condition, and other terms. Oasis LMF was "
            "seen to pay for both rows, or nothing; give the layers a LayerNumber, or remove a row"
        ),
    )
    yield from exposure.of_rows(
        *(checks.ACCOUNT_COPIED, _ACCOUNT, "PolNumber", copied),
        "this row is a copy of an earlier one. Oasis LMF takes it once, so the losses are right; remove it",
    )


def _check_repeated_treaties(exposure: LoadedExposure) -> Iterator[Finding]:
    if not exposure.filled(_INFO, "ReinsNumber"):
        return
    frame = exposure.frames[_INFO]
    key = [column for column in ("ReinsNumber", "ReinsLayerNumber") if column in frame.columns]
    yield from exposure.of_rows(
        *(checks.TREATY_REPEATED, _INFO, "ReinsNumber", frame.duplicated(key)),
        lambda number: (
            f"{number}: an earlier row has the same reinsurance and ReinsLayerNumber. Oasis LMF applies both, and the "
            "treaty cedes twice; remove one, or number the layers"
        ),
    )


def _check_repeated_scopes(exposure: LoadedExposure) -> Iterator[Finding]:
    if not exposure.filled(_SCOPE, "ReinsNumber"):
        return
    frame = exposure.frames[_SCOPE]
    filters = [column for column in FILTERS if column in frame.columns]
    kept = frame[["ReinsNumber", *filters, *(["CededPercent"] if "CededPercent" in frame.columns else [])]]
    same_filters = kept.duplicated(["ReinsNumber", *filters])
    copied = kept.duplicated()
    types = treaty_types(exposure)
    facultative = same_filters & (types == "FAC")
    yield from exposure.of_rows(
        *(checks.SCOPE_REPEATED, _SCOPE, "ReinsNumber", facultative),
        lambda number: (
            f"{number}: an earlier row has the same filters, and Oasis LMF cedes by both rows of a facultative treaty; "
            "remove one"
        ),
    )
    yield from exposure.of_rows(
        *(checks.SCOPE_REPEATED, _SCOPE, "CededPercent", same_filters & ~copied & (types == "SS")),
        lambda share: (
            f"{share:g} differs from an earlier row with the same filters. Oasis LMF takes the last row; remove one"
        ),
    )
    yield from exposure.of_rows(
        *(checks.SCOPE_COPIED, _SCOPE, "ReinsNumber", copied & ~facultative),
        "an earlier row has the same reinsurance, filters and share. Oasis LMF takes it once; remove it",
    )
