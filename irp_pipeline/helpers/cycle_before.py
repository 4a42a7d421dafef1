"""Which cycle is the one before another: by exposure date, or by age where a workbook states none.

Here: the rule. Not here: which cycles come into question, such as those with figures.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Protocol, TypeVar


class Dated(Protocol):
    """A cycle that comes into question."""

    @property
    def cycle_id(self) -> int:
        """Its id."""

    @property
    def cycle_name(self) -> str:
        """Its name."""

    @property
    def exposure_date(self) -> dt.date | None:
        """The day whose exposure was analysed, if the workbook says it."""


_Cycle = TypeVar("_Cycle", bound=Dated)


def cycle_before(
    name: str, exposure_date: dt.date | None, older: Sequence[_Cycle], younger: Sequence[_Cycle]
) -> tuple[_Cycle, str] | None:
    """Return the cycle before another one, with the reason in words; None if there is none.

    It is the one with the latest earlier exposure date. If the cycle, or every other one that is older, states no
    exposure date, it is the youngest of the older ones.

    Args:
        name: the cycle's name.
        exposure_date: its exposure date, if it has one.
        older: the cycles that are older than it, the youngest first.
        younger: those that are younger, the oldest first.
    """
    undated = [one for one in older if one.exposure_date is None]
    if exposure_date is None:
        return (older[0], f"by age, since {name} states no exposure date") if older else None
    dated = [one for one in (*older, *younger) if one.exposure_date is not None and one.exposure_date < exposure_date]
    if dated:
        # Of several cycles on one day, the youngest that is older than this one.
        found = max(dated, key=lambda one: (one.exposure_date, one in older, one.cycle_id))
        left_out = [one.cycle_name for one in undated if one.cycle_id > found.cycle_id]
        aside = f"; not considered, since without an exposure date: {', '.join(left_out)}" if left_out else ""
        return found, f"by exposure date, {found.exposure_date} before {exposure_date}{aside}"
    if undated:
        return undated[0], f"by age, since {undated[0].cycle_name} states no exposure date"
    return None


def stated_date(text: str | None) -> dt.date | None:
    """Return the exposure date in the plain data of a configuration; None if it states none."""
    return None if text is None else dt.date.fromisoformat(text[:10])
