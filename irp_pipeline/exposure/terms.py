"""Terms of policies and treaties that are contradictory, have no effect, or say something twice."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from irp_pipeline.exposure import checks
from irp_pipeline.exposure.control_total import MONEY_COLUMNS
from irp_pipeline.exposure.findings import Finding, LoadedExposure
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.references import FILTERS, ScopeMatches

if TYPE_CHECKING:
    import pandas as pd

_LOCATION, _ACCOUNT, _INFO, _SCOPE = OedTable.LOCATION, OedTable.ACCOUNT, OedTable.RI_INFO, OedTable.RI_SCOPE
_LOCATION_KEY = ["PortNumber", "AccNumber", "LocNumber"]
_DATES = {
    _LOCATION: ("LocInceptionDate", "LocExpiryDate"),
    _ACCOUNT: ("PolInceptionDate", "PolExpiryDate"),
    _INFO: ("ReinsInceptionDate", "ReinsExpiryDate"),
}
_ISO_DATE = r"\d{4}-\d{2}-\d{2}"
_REINS_TYPES = ("FAC", "QS", "SS", "PR", "CXL")
_RISK_LEVELS = ("LOC", "LGR", "POL", "ACC", "SEL")
_POLICY_TERMS = re.compile(r"(Pol|Cond)(Ded|MinDed|MaxDed|Limit|Min|Max)\d?(All|Building|Other|Contents|BI|PD)")
# The terms that Oasis LMF 2.5.8 applies, by ReinsType; all others are read and not used.
_APPLIED = {
    "FAC": ("RiskLimit", "RiskAttachment"),
    "PR": ("RiskLimit", "RiskAttachment", "OccLimit", "OccAttachment"),
    "QS": ("RiskLimit", "OccLimit"),
    "SS": ("RiskLimit", "RiskAttachment", "OccLimit"),
    "CXL": ("OccLimit", "OccAttachment"),
}
_AMOUNTS = (
    *("RiskLimit", "RiskAttachment", "OccLimit", "OccAttachment", "OccFranchiseDed", "OccReverseFranchise"),
    *("AggLimit", "AggAttachment"),
)
_SHARES = ("TreatyShare", "DeemedPercentPlaced")
# Of a treaty that names its risks one by one: the columns that a row of its scope must fill, and those it must not.
_NAMES_RISK: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ACC": (("AccNumber",), ("PolNumber", "LocNumber")),
    "POL": (("AccNumber", "PolNumber"), ("LocNumber",)),
    "LOC": (("AccNumber", "LocNumber"), ()),
    "LGR": (("LocGroup",), ()),
}
_BELOW_RISK = {"ACC": ("PolNumber", "LocNumber"), "POL": ("LocNumber",), "LGR": ("LocNumber",)}


def check_repeated(exposure: LoadedExposure) -> Iterator[Finding]:
    """Find rows that describe what another row describes already."""
    yield from _check_repeated_locations(exposure)
    yield from _check_repeated_policies(exposure)
    yield from _check_repeated_treaties(exposure)
    yield from _check_repeated_scopes(exposure)


def _check_repeated_locations(exposure: LoadedExposure) -> Iterator[Finding]:
    if not exposure.filled(_LOCATION, *_LOCATION_KEY):
        return
    frame = exposure.frames[_LOCATION]
    several = frame.duplicated(_LOCATION_KEY, keep=False)
    if not several.any():
        return
    rows = frame[several]
    copied = rows.duplicated()
    # A location has several rows only where it has several sets of terms.
    terms = [column for column in ("LocPeril", "CondTag") if column in frame.columns]
    repeated = rows.duplicated([*_LOCATION_KEY, *terms]) & ~copied
    values = rows[[column for column in MONEY_COLUMNS if column in frame.columns]].fillna(0)
    first = values.groupby([exposure.texts(_LOCATION, column)[several] for column in _LOCATION_KEY]).transform("first")
    other_values = (values != first).any(axis="columns") & ~repeated & ~copied
    dropped = values.sum(axis="columns")[repeated]
    positions: dict[int, float] = dict(zip(_positions_in(frame, dropped), dropped.tolist(), strict=True))
    yield from exposure.of_rows(
        *(checks.LOCATION_REPEATED, _LOCATION, "LocNumber", list(positions)),
        {
            position: (
                f"an earlier row has the same portfolio, account and location. Oasis LMF keeps that one and drops this "
                f"row: its insured value of {value:,.0f} has no losses. Give every building a LocNumber of its own"
            )
            for position, value in positions.items()
        },
    )
    yield from exposure.of_rows(
        *(checks.LOCATION_VALUES_DIFFER, _LOCATION, "LocNumber", other_values[other_values].index.tolist()),
        "the insured values in this row are not those of the first row of this location, which Oasis LMF takes; write "
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
    types = _types_of_scope(exposure)
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
            f"{share:g} is not what an earlier row with the same filters says. Oasis LMF takes the last row; remove one"
        ),
    )
    yield from exposure.of_rows(
        *(checks.SCOPE_COPIED, _SCOPE, "ReinsNumber", copied & ~facultative),
        "an earlier row has the same reinsurance, filters and share. Oasis LMF takes it once; remove it",
    )


def check_terms(exposure: LoadedExposure, matches: ScopeMatches | None) -> Iterator[Finding]:
    """Find dates, layers and treaties whose terms have no effect or cannot be meant.

    Args:
        exposure: the tables.
        matches: what the rows of the scope match; None if that cannot be told.
    """
    yield from _check_dates(exposure)
    yield from _check_layers(exposure)
    if exposure.filled(_INFO, "ReinsNumber", "ReinsType"):
        yield from _check_types(exposure)
        yield from _check_shares(exposure)
        yield from _check_unlimited(exposure)
        yield from _check_ignored_terms(exposure)
        yield from _check_inuring(exposure)
        if exposure.filled(_SCOPE, "ReinsNumber"):
            yield from _check_scope_levels(exposure)
        if matches is not None:
            yield from _check_attachment_basis(exposure, matches)
        yield from _check_attachments(exposure)


def _check_dates(exposure: LoadedExposure) -> Iterator[Finding]:
    for table, (begins, ends) in _DATES.items():
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
                for position in _positions(inverted)
            },
        )


def _check_layers(exposure: LoadedExposure) -> Iterator[Finding]:
    key = ["PortNumber", "AccNumber"]
    if not exposure.filled(_ACCOUNT, *key):
        return
    frame = exposure.frames[_ACCOUNT]
    limit, attachment, share = (
        _numbers(frame, column) for column in ("LayerLimit", "LayerAttachment", "LayerParticipation")
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
    if exposure.filled(_LOCATION, *_LOCATION_KEY):
        by_account = _insured_values(exposure).groupby(key, observed=True)["value"].sum()
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
                for position in _positions(above)
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


def _check_types(exposure: LoadedExposure) -> Iterator[Finding]:
    frame = exposure.frames[_INFO]
    for column, known in (("ReinsType", _REINS_TYPES), ("RiskLevel", _RISK_LEVELS)):
        if column not in frame.columns:
            message = f"this column is missing, and Oasis LMF stops; it knows {', '.join(known)}"
            yield exposure.of_file(checks.TREATY_TYPE, _INFO, column, message)
            continue
        values = exposure.texts(_INFO, column)
        message = f"Oasis LMF does not know it and stops; it knows {', '.join(known)}"
        unknown = (values != "") & ~values.isin(known)
        texts_by_row = {position: f"{values.iat[position]}: {message}" for position in _positions(unknown)}
        yield from exposure.of_rows(checks.TREATY_TYPE, _INFO, column, unknown, texts_by_row)


def _check_shares(exposure: LoadedExposure) -> Iterator[Finding]:
    info = exposure.frames[_INFO]
    types = exposure.texts(_INFO, "ReinsType")
    ceded, placed = _numbers(info, "CededPercent"), _numbers(info, "PlacedPercent")
    yield from exposure.of_rows(
        *(checks.TREATY_SHARE_ZERO, _INFO, "CededPercent", (ceded == 0) & (types != "SS")),
        "is 0: this treaty cedes nothing; leave the cell empty for a share of 100 %",
    )
    yield from exposure.of_rows(
        *(checks.TREATY_SHARE_ZERO, _INFO, "PlacedPercent", placed == 0), "is 0: this treaty cedes nothing"
    )
    yield from exposure.of_rows(
        *(checks.TREATY_SHARE_EMPTY, _INFO, "CededPercent", ceded.isna() & (types == "QS")),
        "is empty, which OED takes as 1: this quota share cedes everything",
    )
    if not exposure.filled(_SCOPE, "ReinsNumber"):
        return
    scope = exposure.frames[_SCOPE]
    of_scope, scope_types = _numbers(scope, "CededPercent"), _types_of_scope(exposure)
    yield from exposure.of_rows(
        *(checks.TREATY_SHARE_ZERO, _SCOPE, "CededPercent", (of_scope == 0) & (scope_types == "SS")),
        "is 0: this row of the surplus share cedes nothing",
    )
    yield from exposure.of_rows(
        *(checks.TREATY_SHARE_EMPTY, _SCOPE, "CededPercent", of_scope.isna() & (scope_types == "SS")),
        "is empty, which OED takes as 1: this row of the surplus share cedes everything",
    )
    shares = {
        number: set(group.fillna(1.0))
        for number, group in ceded.groupby(exposure.texts(_INFO, "ReinsNumber"))  # several layers may have several
    }
    differs = [
        bool(share == share and share not in shares.get(number, {share}) and kind != "SS")  # NaN is not itself
        for number, share, kind in zip(exposure.texts(_SCOPE, "ReinsNumber"), of_scope, scope_types, strict=True)
    ]
    yield from exposure.of_rows(
        *(checks.SCOPE_SHARE_IGNORED, _SCOPE, "CededPercent", [row for row, is_so in enumerate(differs) if is_so]),
        lambda share: (
            f"{share:g} is not used: only a surplus share (SS) takes it from the scope. Oasis LMF takes CededPercent "
            "of the info table"
        ),
    )


def _check_unlimited(exposure: LoadedExposure) -> Iterator[Finding]:
    """Find excess of loss treaties for which neither the terms of a risk nor those of an occurrence leave anything."""
    frame = exposure.frames[_INFO]
    types = exposure.texts(_INFO, "ReinsType")
    for kind in ("CXL", "PR"):
        terms = [column for column in _APPLIED[kind] if column in frame.columns]
        none = (frame[terms].fillna(0) == 0).all(axis="columns")
        message = f"this treaty has neither {' nor '.join(_APPLIED[kind])}: it cedes the whole loss"
        yield from exposure.of_rows(checks.TREATY_CEDES_ALL, _INFO, "ReinsType", none & (types == kind), message)


def _check_ignored_terms(exposure: LoadedExposure) -> Iterator[Finding]:
    frame = exposure.frames[_INFO]
    types = exposure.texts(_INFO, "ReinsType")
    for column in _AMOUNTS:
        applies = types.isin([kind for kind, terms in _APPLIED.items() if column in terms])
        yield from _ignored_term(exposure, column, (_numbers(frame, column).fillna(0) != 0) & ~applies)
    for column in _SHARES:
        yield from _ignored_term(exposure, column, _numbers(frame, column).fillna(1) != 1)
    yield from _ignored_term(exposure, "Reinstatement", _numbers(frame, "Reinstatement").fillna(0) != 0)


def _ignored_term(exposure: LoadedExposure, column: str, rows: "pd.Series[bool]") -> Iterator[Finding]:
    types = exposure.texts(_INFO, "ReinsType")
    yield from exposure.of_rows(
        *(checks.TREATY_TERM_IGNORED, _INFO, column, rows),
        {
            position: f"Oasis LMF does not apply {column} to a treaty of ReinsType {types.iat[position]}"
            for position in _positions(rows)
        },
    )


def _check_inuring(exposure: LoadedExposure) -> Iterator[Finding]:
    frame = exposure.frames[_INFO]
    priorities = _numbers(frame, "InuringPriority")
    there = sorted({int(priority) for priority in priorities.dropna()})
    for lower, higher in pairwise(there):
        if higher - lower > 1:
            message = f"no treaty has a priority between {lower} and {higher}; the treaties apply in their order"
            yield exposure.of_file(checks.INURING_GAP, _INFO, "InuringPriority", message)
    levels = exposure.texts(_INFO, "RiskLevel").replace("", "SEL")
    for priority, of_priority in levels.groupby(priorities):
        used = [level for level in _RISK_LEVELS if level in set(of_priority)]
        if len(used) > 1:
            message = (
                f"treaties of priority {priority:g} have the RiskLevels {', '.join(used)}. Oasis LMF applies them one "
                "after the other in this order, each to what is left, not side by side; give them priorities of their "
                "own if that is meant"
            )
            yield exposure.of_file(checks.INURING_LEVELS, _INFO, "RiskLevel", message)


def _check_scope_levels(exposure: LoadedExposure) -> Iterator[Finding]:
    types = _types_of_scope(exposure)
    levels = _of_treaty(exposure, "RiskLevel").replace("", "SEL")
    names_risk = types.isin(("FAC", "SS"))
    for level, (filled, empty) in _NAMES_RISK.items():
        of_level = names_risk & (levels == level)
        for column in filled:
            yield from exposure.of_rows(
                *(checks.SCOPE_RISK_LEVEL, _SCOPE, column, of_level & (exposure.texts(_SCOPE, column) == "")),
                f"is empty, but a facultative or surplus share treaty with RiskLevel {level} needs it, and Oasis LMF "
                "stops",
            )
        for column in empty:
            yield from exposure.of_rows(
                *(checks.SCOPE_RISK_LEVEL, _SCOPE, column, of_level & (exposure.texts(_SCOPE, column) != "")),
                f"must be empty: a facultative or surplus share treaty with RiskLevel {level} names a whole risk, and "
                "Oasis LMF stops",
            )
    for level, below in _BELOW_RISK.items():
        for column in below:
            yield from exposure.of_rows(
                *(
                    checks.SCOPE_BELOW_RISK,
                    _SCOPE,
                    column,
                    ~names_risk & (levels == level) & (exposure.texts(_SCOPE, column) != ""),
                ),
                f"is smaller than a risk of RiskLevel {level}: the terms per risk apply to the loss of this part alone",
            )
    if exposure.filled(_LOCATION):
        groups = exposure.texts(_LOCATION, "LocGroup")
        without = int((groups == "").sum())
        if without:
            yield from exposure.of_rows(
                *(checks.NO_LOCATION_GROUPS, _INFO, "RiskLevel", exposure.texts(_INFO, "RiskLevel") == "LGR"),
                f"LGR: {without:,} locations have no LocGroup, and Oasis LMF takes them for one risk",
            )


def _check_attachment_basis(exposure: LoadedExposure, matches: ScopeMatches) -> Iterator[Finding]:
    attaching = exposure.texts(_INFO, "AttachmentBasis") == "RA"
    if not attaching.any():
        return
    for column in _DATES[_INFO]:
        yield from exposure.of_rows(
            *(checks.DATES_NEEDED, _INFO, column, attaching & (exposure.texts(_INFO, column) == "")),
            "is empty, but AttachmentBasis is RA, and Oasis LMF stops",
        )
    begins = matches.of_treaties("PolInceptionDate")
    treaties = zip(
        *(exposure.texts(_INFO, column).tolist() for column in ("ReinsNumber", *_DATES[_INFO])), attaching, strict=True
    )
    without_date: list[int] = []
    outside: list[int] = []
    for position, (number, first, last, is_attaching) in enumerate(treaties):
        found = begins.get(number, set())
        if is_attaching and found and first and last:
            if "" in found:
                without_date.append(position)
            elif not any(first <= date <= last for date in found):
                outside.append(position)
    yield from exposure.of_rows(
        *(checks.DATES_NEEDED, _INFO, "AttachmentBasis", without_date),
        "RA: a policy in the scope of this treaty has no PolInceptionDate, and Oasis LMF stops",
    )
    yield from exposure.of_rows(
        *(checks.DATES_WITHOUT_POLICY, _INFO, "AttachmentBasis", outside),
        "RA: no policy in the scope of this treaty begins in its period, so it cedes nothing",
    )


def _check_attachments(exposure: LoadedExposure) -> Iterator[Finding]:
    if not exposure.filled(_LOCATION, *_LOCATION_KEY):
        return
    info = exposure.frames[_INFO]
    types, levels = exposure.texts(_INFO, "ReinsType"), exposure.texts(_INFO, "RiskLevel")
    values = _insured_values(exposure)
    whole = float(values["value"].sum())
    largest = {
        "LOC": float(values["value"].max()),
        "ACC": float(values.groupby(["PortNumber", "AccNumber"], observed=True)["value"].sum().max()),
    }
    largest["POL"] = largest["ACC"]
    for column, applies in (
        ("OccAttachment", types.isin(("CXL", "PR"))),
        ("RiskAttachment", types.isin(("FAC", "PR", "SS"))),
    ):
        attachment = _numbers(info, column)
        value = levels.map(largest).fillna(whole) if column == "RiskAttachment" else attachment * 0 + whole
        above = applies & (attachment.fillna(0) > 0) & (attachment >= value) & (value > 0)
        what = "the largest risk" if column == "RiskAttachment" else "the portfolio"
        yield from exposure.of_rows(
            *(checks.TREATY_ABOVE_VALUE, _INFO, column, above),
            {
                position: (
                    f"{attachment.iat[position]:,.0f} is not below the {value.iat[position]:,.0f} that {what} is "
                    "insured for, so this treaty cedes nothing"
                )
                for position in _positions(above)
            },
        )


def _insured_values(exposure: LoadedExposure) -> "pd.DataFrame":
    """The insured value of each location, as Oasis LMF takes it: that of its first row."""
    frame = exposure.frames[_LOCATION]
    present = [column for column in MONEY_COLUMNS if column in frame.columns]
    value = frame[present].fillna(0).sum(axis="columns")
    return frame[_LOCATION_KEY].astype(object).assign(value=value).drop_duplicates(_LOCATION_KEY)


def _types_of_scope(exposure: LoadedExposure) -> "pd.Series[Any]":
    return _of_treaty(exposure, "ReinsType")


def _of_treaty(exposure: LoadedExposure, column: str) -> "pd.Series[Any]":
    """For each row of the scope, a column of its treaty; empty if there is none."""
    numbers = exposure.texts(_SCOPE, "ReinsNumber")
    if _INFO not in exposure.frames:
        return numbers.map(lambda _: "")
    by_number = dict(zip(exposure.texts(_INFO, "ReinsNumber"), exposure.texts(_INFO, column), strict=True))
    return numbers.map(lambda number: by_number.get(number, ""))


def _numbers(frame: "pd.DataFrame", column: str) -> "pd.Series[Any]":
    """A column of numbers; missing everywhere if there is no such column."""
    import numpy as np
    import pandas as pd

    if column not in frame.columns:
        return pd.Series(np.nan, index=frame.index)
    return pd.to_numeric(frame[column], errors="coerce").astype("float64")


def _positions_in(frame: "pd.DataFrame", part: "pd.Series[Any]") -> list[int]:
    """The positions, from 0, of a part of a table."""
    positions: list[int] = frame.index.get_indexer(part.index).tolist()
    return positions


def _positions(rows: "pd.Series[bool]") -> Sequence[int]:
    import numpy as np

    positions: list[int] = np.flatnonzero(rows).tolist()
    return positions
