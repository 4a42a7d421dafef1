"""The words of the field that several parts of the package share: whose loss, which figure, which table.

Here: what a perspective, a metric and an OED table can be. Not here: how they are called for people, which is the
business of who shows them, and the columns of the tables (:mod:`irp_pipeline.exposure.oed`).
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Perspective(StrEnum):
    """Whose loss: ground-up, insured (gross of reinsurance), net of reinsurance."""

    GUL = "GUL"
    IL = "IL"
    RI = "RI"

    @classmethod
    def among(cls, names: Iterable[str]) -> "list[Perspective]":
        """Return the perspectives that are among some names, from the ground up."""
        there = set(names)
        return [perspective for perspective in cls if perspective in there]


class Metric(StrEnum):
    """What a figure is: average annual loss, standard deviation, a point of a curve, or the loss at a loss factor."""

    AAL = "AAL"
    STD_DEV = "STD_DEV"
    OEP = "OEP"
    AEP = "AEP"
    LOSS = "LOSS"

    @classmethod
    def known(cls, name: str) -> "Metric | str":
        """Return a metric by its name, and the name itself of one that a distribution declares."""
        return cls(name) if name in set(cls) else name


CURVES = (Metric.OEP, Metric.AEP)
"""The metrics that belong to a return period: of the largest event of a year, and of a whole year."""

USUAL_RETURN_PERIODS: Final = (100, 250)
"""In years: those that people compare."""

SEGMENT_SIGN = "+"
"""Between the OED fields of a segment, and between their values, where people write or read them."""


class OedTable(StrEnum):
    """The four tables of an exposure; the values are the names Oasis LMF gives the files."""

    LOCATION = "location"
    ACCOUNT = "account"
    RI_INFO = "ri_info"
    RI_SCOPE = "ri_scope"
