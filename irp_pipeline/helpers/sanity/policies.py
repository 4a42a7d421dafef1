"""The dates of policies in extracted exposure: the only dates that OED gives a portfolio.

OED has no field for the day whose exposure a portfolio is. Policies have ``PolInceptionDate`` and ``PolExpiryDate``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_INCEPTION: Final = "PolInceptionDate"
_EXPIRY: Final = "PolExpiryDate"


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyDates:
    """The days on which policies of a portfolio are in force.

    Attributes:
        first: the first inception.
        last: the last expiry.
    """

    first: dt.date
    last: dt.date

    def __str__(self) -> str:
        return f"{self.first} to {self.last}"


def policy_dates(accounts: Path) -> PolicyDates | None:
    """Return the dates of the policies of a portfolio; None if they are not stated.

    Args:
        accounts: its extracted account table. Dates are text; what is not a date as ``2024-01-31`` counts as empty.

    Raises:
        OSError: the file cannot be read.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not {_INCEPTION, _EXPIRY} <= set(pq.read_schema(accounts).names):
        return None
    table = pq.read_table(accounts, columns=[_INCEPTION, _EXPIRY])
    inceptions, expiries = (list(_dates(pc.unique(table[name]).to_pylist())) for name in (_INCEPTION, _EXPIRY))
    if not inceptions or not expiries or min(inceptions) > max(expiries):
        return None
    return PolicyDates(first=min(inceptions), last=max(expiries))


def _dates(texts: Iterable[str | None]) -> Iterator[dt.date]:
    for text in texts:
        try:
            yield dt.date.fromisoformat(text or "")
        except ValueError:  # empty, or not a date: the check of the exposure has told it
            continue
