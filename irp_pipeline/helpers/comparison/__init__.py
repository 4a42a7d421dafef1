"""Comparison: two cycles, batches, analyses or groups side by side, and what else than the exposure differs.

``errors``, ``sides``
    the exception of this package, and what is compared, as records.
``differences``, ``exposure``, ``figures``
    what is different: the sources of figures, the portfolios, the figures. Pure: no database.
``choosing``, ``reading``
    which cycle is the one before, and which batch is compared; reading both sides from the database.
``comparing``
    all of it together, for reports and notebooks.
"""

from irp_pipeline.helpers.comparison.choosing import Before, cycle_before
from irp_pipeline.helpers.comparison.comparing import (
    Comparison,
    compare,
    compare_cycles,
    compare_with_cycle_before,
    exposure_row,
    source_rows,
)
from irp_pipeline.helpers.comparison.differences import Difference, in_words
from irp_pipeline.helpers.comparison.errors import ComparisonError
from irp_pipeline.helpers.comparison.exposure import ExposureLine, Quantity
from irp_pipeline.helpers.comparison.sides import Compared, Side, Source

__all__ = [
    "Before",
    "Compared",
    "Comparison",
    "ComparisonError",
    "Difference",
    "ExposureLine",
    "Quantity",
    "Side",
    "Source",
    "compare",
    "compare_cycles",
    "compare_with_cycle_before",
    "cycle_before",
    "exposure_row",
    "in_words",
    "source_rows",
]
