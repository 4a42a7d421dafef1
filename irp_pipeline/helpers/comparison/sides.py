"""The two sides of a comparison as values: what a side is, without its figures.

Here: the records. Not here: reading them (:mod:`irp_pipeline.helpers.comparison.reading`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from irp_pipeline.helpers.portfolio_facts import PortfolioFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where the figures of an analysis come from.

    Attributes:
        analysis: the analysis.
        parameters: of its job.
        request: what its engine was given besides, such as the hash of a model's files.
        currency: of its losses.
        provenance: what its engine says.
    """

    analysis: str
    parameters: Mapping[str, Any]
    request: Mapping[str, Any]
    currency: str
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """An analysis or a group with saved figures.

    Attributes:
        name: its name.
        is_group: whether it is a group.
        sources: where its figures come from; one for an analysis, one for each member of a group.
    """

    name: str
    is_group: bool
    sources: tuple[Source, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of the two sides of a comparison.

    Attributes:
        cycle_name: the cycle.
        label: how the side is called: the cycle's name, with the batch if both sides are of one cycle.
        batch_id: the batch whose figures are compared.
        exposure_date: the day whose exposure was analysed, if the workbook says it.
        portfolios: what is recorded about each portfolio of the workbook, by name.
        subjects: the analyses and groups that have figures, by name.
    """

    cycle_name: str
    label: str
    batch_id: int
    exposure_date: dt.date | None
    portfolios: Mapping[str, PortfolioFacts] = field(repr=False)
    subjects: Mapping[str, Compared] = field(repr=False)
