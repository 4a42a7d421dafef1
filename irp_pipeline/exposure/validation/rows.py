"""Columns and positions of the rows that the checks look at."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.totals.control_total import MONEY_COLUMNS
from irp_pipeline.exposure.validation.findings import LoadedExposure

if TYPE_CHECKING:
    import pandas as pd

_LOCATION, _ACCOUNT, _INFO, _SCOPE = OedTable.LOCATION, OedTable.ACCOUNT, OedTable.RI_INFO, OedTable.RI_SCOPE
LOCATION_KEY = ["PortNumber", "AccNumber", "LocNumber"]
DATES = {
    _LOCATION: ("LocInceptionDate", "LocExpiryDate"),
    _ACCOUNT: ("PolInceptionDate", "PolExpiryDate"),
    _INFO: ("ReinsInceptionDate", "ReinsExpiryDate"),
}


def treaty_types(exposure: LoadedExposure) -> "pd.Series[Any]":
    return of_treaty(exposure, "ReinsType")


def of_treaty(exposure: LoadedExposure, column: str) -> "pd.Series[Any]":
    """Return, for each row of the scope, a column of its treaty; empty if there is no treaty."""
    numbers = exposure.texts(_SCOPE, "ReinsNumber")
    if _INFO not in exposure.frames:
        return numbers.map(lambda _: "")
    by_number = dict(zip(exposure.texts(_INFO, "ReinsNumber"), exposure.texts(_INFO, column), strict=True))
    return numbers.map(lambda number: by_number.get(number, ""))


def numbers(frame: "pd.DataFrame", column: str) -> "pd.Series[Any]":
    """Return a column of numbers; all values are missing if there is no such column."""
    import numpy as np
    import pandas as pd

    if column not in frame.columns:
        return pd.Series(np.nan, index=frame.index)
    return pd.to_numeric(frame[column], errors="coerce").astype("float64")


def positions_in(frame: "pd.DataFrame", part: "pd.Series[Any]") -> list[int]:
    """Return the positions, from 0, of a part of a table."""
    positions: list[int] = frame.index.get_indexer(part.index).tolist()
    return positions


def positions(rows: "pd.Series[bool]") -> Sequence[int]:
    import numpy as np

    positions: list[int] = np.flatnonzero(rows).tolist()
    return positions


def insured_values(exposure: LoadedExposure) -> "pd.DataFrame":
    """Return the insured value of each location as in Oasis LMF: that of its first row."""
    frame = exposure.frames[_LOCATION]
    present = [column for column in MONEY_COLUMNS if column in frame.columns]
    value = frame[present].fillna(0).sum(axis="columns")
    return frame[LOCATION_KEY].astype(object).assign(value=value).drop_duplicates(LOCATION_KEY)
