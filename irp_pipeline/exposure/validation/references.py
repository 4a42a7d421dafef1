"""References between the tables of an exposure, in both directions: accounts, conditions, treaties, and their scope."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from irp_pipeline.exposure.oed import OedTable, perils_of
from irp_pipeline.exposure.validation import checks
from irp_pipeline.exposure.validation.checks import Check
from irp_pipeline.exposure.validation.findings import Finding, LoadedExposure

if TYPE_CHECKING:
    import pandas as pd

_LOCATION, _ACCOUNT, _INFO, _SCOPE = OedTable.LOCATION, OedTable.ACCOUNT, OedTable.RI_INFO, OedTable.RI_SCOPE
_ACCOUNT_KEY = ["PortNumber", "AccNumber"]
_NO_CONDITION = "0"
"""Oasis LMF reads an empty CondTag as this value."""

# The filters of a scope, from the largest to the smallest, by the table that has them. Oasis LMF takes CountryCode from
# the locations.
_LOCATION_FILTERS = ("LocGroup", "LocNumber", "CountryCode", "ReinsTag")
_ACCOUNT_FILTERS = ("PolNumber", "CedantName", "ProducerName", "LOB")
FILTERS = ("PortNumber", "AccNumber", *_ACCOUNT_FILTERS, *_LOCATION_FILTERS)
_NOUNS = {"PortNumber": "portfolio", "AccNumber": "account"} | dict.fromkeys(_ACCOUNT_FILTERS, "policy")


def check_references(exposure: LoadedExposure, matches: "ScopeMatches | None") -> Iterator[Finding]:
    """Find references from one table to something that the other table does not have.

    Args:
        exposure: the tables.
        matches: what the rows of the scope match; None if that is not known.
    """
    yield from _check_accounts(exposure)
    yield from _check_conditions(exposure)
    yield from _check_treaties(exposure)
    if matches is not None:
        yield from _check_scopes(exposure, matches)


def _check_accounts(exposure: LoadedExposure) -> Iterator[Finding]:
    if not (exposure.filled(_LOCATION, *_ACCOUNT_KEY) and exposure.filled(_ACCOUNT, *_ACCOUNT_KEY)):
        return
    yield from _missing(
        *(exposure, checks.ACCOUNT_MISSING, _LOCATION, _ACCOUNT, _ACCOUNT_KEY),
        "the account file has no such account in this portfolio, so no policy applies to this location, and Oasis LMF "
        "stops",
    )
    yield from _missing(
        *(exposure, checks.ACCOUNT_WITHOUT_LOCATION, _ACCOUNT, _LOCATION, _ACCOUNT_KEY),
        "no location belongs to this account, so its policies pay nothing",
    )


def _check_conditions(exposure: LoadedExposure) -> Iterator[Finding]:
    if not (exposure.filled(_LOCATION, *_ACCOUNT_KEY) and exposure.filled(_ACCOUNT, *_ACCOUNT_KEY)):
        return
    key = [*_ACCOUNT_KEY, "CondTag"]
    accounts = exposure.text_frame(_ACCOUNT, [*key, "CondNumber", "CondPriority"])
    locations = exposure.text_frame(_LOCATION, [*key, "LocNumber"])
    tagged = [~frame["CondTag"].isin(("", _NO_CONDITION)) for frame in (locations, accounts)]
    in_both = [_index(frame, key) for frame in (locations, accounts)]
    # Missing accounts are already reported.
    known_account = _index(locations, _ACCOUNT_KEY).isin(_index(accounts, _ACCOUNT_KEY))
    yield from exposure.of_rows(
        *(checks.CONDTAG_MISSING, _LOCATION, "CondTag"),
        tagged[0] & known_account & ~in_both[0].isin(in_both[1]),
        lambda tag: f"{tag}: no condition of this account in the account file has this CondTag, and Oasis LMF stops",
    )
    yield from exposure.of_rows(
        *(checks.CONDTAG_UNUSED, _ACCOUNT, "CondTag"),
        tagged[1] & ~in_both[1].isin(in_both[0]),
        lambda tag: f"{tag}: no location of this account has this CondTag, so this condition never applies",
    )
    yield from exposure.of_rows(
        *(checks.CONDTAG_NUMBER, _ACCOUNT, "CondNumber"),
        tagged[1] & (accounts["CondNumber"] == ""),
        "is empty, but the row has a CondTag; a condition needs both",
    )
    yield from exposure.of_rows(
        *(checks.CONDTAG_NUMBER, _ACCOUNT, "CondTag"),
        (accounts["CondTag"] == "") & (accounts["CondNumber"] != ""),
        "is empty, but the row has a CondNumber, so this condition applies to no location",
    )
    yield from _check_priorities(exposure, locations[tagged[0]], accounts[tagged[1]])


def _check_priorities(
    exposure: LoadedExposure, locations: "pd.DataFrame", accounts: "pd.DataFrame"
) -> Iterator[Finding]:
    priorities = accounts.drop_duplicates([*_ACCOUNT_KEY, "CondTag"]).drop(columns="CondNumber")
    priorities = priorities.assign(CondPriority=priorities["CondPriority"].replace({"": "1", "0": "1"}))
    rows = locations.drop_duplicates([*_ACCOUNT_KEY, "LocNumber", "CondTag"]).reset_index(names="position")
    rows = rows.merge(priorities, on=[*_ACCOUNT_KEY, "CondTag"])
    repeated = rows[rows.duplicated([*_ACCOUNT_KEY, "LocNumber", "CondPriority"])]
    yield from exposure.of_rows(
        *(checks.CONDPRIORITY_REPEATED, _LOCATION, "CondTag", sorted(repeated["position"].tolist())),
        lambda tag: (
            f"{tag}: this location has another CondTag with the same CondPriority in the account file, and Oasis LMF "
            "stops; give the conditions different priorities"
        ),
    )


def _check_treaties(exposure: LoadedExposure) -> Iterator[Finding]:
    if not (exposure.filled(_INFO, "ReinsNumber") and exposure.filled(_SCOPE, "ReinsNumber")):
        return
    yield from _missing(
        *(exposure, checks.SCOPE_WITHOUT_TREATY, _SCOPE, _INFO, ["ReinsNumber"]),
        "the reinsurance info file has no such reinsurance, so nothing is ceded by this row",
    )
    yield from _missing(
        *(exposure, checks.TREATY_WITHOUT_SCOPE, _INFO, _SCOPE, ["ReinsNumber"]),
        "the reinsurance scope file does not say what this reinsurance covers: it cedes nothing, and Oasis LMF stops "
        "if no other treaty has the same InuringPriority and RiskLevel",
    )


def _check_scopes(exposure: LoadedExposure, matches: "ScopeMatches") -> Iterator[Finding]:
    yield from _each_column(
        exposure, checks.SCOPE_WITHOUT_MATCH, {position: _unmatched(miss) for position, miss in matches.misses.items()}
    )
    if not exposure.filled(_INFO, "ReinsNumber"):
        return
    scope_numbers, treaties = (exposure.texts(table, "ReinsNumber") for table in (_SCOPE, _INFO))
    matching = scope_numbers[~scope_numbers.index.isin(matches.misses)]
    yield from exposure.of_rows(
        *(checks.TREATY_WITHOUT_MATCH, _INFO, "ReinsNumber"),
        treaties.isin(scope_numbers) & ~treaties.isin(matching),
        lambda number: f"{number}: no row of its scope matches a location and policy: this treaty cedes nothing",
    )
    yield from _check_treaty_perils(exposure, matches)


def _each_column(exposure: LoadedExposure, check: Check, found: "dict[int, tuple[str, str]]") -> Iterator[Finding]:
    by_column: dict[str, dict[int, str]] = {}
    for position, (column, message) in sorted(found.items()):
        by_column.setdefault(column, {})[position] = message
    for column, messages in by_column.items():
        yield from exposure.of_rows(check, _SCOPE, column, list(messages), messages)


@dataclass(frozen=True)
class ScopeMatches:
    """Which rows of a scope match something.

    Attributes:
        filters: for all rows, the filters that any row uses, and ``ReinsNumber``, as text.
        misses: by position, for the rows that match nothing: their filters, from the largest to the one at which
            nothing is left, as column and value.
        risks: the existing locations and policies: the filters that any row uses, ``LocPerilsCovered`` and
            ``PolInceptionDate``, as text, each combination once.
        patterns: the positions of the rows that match something, for each list of filters that rows use.
    """

    filters: "pd.DataFrame"
    misses: dict[int, list[tuple[str, str]]]
    risks: "pd.DataFrame"
    patterns: dict[tuple[str, ...], list[int]]

    def of_treaties(self, column: str) -> dict[str, set[str]]:
        """Return the values of a column of the risks that each ReinsNumber applies to."""
        found: dict[str, set[str]] = {}
        for pattern, positions in self.patterns.items():
            rows = self.filters.iloc[positions][["ReinsNumber", *pattern]].drop_duplicates()
            risks = self.risks[[*pattern, column]].drop_duplicates()
            joined = rows.merge(risks, on=list(pattern)) if pattern else rows.merge(risks, how="cross")
            for number, values in joined.groupby("ReinsNumber")[column].unique().items():
                found.setdefault(str(number), set()).update(values)
        return found


def scope_matches(exposure: LoadedExposure) -> ScopeMatches | None:
    """Find which rows of the scope match a location and policy, by all the filters that they fill.

    Returns:
        None if there is no scope, or neither locations nor accounts.
    """
    if not (exposure.filled(_SCOPE) and (exposure.filled(_LOCATION) or exposure.filled(_ACCOUNT))):
        return None
    scope = exposure.frames[_SCOPE]
    filters = exposure.text_frame(_SCOPE, ["ReinsNumber", *(column for column in FILTERS if column in scope.columns)])
    used = [column for column in filters.columns if column != "ReinsNumber" and (filters[column] != "").any()]
    risks = _risks(exposure, used)
    judged = [column for column in used if column in risks.columns]
    patterns: dict[tuple[str, ...], list[int]] = {}
    misses: dict[int, list[tuple[str, str]]] = {}
    filled = (filters[judged] != "").to_numpy()
    by_pattern: dict[tuple[str, ...], list[int]] = {}
    for position, mask in enumerate(filled.tolist()):
        by_pattern.setdefault(
            tuple(column for column, is_filled in zip(judged, mask, strict=True) if is_filled), []
        ).append(position)
    for pattern, positions in by_pattern.items():
        left = positions
        for length in range(1, len(pattern) + 1):
            if not left:
                break
            prefix = list(pattern[:length])
            rows = filters.iloc[left][prefix]
            found = _index(rows, prefix).isin(_index(risks[prefix].drop_duplicates(), prefix))
            for position, is_found in zip(left, found.tolist(), strict=True):
                if not is_found:
                    misses[position] = [(column, str(filters[column].iat[position])) for column in prefix]
            left = [position for position, is_found in zip(left, found.tolist(), strict=True) if is_found]
        if left:
            patterns[pattern] = left
    return ScopeMatches(filters, misses, risks, patterns)


def _risks(exposure: LoadedExposure, used: Sequence[str]) -> "pd.DataFrame":
    """Return locations with their policies: the columns in use. Filters of a missing table are not checked."""
    import pandas as pd

    parts: list[pd.DataFrame] = []
    for table, filters, other in (
        (_LOCATION, _LOCATION_FILTERS, "LocPerilsCovered"),
        (_ACCOUNT, _ACCOUNT_FILTERS, "PolInceptionDate"),
    ):
        if exposure.filled(table, *_ACCOUNT_KEY):
            columns = [*_ACCOUNT_KEY, *(column for column in filters if column in used), other]
            parts.append(exposure.text_frame(table, columns).drop_duplicates())
    if not parts:
        return pd.DataFrame(columns=[*_ACCOUNT_KEY, "LocPerilsCovered", "PolInceptionDate"], dtype=object)
    if len(parts) == 1:
        return parts[0].assign(
            **{column: "" for column in ("LocPerilsCovered", "PolInceptionDate") if column not in parts[0].columns}
        )
    return parts[0].merge(parts[1], on=_ACCOUNT_KEY)


def _unmatched(miss: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return the column at which nothing is left, and the message."""
    column, value = miss[-1]
    noun = _NOUNS.get(column, "location")
    within = ", ".join(f"{name} {found}" for name, found in miss[:-1])
    return column, (
        f"{_as_named(value)}: no {noun} has this {column}{f' within {within}' if within else ''}, so this row of the "
        "scope applies to nothing"
    )


