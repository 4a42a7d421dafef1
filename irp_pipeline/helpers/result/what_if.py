"""What-ifs beside their bases: what they differ in, and by how much their figures differ.

Here: the comparison of two analyses of one batch. Not here: what a what-if takes from its base
(:mod:`irp_pipeline.workbook.bases`), and how the differences are shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from irp_pipeline.helpers.wanted import wishes_of
from irp_pipeline.losses import Figure

_NOT_COMPARED: Final = frozenset({"name", "base", "queue"})
_NOTHING: Final = "none"
_NOT_FILLED: Final = {"reinsurance": "the portfolio's own"}
"""What an empty parameter means, where that is not nothing."""
_OF_PROVENANCE: Final = ("engine", "engine_version", "model", "model_version", "occurrence_hash")
"""What the two may differ in although their parameters say nothing of it."""


@dataclass(frozen=True)
class Parameter:
    """A parameter in which a what-if differs from its base, with both values in words."""

    name: str
    of_base: str
    own: str


@dataclass(frozen=True)
class Difference:
    """A figure of a what-if beside the same figure of its base.

    Attributes:
        figure: that of the what-if.
        base_loss: the loss of the base.
    """

    figure: Figure
    base_loss: float

    @property
    def amount(self) -> float:
        """The loss of the what-if less that of the base."""
        return self.figure.loss - self.base_loss

    @property
    def share(self) -> float | None:
        """The amount as a share of the base; None if the loss of the base is zero."""
        return self.amount / self.base_loss if self.base_loss else None


@dataclass(frozen=True)
class WhatIf:
    """An analysis beside its base.

    Attributes:
        name: the analysis.
        base: its base.
        currency: of its figures.
        parameters: what the two differ in.
        differences: the figures that both have, in the order of the analysis.
        missing: why there are no differences; None if there are some.
    """

    name: str
    base: str
    currency: str
    parameters: tuple[Parameter, ...]
    differences: tuple[Difference, ...]
    missing: str | None

    def content(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "analysis": self.name,
            "base": self.base,
            "currency": self.currency,
            "differs_in": [{"parameter": item.name, "base": item.of_base, "own": item.own} for item in self.parameters],
            "figures": [
                {
                    "perspective": item.figure.perspective.value,
                    "metric": item.figure.metric,
                    "return_period": item.figure.return_period,
                    "loss_factor": item.figure.loss_factor,
                    "loss": item.figure.loss,
                    "base_loss": item.base_loss,
                    "difference": item.amount,
                    "relative": item.share,
                }
                for item in self.differences
            ],
            "missing": self.missing,
        }


def what_ifs_of(
    batch_id: int,
    figures: Mapping[str, tuple[str, Iterable[Figure]]],
    provenance: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[WhatIf, ...]:
    """Compare the what-ifs of a batch that have figures with their bases.

    Args:
        batch_id: the batch, whose jobs say what ran: the workbook's parameters, or those with which a person replaced
            them.
        figures: currency and figures by the name of the analysis.
        provenance: where the figures come from, by analysis; without it, only parameters are compared.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    parameters = {name: wish.parameters for name, wish in wishes_of(batch_id).items()}
    return tuple(compared(parameters, figures, provenance or {}))


def compared(
    parameters: Mapping[str, Mapping[str, Any]],
    figures: Mapping[str, tuple[str, Iterable[Figure]]],
    provenance: Mapping[str, Mapping[str, Any]],
) -> Iterator[WhatIf]:
    """Yield the what-ifs among analyses that have figures. Arguments as of :func:`what_ifs_of`."""
    for name, own in parameters.items():
        base = own.get("base")
        if base is None or name not in figures:
            continue
        currency, found = figures[name]
        differing = tuple(_differing(own, parameters.get(base, {}), provenance.get(name), provenance.get(base)))
        currency_of_base, of_base = figures.get(base, ("", ()))
        differences: tuple[Difference, ...] = ()
        if not of_base:
            missing: str | None = f"the base {base} has no figures"
        elif currency_of_base != currency:
            missing = f"the figures of the base {base} are in {currency_of_base}"
        else:
            losses = {_key(figure): figure.loss for figure in of_base}
            differences = tuple(Difference(figure, losses[key]) for figure in found if (key := _key(figure)) in losses)
            missing = None if differences else f"the base {base} has none of these figures"
        yield WhatIf(name, base, currency, differing, differences, missing)


def _key(figure: Figure) -> Figure:
    """What two figures have in common that can be compared: all but the loss."""
    return replace(figure, loss=0.0)


def _differing(
    own: Mapping[str, Any],
    base: Mapping[str, Any],
    own_provenance: Mapping[str, Any] | None,
    base_provenance: Mapping[str, Any] | None,
) -> Iterator[Parameter]:
    for name in dict.fromkeys([*own, *base]):
        if name not in _NOT_COMPARED and own.get(name) != base.get(name):
            yield Parameter(name, *(_told(of.get(name), _NOT_FILLED.get(name, _NOTHING)) for of in (base, own)))
    if not own_provenance or not base_provenance:
        return
    for name in _OF_PROVENANCE:
        if own_provenance.get(name) != base_provenance.get(name):
            yield Parameter(name.replace("_", " "), _told(base_provenance.get(name)), _told(own_provenance.get(name)))


def _told(value: object, if_empty: str = _NOTHING) -> str:
    if value in (None, "", [], {}, ()):
        return if_empty
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "; ".join(map(_told, value))
    if isinstance(value, Mapping):
        return json.dumps(dict(value), ensure_ascii=False, sort_keys=True)
    return f"{value:g}" if isinstance(value, float) else str(value)
