"""Segments: the parts of a portfolio by OED fields, which have figures of their own.

A combination of fields (``segment_by``) and its values (``segment``) are the key of a segment; both are empty for the
whole portfolio. Here: what an engine says about the segments of an analysis, and the period losses of each. Not here:
which fields there are (:mod:`irp_pipeline.exposure.segment_fields`), and the figures, which are computed as those of
the whole (:mod:`irp_pipeline.losses.figures`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from irp_pipeline.vocabulary import SEGMENT_SIGN, Perspective


@dataclass(frozen=True)
class Segment:
    """A part of the portfolio of an analysis.

    Attributes:
        values: of the fields, in their order, as text.
        tiv: the insured value of its locations, in the currency of the losses; None if it is not known.
        locations: how many locations it has; likewise.
        summaries: by perspective, the ``SummaryId`` that it has in tables of losses; none if nothing of it is modelled.
    """

    values: tuple[str, ...]
    tiv: float | None = None
    locations: int | None = None
    summaries: Mapping[Perspective, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as an engine reports it."""
        return {
            "values": list(self.values),
            "tiv": self.tiv,
            "locations": self.locations,
            "summaries": dict(self.summaries),
        }


@dataclass(frozen=True)
class Segmentation:
    """The segments of an analysis by one combination of fields.

    Attributes:
        by: the OED fields.
        segments: the segments.
        period_losses: by perspective, the name of the result file with the period losses of all of them.
    """

    by: tuple[str, ...]
    segments: tuple[Segment, ...] = field(repr=False)
    period_losses: Mapping[Perspective, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as an engine reports it."""
        return {
            "by": list(self.by),
            "segments": [segment.as_json() for segment in self.segments],
            "period_losses": dict(self.period_losses),
        }

    @classmethod
    def from_json(cls, reported: Mapping[str, Any]) -> Segmentation:
        """Read what an engine reported.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        return cls(
            _texts(reported["by"]),
            tuple(
                Segment(
                    _texts(of["values"]),
                    None if of["tiv"] is None else float(of["tiv"]),
                    None if of["locations"] is None else int(of["locations"]),
                    {Perspective(name): int(number) for name, number in of["summaries"].items()},
                )
                for of in reported["segments"]
            ),
            {Perspective(name): str(file) for name, file in reported["period_losses"].items()},
        )

    def by_summary(self, perspective: Perspective) -> dict[int, tuple[str, ...]]:
        """Return the values of the segments that have losses of a perspective, by their ``SummaryId``."""
        return {of.summaries[perspective]: of.values for of in self.segments if perspective in of.summaries}


def joined(parts: Sequence[str]) -> str:
    """Return the fields or the values of a key as people read it; empty for the whole."""
    return SEGMENT_SIGN.join(parts)


def _texts(parts: object) -> tuple[str, ...]:
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise TypeError(f"{parts!r} is no list of texts")
    return tuple(parts)