def _check_treaty_perils(exposure: LoadedExposure, matches: ScopeMatches) -> Iterator[Finding]:
    if not (exposure.filled(_INFO, "ReinsPeril") and exposure.filled(_LOCATION, "LocPerilsCovered")):
        return
    covered = matches.of_treaties("LocPerilsCovered")
    numbers = exposure.texts(_INFO, "ReinsNumber")
    disjoint: dict[int, str] = {}
    fewer: dict[int, str] = {}
    for position, (number, codes) in enumerate(zip(numbers, exposure.texts(_INFO, "ReinsPeril"), strict=True)):
        perils = perils_of(codes)
        insured = frozenset[str]().union(*map(perils_of, covered.get(number, ())))
        if not perils or not insured or insured <= perils:
            continue
        if perils.isdisjoint(insured):
            disjoint[position] = (
                f"{codes}: none of the locations that this treaty applies to is insured for it. Oasis LMF does not "
                "look at ReinsPeril, and cedes the losses of all perils by this treaty; remove the treaty from the "
                "files, or correct it"
            )
        else:
            fewer[position] = (
                f"{codes}: the locations that this treaty applies to are also insured for {_some(insured - perils)}. "
                "Oasis LMF does not look at ReinsPeril, and also cedes the losses of these perils"
            )
    yield from exposure.of_rows(checks.TREATY_PERILS_DISJOINT, _INFO, "ReinsPeril", list(disjoint), disjoint)
    yield from exposure.of_rows(checks.TREATY_PERILS_FEWER, _INFO, "ReinsPeril", list(fewer), fewer)


