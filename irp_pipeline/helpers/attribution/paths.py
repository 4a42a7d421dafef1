"""Paths: the parts of one figure, in the order in which the factors change."""

from __future__ import annotations

from collections.abc import Iterable

from irp_pipeline.helpers.attribution.parts import Part, Point


def paths_of(parts: Iterable[Part]) -> list[tuple[Part, ...]]:
    """Return the parts figure by figure, in the order in which they are given."""
    found: dict[tuple[str, Point], list[Part]] = {}
    for part in parts:
        found.setdefault((part.analysis_name, part.point), []).append(part)
    return [tuple(path) for path in found.values()]
