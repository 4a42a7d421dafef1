"""Factors: by what the losses of two cycles can differ, in which order they change, and what belongs to which.

Pure: no database and no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from irp_pipeline.engines import EngineDeclaration
from irp_pipeline.helpers.attribution.errors import AttributionError


class Factor(StrEnum):
    """What changes from the earlier cycle to the later one.

    ENGINE: the earlier cycle's analysis run again today, against what was recorded. EXPOSURE: locations. TERMS: the
    financial terms of accounts and locations, and reinsurance. MODEL: the model with its options. SETTINGS: all other
    columns of the analysis. ENGINE_OF_LATER: what was recorded of the later cycle, against it run again today.
    """

    ENGINE = "engine"
    EXPOSURE = "exposure"
    TERMS = "terms"
    MODEL = "model"
    SETTINGS = "settings"
    ENGINE_OF_LATER = "engine of later cycle"


USUAL_ORDER: Final = (Factor.EXPOSURE, Factor.TERMS, Factor.MODEL, Factor.SETTINGS)
"""The factors between the two runs of today, in their usual order."""

_NO_FACTOR: Final = frozenset({"name", "portfolio", "engine", "base", "perspectives", "currency"})
"""Parameters on which no loss depends here: they are alike on both sides, or choose what is kept."""
_IN_PORTFOLIO: Final = "reinsurance"
"""The parameter that names another portfolio's reinsurance tables, which are among the terms."""


def order_of(text: str) -> tuple[Factor, ...]:
    """Read an order such as ``terms,exposure``: factors that are not named follow in their usual order.

    Raises:
        AttributionError: a word is no factor, is there twice, or is an engine, which cannot be moved.
    """
    named: list[Factor] = []
    for word in (part.strip().lower() for part in text.split(",")):
        if word == Factor.ENGINE and not named:  # it comes first anyway
            continue
        if word == Factor.ENGINE:
            raise AttributionError(
                "The engine is always the first factor: only the engine of today can run what lies between both cycles"
            )
        if word not in USUAL_ORDER:
            raise AttributionError(f"{word!r} is no factor. The factors are: {', '.join(USUAL_ORDER)}")
        if word in named:
            raise AttributionError(f"{word} is twice in the order")
        named.append(Factor(word))
    return (*named, *(factor for factor in USUAL_ORDER if factor not in named))


def parameters_at(
    declaration: EngineDeclaration,
    earlier: Mapping[str, Any],
    later: Mapping[str, Any],
    changed: Sequence[Factor],
) -> dict[str, Any]:
    """Return the parameters of an analysis between two cycles.

    Args:
        declaration: of its engine.
        earlier: its parameters in the earlier cycle.
        later: those in the later cycle.
        changed: the factors that are as in the later cycle.
    """
    found = {}
    for name in dict.fromkeys((*later, *earlier)):
        if name == _IN_PORTFOLIO:
            continue
        side = later if factor_of(declaration, name) in (None, *changed) else earlier
        if name in side:
            found[name] = side[name]
    return found


def factor_of(declaration: EngineDeclaration, parameter: str) -> Factor | None:
    """Return the factor to which a parameter of an analysis belongs; None if no loss depends on it."""
    if parameter in _NO_FACTOR or parameter in declaration.output_columns:
        return None
    if parameter == _IN_PORTFOLIO:
        return Factor.TERMS
    return Factor.MODEL if parameter in declaration.model_columns else Factor.SETTINGS