def check_perils(exposure: LoadedExposure) -> Iterator[Finding]:
    """Find policies and terms for perils that the locations are not insured for."""
    if not exposure.filled(_LOCATION, *_ACCOUNT_KEY, "LocPerilsCovered"):
        return
    insured = _perils_of_accounts(exposure)
    yield from _check_policy_perils(exposure, insured)
    for table, column in (
        (_LOCATION, "LocPeril"),
        (_ACCOUNT, "PolPeril"),
        (_ACCOUNT, "AccPeril"),
        (_ACCOUNT, "CondPeril"),
    ):
        if not exposure.filled(table, *_ACCOUNT_KEY, column):
            continue
        frame = exposure.text_frame(table, [*_ACCOUNT_KEY, column])
        if table is _LOCATION:
            own = exposure.texts(table, "LocPerilsCovered")
            judged = frame[[column]].assign(own=own)
            never = [
                bool(peril) and bool(perils_of(covered)) and perils_of(peril).isdisjoint(perils_of(covered))
                for peril, covered in zip(judged[column], judged["own"], strict=True)
            ]
            who = "this location is not"
        else:
            never = [
                bool(peril) and (key in insured) and perils_of(peril).isdisjoint(insured[key])
                for peril, key in zip(frame[column], _keys(frame), strict=True)
            ]
            who = "no location of this account is"
        codes = frame[column].tolist()
        yield from exposure.of_rows(
            *(checks.TERMS_PERIL, table, column, [position for position, is_so in enumerate(never) if is_so]),
            {
                position: f"{codes[position]}: {who} insured for it, so the deductibles and limits for it never apply"
                for position, is_so in enumerate(never)
                if is_so
            },
        )


