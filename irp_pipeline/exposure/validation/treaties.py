"""Treaties whose terms contradict each other or have no effect."""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.validation import checks
from irp_pipeline.exposure.validation.findings import Finding, LoadedExposure
from irp_pipeline.exposure.validation.references import ScopeMatches
from irp_pipeline.exposure.validation.rows import (
    DATES,
    LOCATION_KEY,
    insured_values,
    numbers,
    of_treaty,
    positions,
    treaty_types,
)

if TYPE_CHECKING:
    import pandas as pd

_LOCATION, _ACCOUNT, _INFO, _SCOPE = OedTable.LOCATION, OedTable.ACCOUNT, OedTable.RI_INFO, OedTable.RI_SCOPE
_REINS_TYPES = ("FAC", "QS", "SS", "PR", "CXL")
_RISK_LEVELS = ("LOC", "LGR", "POL", "ACC", "SEL")
# The terms that Oasis LMF 2.5.8 applies, by ReinsType; it reads all others but does not use them.
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
# For a treaty that names its risks one by one: the columns that a row of its scope must fill, and must not fill.
_NAMES_RISK: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ACC": (("AccNumber",), ("PolNumber", "LocNumber")),
    "POL": (("AccNumber", "PolNumber"), ("LocNumber",)),
    "LOC": (("AccNumber", "LocNumber"), ()),
    "LGR": (("LocGroup",), ()),
}
_BELOW_RISK = {"ACC": ("PolNumber", "LocNumber"), "POL": ("LocNumber",), "LGR": ("LocNumber",)}


def check_treaties(exposure: LoadedExposure, matches: ScopeMatches | None) -> Iterator[Finding]:
    """Find treaties whose terms have no effect or cannot be intended.

    Args:
        exposure: the tables.
        matches: what the rows of the scope match; None if that is not known.
    """
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
        texts_by_row = {position: f"{values.iat[position]}: {message}" for position in positions(unknown)}
        yield from exposure.of_rows(checks.TREATY_TYPE, _INFO, column, unknown, texts_by_row)


def _check_shares(exposure: LoadedExposure) -> Iterator[Finding]:
    info = exposure.frames[_INFO]
    types = exposure.texts(_INFO, "ReinsType")
    ceded, placed = numbers(info, "CededPercent"), numbers(info, "PlacedPercent")
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
    of_scope, scope_types = numbers(scope, "CededPercent"), treaty_types(exposure)
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
    """Find excess of loss treaties that cede the whole loss, by their terms per risk and per occurrence."""
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
        yield from _ignored_term(exposure, column, (numbers(frame, column).fillna(0) != 0) & ~applies)
    for column in _SHARES:
        yield from _ignored_term(exposure, column, numbers(frame, column).fillna(1) != 1)
    yield from _ignored_term(exposure, "Reinstatement", numbers(frame, "Reinstatement").fillna(0) != 0)


def _ignored_term(exposure: LoadedExposure, column: str, rows: "pd.Series[bool]") -> Iterator[Finding]:
    types = exposure.texts(_INFO, "ReinsType")
    yield from exposure.of_rows(
        *(checks.TREATY_TERM_IGNORED, _INFO, column, rows),
        {
            position: f"Oasis LMF does not apply {column} to a treaty of ReinsType {types.iat[position]}"
            for position in positions(rows)
        },
    )


def _check_inuring(exposure: LoadedExposure) -> Iterator[Finding]:
    frame = exposure.frames[_INFO]
    priorities = numbers(frame, "InuringPriority")
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
                "after the other in this order, each to what is left, not side by side; if that is intended, give them "
                "different priorities"
            )
            yield exposure.of_file(checks.INURING_LEVELS, _INFO, "RiskLevel", message)


def _check_scope_levels(exposure: LoadedExposure) -> Iterator[Finding]:
    types = treaty_types(exposure)
    levels = of_treaty(exposure, "RiskLevel").replace("", "SEL")
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
                f"LGR: Oasis LMF takes the locations without LocGroup ({without:,}) for one risk",
            )


def _check_attachment_basis(exposure: LoadedExposure, matches: ScopeMatches) -> Iterator[Finding]:
    attaching = exposure.texts(_INFO, "AttachmentBasis") == "RA"
    if not attaching.any():
        return
    for column in DATES[_INFO]:
        yield from exposure.of_rows(
            *(checks.DATES_NEEDED, _INFO, column, attaching & (exposure.texts(_INFO, column) == "")),
            "is empty, but AttachmentBasis is RA, and Oasis LMF stops",
        )
    begins = matches.of_treaties("PolInceptionDate")
    treaties = zip(
        *(exposure.texts(_INFO, column).tolist() for column in ("ReinsNumber", *DATES[_INFO])), attaching, strict=True
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
    if not exposure.filled(_LOCATION, *LOCATION_KEY):
        return
    info = exposure.frames[_INFO]
    types, levels = exposure.texts(_INFO, "ReinsType"), exposure.texts(_INFO, "RiskLevel")
    values = insured_values(exposure)
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
        attachment = numbers(info, column)
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
                for position in positions(above)
            },
        )
