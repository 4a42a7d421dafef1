"""What is checked, as records: an analysis or a group with its figures, and the facts that its jobs state.

Here: the records, and reading facts from a provenance, which any engine may write. Not here: reading the database
(:mod:`irp_pipeline.helpers.sanity.checking`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from irp_pipeline.helpers.comparison.sides import Source
from irp_pipeline.losses import Figure


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFacts:
    """What the job of an analysis says about its figures.

    Attributes:
        analysis: the analysis.
        portfolio: its portfolio.
        il_may_exceed_gul: whether the terms may pay more than the ground-up loss; None if the engine does not say it.
        is_by_means: whether the figures are of mean losses, without samples.
        is_weighted: whether simulated years have different weights.
        tiv: the insured value of the portfolio; None if the engine does not say which part of it the model covers.
        tiv_by_reason: the insured value that the model does not cover, by reason.
    """

    analysis: str
    portfolio: str = ""
    il_may_exceed_gul: bool | None = None
    is_by_means: bool = False
    is_weighted: bool = False
    tiv: float | None = None
    tiv_by_reason: Mapping[str, float] = field(default_factory=dict)

    @property
    def covered(self) -> float | None:
        """The insured value that the model covers; None if it is not known."""
        return None if self.tiv is None else max(self.tiv - math.fsum(self.tiv_by_reason.values()), 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """An analysis or a group with its saved figures.

    Attributes:
        name: its name.
        is_group: whether it is a group.
        currency: of its figures.
        figures: all of them, those of segments too.
        jobs: the facts of its job, or of the jobs of a group's members.
    """

    name: str
    is_group: bool
    currency: str
    figures: Sequence[Figure] = field(repr=False)
    jobs: tuple[JobFacts, ...]


def facts_of_job(source: Source) -> JobFacts:
    """Return what a job says about its figures; entries of another form than expected count as not stated."""
    provenance = source.provenance
    may_exceed = provenance.get("il_may_exceed_gul")
    tiv, by_reason = _values(provenance.get("not_modelled_tiv"))
    return JobFacts(
        analysis=source.analysis,
        portfolio=str(source.parameters.get("portfolio") or ""),
        il_may_exceed_gul=may_exceed if isinstance(may_exceed, bool) else None,
        is_by_means=provenance.get("losses_by") == "means",
        is_weighted=provenance.get("weighted_periods") is True,
        tiv=tiv,
        tiv_by_reason=by_reason,
    )


def _values(stated: Any) -> tuple[float | None, dict[str, float]]:
    if not isinstance(stated, Mapping):
        return None, {}
    by_reason = stated.get("by_reason")
    amounts = by_reason if isinstance(by_reason, Mapping) else {}
    if not all(_is_amount(amount) for amount in (stated.get("portfolio"), *amounts.values())):
        return None, {}
    return float(stated["portfolio"]), {str(reason): float(amount) for reason, amount in amounts.items()}


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