def _check_policy_perils(
    exposure: LoadedExposure, insured: "dict[tuple[str, str], frozenset[str]]"
) -> Iterator[Finding]:
    if not exposure.filled(_ACCOUNT, *_ACCOUNT_KEY, "PolPerilsCovered"):
        return
    frame = exposure.text_frame(_ACCOUNT, [*_ACCOUNT_KEY, "PolPerilsCovered"])
    disjoint: dict[int, str] = {}
    fewer: dict[int, str] = {}
    for position, (key, codes) in enumerate(zip(_keys(frame), frame["PolPerilsCovered"], strict=True)):
        perils, of_locations = perils_of(codes), insured.get(key, frozenset())
        if not perils or of_locations <= perils:
            continue
        if perils.isdisjoint(of_locations):
            disjoint[position] = (
                f"{codes}: no location of this account is insured for it. Oasis LMF does not look at PolPerilsCovered: "
                "this policy pays for the perils of its locations, although it does not cover them"
            )
        else:
            fewer[position] = (
                f"{codes}: locations of this account are also insured for {_some(of_locations - perils)}. Oasis LMF "
                "does not look at PolPerilsCovered, and this policy also pays for these perils"
            )
    yield from exposure.of_rows(checks.POLICY_PERILS_DISJOINT, _ACCOUNT, "PolPerilsCovered", list(disjoint), disjoint)
    yield from exposure.of_rows(checks.POLICY_PERILS_FEWER, _ACCOUNT, "PolPerilsCovered", list(fewer), fewer)


