"""The record of the section on why losses changed. :mod:`irp_pipeline.report.attribution` draws it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from irp_pipeline.helpers.attribution import Part
from irp_pipeline.helpers.attribution.paths import paths_of
from irp_pipeline.vocabulary import Perspective


@dataclass(frozen=True, kw_only=True)
class AttributionSection:
    """What the report says about why losses changed.

    Attributes:
        earlier: the earlier cycle.
        later: the later one.
        batch_id: the batch with the jobs between them.
        parts: the parts of all figures.
    """

    earlier: str
    later: str
    batch_id: int
    parts: tuple[Part, ...] = field(repr=False)

    def path(self, name: str, perspective: Perspective, metric: str, point: float | None) -> tuple[Part, ...]:
        """Return the parts of one figure, in their order; empty if it has none.

        Args:
            name: the analysis or group.
            perspective: the perspective.
            metric: the metric.
            point: the return period in years, or the loss factor; None if its metric has neither.
        """
        for path in paths_of(self.parts):
            of = path[0].point
            at = of.loss_factor if of.return_period is None else of.return_period
            if (path[0].analysis_name, of.perspective, of.metric, at) == (name, perspective, metric, point):
                return path
        return ()

    def content(self) -> list[list[Any]]:
        """Return it as plain data, without ids and times."""
        return [
            [self.earlier, part.analysis_name, *part.point, part.factor, part.before, part.after, part.sampling_error]
            for part in self.parts
        ]
