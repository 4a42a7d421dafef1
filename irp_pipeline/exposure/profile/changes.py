"""How an exposure differs from that of another cycle, and the rows that a reader sees: few, with the rest in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from irp_pipeline.exposure.oed import code_names
from irp_pipeline.exposure.profile.records import SEVERAL, Amount, CurrencyProfile, Segment

_NOTHING: Final = Amount(tiv=0.0, locations=0, accounts=0)

# OED, "OtherValues", version 5: how exactly an address was found. ods_tools has no list of them.
_ADDRESS_MATCHES: Final = {
    "0": "not geocoded",
    "1": "coordinates given",
    "2": "exact address",
    "3": "parcel",
    "4": "interpolated street",
    "5": "postcode, high resolution",
    "6": "block group or street name",
    "7": "postcode",
    "8": "city",
    "9": "area",
    "10": "CRESTA zone",
    "20": "country",
}

TITLES: Final = {
    "CountryCode": "Country",
    "AreaCode": "Area",
    "OccupancyCode": "Occupancy",
    "ConstructionCode": "Construction",
    "LocPerilsCovered": "Perils covered",
    "LOB": "Line of business",
    "AddressMatch": "Geocoded by",
    "AccNumber": "Account",
}
"""The titles of the fields for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A segment beside what it was in the other cycle.

    Attributes:
        value: the value of the OED field, None for all others together.
        name: what OED calls the value; ``""`` if it has no name.
        values: how many values these are.
        now: how much it is.
        before: how much it was; None if that is not known.
        share: its share of the insured value now; 0 if there is none at all.
    """

    value: str | None
    name: str
    values: int
    now: Amount
    before: Amount | None
    share: float

    @property
    def change(self) -> float | None:
        """The change of the insured value, as a share of what it was; None if that was nothing or is not known."""
        return None if self.before is None or not self.before.tiv else self.now.tiv / self.before.tiv - 1


def fields_of(profile: CurrencyProfile) -> tuple[str, ...]:
    """Return the fields by which a profile is split, in their order."""
    return tuple(dict.fromkeys(segment.field for segment in profile.segments))


def rows_of(profile: CurrencyProfile, before: CurrencyProfile | None, field: str, most: int) -> tuple[Row, ...]:
    """Return the segments of a field, the largest first.

    Args:
        profile: the exposure in a currency.
        before: that of the other cycle in the same currency; None if there is none.
        field: an OED field.
        most: how many values have a row of their own. Those that have become nothing count by what they were.

    Returns:
        The rows. If there are more values, the last row is for the others.
    """
    now, then = _by_value(profile, field), _by_value(before, field) if before else {}
    total = profile.amount.tiv
    # What has no row of its own in the files of the other cycle is not known.
    is_whole = None not in then and None not in now
    size = {value: max(_tiv(now.get(value)), _tiv(then.get(value))) for value in (*now, *then) if value is not None}
    ranked = sorted(size, key=lambda value: -size[value])
    shown = ranked if len(ranked) <= most + 1 and None not in now else ranked[:most]
    rows = []
    for value in shown:
        segment, earlier = now.get(value), then.get(value)
        amount = segment.amount if segment else _NOTHING
        known_before = (earlier.amount if earlier else _NOTHING if is_whole else None) if before else None
        rows.append(
            Row(
                value=value,
                name=name_of(field, value),
                values=1,
                now=amount,
                before=known_before,
                share=amount.tiv / total if total else 0.0,
            )
        )
    if others := [segment for value, segment in now.items() if value not in shown]:
        rest = _sum([segment.amount for segment in others])
        hidden = [segment.amount for value, segment in then.items() if value not in shown]
        all_known = before is not None and all(row.before is not None for row in rows)
        rows.append(
            Row(
                value=None,
                name="",
                values=sum(segment.values for segment in others),
                now=rest,
                before=_sum(hidden) if all_known else None,
                share=rest.tiv / total if total else 0.0,
            )
        )
    return tuple(rows)


def name_of(field: str, value: str) -> str:
    """Return what OED calls a value of a field; ``""`` if it has no name for it."""
    if field == "AddressMatch":
        return _ADDRESS_MATCHES.get(value, "")
    names: Mapping[str, str] = code_names(field)
    found = [names.get(code.strip(), "") for code in value.split(";")]
    return "; ".join(found) if all(found) else ""


def shown_value(value: str | None, values: int = 1) -> str:
    """Return a value in words."""
    if value is None:
        return f"{values:,} others"
    if value == SEVERAL:
        return "several in one account"
    return value or "blank"


def _by_value(profile: CurrencyProfile, field: str) -> dict[str | None, Segment]:
    return {segment.value: segment for segment in profile.segments if segment.field == field}


def _tiv(segment: Segment | None) -> float:
    return segment.amount.tiv if segment else 0.0


def _sum(amounts: Sequence[Amount]) -> Amount:
    """Add up amounts. The same account may be in several of them, so that accounts are not counted."""
    return Amount(
        tiv=sum(amount.tiv for amount in amounts), locations=sum(amount.locations for amount in amounts), accounts=0
    )
