"""Dates, layers and policy terms that contradict each other or have no effect."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.validation import checks
from irp_pipeline.exposure.validation.findings import Finding, LoadedExposure

if TYPE_CHECKING:
    import pandas as pd
from irp_pipeline.exposure.validation.rows import DATES, LOCATION_KEY, insured_values, numbers, positions

_LOCATION, _ACCOUNT, _INFO, _SCOPE = OedTable.LOCATION, OedTable.ACCOUNT, OedTable.RI_INFO, OedTable.RI_SCOPE
_ISO_DATE = r"\d{4}-\d{2}-\d{2}"
_POLICY_TERMS = re.compile(r"(Pol|Cond)(Ded|MinDed|MaxDed|Limit|Min|Max)\d?(All|Building|Other|Contents|BI|PD)")


def check_policies(exposure: LoadedExposure) -> Iterator[Finding]:
    """Find dates and layers whose terms have no effect or cannot be intended."""
    yield from _check_dates(exposure)
    yield from _check_layers(exposure)


def _check_dates(exposure: LoadedExposure) -> Iterator[Finding]:
    for table, (begins, ends) in DATES.items():
        if not exposure.filled(table, begins, ends):
            continue
        first, last = (exposure.texts(table, column) for column in (begins, ends))
        inverted = (first > last) & first.str.fullmatch(_ISO_DATE) & last.str.fullmatch(_ISO_DATE)
        effect = (
            "Oasis LMF looks at it only with AttachmentBasis RA, and then this treaty cedes nothing"
            if table is _INFO
            else "Oasis LMF does not look at it"
        )
        yield from exposure.of_rows(
            *(checks.DATES_INVERTED, table, ends, inverted),
            {
                position: f"{last.iat[position]} is before the {begins} {first.iat[position]}; {effect}"
                for position in positions(inverted)
            },
        )


def _check_layers(exposure: LoadedExposure) -> Iterator[Finding]:
    key = ["PortNumber", "AccNumber"]
    if not exposure.filled(_ACCOUNT, *key):
        return
    frame = exposure.frames[_ACCOUNT]
    limit, attachment, share = (
        numbers(frame, column) for column in ("LayerLimit", "LayerAttachment", "LayerParticipation")
    )
    has_layer = (limit.fillna(0) > 0) | (attachment.fillna(0) > 0)
    zero = share == 0
    yield from exposure.of_rows(
        *(checks.LAYER_SHARE_ZERO, _ACCOUNT, "LayerParticipation", zero & has_layer),
        "is 0: this layer pays nothing; leave the cell empty for a share of 100 %",
    )
    yield from exposure.of_rows(
        *(checks.LAYER_SHARE_ZERO, _ACCOUNT, "LayerParticipation", zero & ~has_layer),
        "is 0, but this layer has neither LayerLimit nor LayerAttachment: Oasis LMF ignores the 0, and the layer pays "
        "the whole loss",
    )
    yield from _check_policies_without_terms(exposure, has_layer | ((share < 1) & (share > 0)))
    if exposure.filled(_LOCATION, *LOCATION_KEY):
        by_account = insured_values(exposure).groupby(key, observed=True)["value"].sum()
        accounts = frame[key].astype(object).merge(by_account.reset_index(), how="left", on=key)
        value = accounts["value"].set_axis(frame.index)
        above = (attachment.fillna(0) > 0) & (attachment >= value) & (value > 0)
        yield from exposure.of_rows(
            *(checks.LAYER_ABOVE_VALUE, _ACCOUNT, "LayerAttachment", above),
            {
                position: (
                    f"{attachment.iat[position]:,.0f} is not below the {value.iat[position]:,.0f} that all locations "
                    "of this account are insured for, so this layer never pays"
                )
                for position in positions(above)
            },
        )


def _check_policies_without_terms(exposure: LoadedExposure, has_layer: "pd.Series[bool]") -> Iterator[Finding]:
    import pandas as pd

    frame = exposure.frames[_ACCOUNT]
    if "PolNumber" not in frame.columns:
        return
    has_terms = has_layer.copy()
    for column in frame.columns:
        if _POLICY_TERMS.fullmatch(column) and pd.api.types.is_numeric_dtype(frame[column]):
            has_terms |= frame[column].fillna(0) != 0
    key = ["PortNumber", "AccNumber"]
    rows = exposure.text_frame(_ACCOUNT, [*key, "PolNumber", "LayerNumber"]).assign(terms=has_terms)
    first = ~rows.duplicated(key)
    distinct = ~rows.duplicated([*key, "PolNumber", "LayerNumber"])
    bare = ~rows.groupby(key)["terms"].transform("any").astype(bool)
    yield from exposure.of_rows(
        *(checks.POLICIES_WITHOUT_TERMS, _ACCOUNT, "PolNumber", bare & distinct & ~first),
        lambda number: (
            f"{number}: no policy of this account has a term. Oasis LMF takes the first one alone: losses count once, "
            "and a treaty that names this policy cedes nothing"
        ),
    )
