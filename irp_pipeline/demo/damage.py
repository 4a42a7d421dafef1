"""Synthetic vulnerabilities: how much gusts damage what is insured, by construction and coverage. None is measured."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from irp_pipeline.demo.storms import INTENSITY_BINS, gust_of_bin

# The first damage bin is no damage at all; the others are between these shares of the insured value.
_EDGES: Final = (0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1)
DAMAGE_BINS: Final = [(0.0, 0.0), *itertools.pairwise(map(float, _EDGES))]
"""The lower and upper bound of each bin, as shares of the insured value."""

_PROBABILITY_STEPS: Final = 65_536
_HARMLESS_GUST: Final = 20.0
_REFERENCE_GUST: Final = 40.0
_EXPONENT: Final = 3.5


@dataclass(frozen=True)
class Construction:
    """A kind of building: which OED construction codes it has, and its mean damage at 40 m/s."""

    name: str
    codes: range
    mean_damage: float


CONSTRUCTIONS: Final = (
    Construction("unknown", range(5000, 5050), 0.030),
    Construction("wood", range(5050, 5100), 0.045),
    Construction("masonry", range(5100, 5150), 0.030),
    Construction("concrete", range(5150, 5200), 0.016),
    Construction("steel", range(5200, 5250), 0.022),
)

# OED coverage types (buildings, other structures, contents, business interruption) with their damage relative to
# buildings.
COVERAGES: Final = {1: 1.0, 2: 1.2, 3: 0.5, 4: 0.7}


def vulnerability_id(construction: Construction, coverage: int) -> int:
    """Return the number of the vulnerability of a coverage in a kind of building."""
    return CONSTRUCTIONS.index(construction) * len(COVERAGES) + coverage


def vulnerabilities(revised: Mapping[str, float]) -> Iterator[tuple[int, int, int, float]]:
    """Yield vulnerability, intensity bin, damage bin and probability, sorted.

    Args:
        revised: the mean damage at 40 m/s of constructions, by name, where it is not that of :data:`CONSTRUCTIONS`.
    """
    for construction, (coverage, factor) in itertools.product(CONSTRUCTIONS, COVERAGES.items()):
        number = vulnerability_id(construction, coverage)
        at_reference = revised.get(construction.name, construction.mean_damage) * factor
        for intensity_bin in range(1, INTENSITY_BINS + 1):
            mean = mean_damage(at_reference, gust_of_bin(intensity_bin))
            for damage_bin, probability in enumerate(_shares(mean), start=1):
                if probability:
                    yield number, intensity_bin, damage_bin, probability


def mean_damage(at_reference: float, gust: float) -> float:
    """Return the mean damage by a gust, as a share of the insured value; more than cubic in the excess over 20 m/s."""
    excess = max(gust - _HARMLESS_GUST, 0.0) / (_REFERENCE_GUST - _HARMLESS_GUST)
    return min(at_reference * math.pow(excess, _EXPONENT), 0.6)


def _shares(mean: float) -> list[float]:
    """Return the probability of each damage bin.

    Some buildings have no damage; the damage of the others has the density of a beta distribution whose first
    parameter is 1. The probabilities are in steps of 1/65536, so that their sum is exactly one.
    """
    if mean == 0:
        return [1.0] + [0.0] * (len(DAMAGE_BINS) - 1)
    damaged = math.pow(mean, 1 / 3)
    exponent = damaged / mean - 1
    reached = [round((1 - damaged * (1 - edge) ** exponent) * _PROBABILITY_STEPS) for edge in _EDGES]
    return [(after - before) / _PROBABILITY_STEPS for before, after in itertools.pairwise([0, *reached])]