def _perils_of_accounts(exposure: LoadedExposure) -> "dict[tuple[str, str], frozenset[str]]":
    """Return the single perils that the locations of each account are insured for."""
    frame = exposure.text_frame(_LOCATION, [*_ACCOUNT_KEY, "LocPerilsCovered"]).drop_duplicates()
    perils: dict[tuple[str, str], frozenset[str]] = {}
    for key, codes in zip(_keys(frame), frame["LocPerilsCovered"], strict=True):
        perils[key] = perils.get(key, frozenset()) | perils_of(codes)
    return perils


def _keys(frame: "pd.DataFrame") -> Iterator[tuple[str, str]]:
    return zip(frame["PortNumber"], frame["AccNumber"], strict=True)


def _missing(
    exposure: LoadedExposure, check: Check, table: OedTable, other: OedTable, columns: list[str], message: str
) -> Iterator[Finding]:
    """Find the rows whose columns are all filled in but do not occur together in the other table."""
    frame = exposure.text_frame(table, columns)
    filled = (frame != "").all(axis="columns")
    known = _index(exposure.text_frame(other, columns).drop_duplicates(), columns)
    missing = filled & ~_index(frame, columns).isin(known)
    yield from exposure.of_rows(check, table, columns[-1], missing, lambda value: f"{_as_named(value)}: {message}")


def _as_named(value: object) -> str:
    """Return an identifier for a message: in quotation marks if it has blanks at its ends, which are invisible."""
    text = str(value)
    return text if text == text.strip() else repr(text)


def _index(frame: "pd.DataFrame", columns: Sequence[str]) -> "pd.Index[Any] | pd.MultiIndex":
    import pandas as pd

    return pd.Index(frame[columns[0]]) if len(columns) == 1 else pd.MultiIndex.from_frame(frame[list(columns)])


def _some(codes: "frozenset[str]") -> str:
    listed = sorted(codes)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
