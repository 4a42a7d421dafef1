"""Differences: what else than the exposure differs between two analyses or groups whose figures are compared.

Pure: it works on records. A change of the exposure is what most comparisons are for, and is not a difference here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final, TypeAlias

from irp_pipeline.helpers.comparison.sides import Compared, Source

NOT_STATED: Final = "not stated"
"""What is shown of a fact that an engine did not report."""

_FACTS: Final = {
    "engine": "engine",
    "engine version": "engine_version",
    "model": "model",
    "model version": "model_version",
    "simulated years": "periods",
    "occurrence set": "occurrence_hash",
    "samples": "samples",
    "losses by": "losses_by",
    "exchange rates": "exchange_rates",
}
"""Entries of the provenance by what tables call them."""

_SELECTION: Final = frozenset(
    {"currency", "engine", "model", "model_name", "model_supplier", "model_version", "name", "period_losses"}
    | {"perspectives", "portfolio", "queue", "return_periods", "loss_factor", "samples", "segments", "settings"}
)
"""Parameters of a job that say which figures there are, or that the provenance states as used."""
_OF_OUTPUT: Final = ("_output", "_summaries")
_NOT_OF_LOSSES: Final = frozenset(
    {"analysis_tag", "source_tag", "prog_id", "version", "number_of_samples", "loss_factor", "return_periods"}
    | {"model_name_id", "model_supplier_id", "model_version_id", "ui_config_tag"}
)
_SETTING: Final = "setting "
_MOST_SETTINGS: Final = 2
_HASH_CHARACTERS: Final = 12
_MOST_NAMES: Final = 3
_NOBODY: Final = "no others"

_Pair: TypeAlias = "tuple[str, Source | None, Source | None]"


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Difference:
    """A fact in which two analyses or groups differ.

    Attributes:
        what: the fact, such as ``model version``.
        before: on the earlier side.
        after: on the later side.
        analyses: the members of a group that differ in it; empty if it is all of them, or an analysis.
    """

    what: str
    before: str
    after: str
    analyses: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.what == "members":
            parts = ((self.before, "no longer"), (self.after, "now also"))
            return f"members: {'; '.join(f'{words} {names}' for names, words in parts if names != _NOBODY)}"
        names = self.analyses[:_MOST_NAMES]
        more = f" and {len(self.analyses) - len(names)} more" if len(self.analyses) > len(names) else ""
        return f"{self.what} {self.before} → {self.after}" + (f" ({', '.join(names)}{more})" if names else "")


def differences(before: Compared, after: Compared) -> tuple[Difference, ...]:
    """Return in what two analyses or groups differ, apart from their exposure.

    The members of groups are compared by name. The analyses of two sides are compared whatever they are called.
    """
    found: list[Difference] = []
    if before.is_group is not after.is_group:
        found.append(Difference(what="kind", before=_kind(before), after=_kind(after)))
    if before.is_group or after.is_group:
        then, now = ({source.analysis: source for source in side.sources} for side in (before, after))
        if then.keys() != now.keys():
            gone, new = (", ".join(sorted(one.keys() - other.keys())) for one, other in ((then, now), (now, then)))
            found.append(Difference(what="members", before=gone or _NOBODY, after=new or _NOBODY))
        both = sorted(then.keys() & now.keys())
        pairs: list[_Pair] = [(name, then[name], now[name]) for name in both]
    else:
        pairs = [(after.name, *of) for of in zip_longest(before.sources, after.sources)]
    differing: dict[tuple[str, str, str], list[str]] = {}
    for name, earlier, later in pairs:
        for fact in _differing(facts_of(earlier), facts_of(later)):
            differing.setdefault(fact, []).append(name)
    for (what, old_value, new_value), names in differing.items():
        of = () if len(names) == len(pairs) else tuple(names)
        found.append(Difference(what=what, before=old_value, after=new_value, analyses=of))
    return tuple(found)


def in_words(found: Iterable[Difference]) -> tuple[str, ...]:
    """Return differences as short phrases; more than two settings only by their number."""
    listed = list(found)
    settings = [item for item in listed if item.what.startswith(_SETTING)]
    few = len(settings) <= _MOST_SETTINGS
    words = [str(item) for item in listed if few or not item.what.startswith(_SETTING)]
    return tuple(words) if few else (*words, f"{len({item.what for item in settings})} settings differ")


def facts_of(source: Source | None) -> dict[str, str]:
    """Return what the figures of an analysis depend on besides the exposure, by what tables call it.

    Args:
        source: where they come from; None if that is not known.
    """
    if source is None:
        return {}
    provenance = source.provenance
    found = {what: _shown(provenance.get(entry)) for what, entry in _FACTS.items()}
    found["currency"] = source.currency
    found["portfolio"] = _shown(source.parameters.get("portfolio"))
    for name, value in source.request.items():
        kind, is_hash, _ = name.rpartition("_hash")
        if is_hash and kind not in {"exposure", "settings"}:
            found[f"content of the {kind}"] = _shown(value)
    options = {name: value for name, value in source.parameters.items() if name not in _SELECTION}
    used = provenance.get("settings")
    found |= {f"{_SETTING}{name}": value for name, value in _flat(options)}
    found |= {f"{_SETTING}{name}": value for name, value in _flat(used if isinstance(used, Mapping) else {})}
    return found


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for what in dict.fromkeys((*before, *after)):
        old, new = before.get(what, NOT_STATED), after.get(what, NOT_STATED)
        if old != new:
            yield what, old, new


def _flat(settings: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for name, value in sorted(settings.items()):
        if not within and (name in _NOT_OF_LOSSES or str(name).endswith(_OF_OUTPUT)):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{name}.")
        elif value is not None:
            yield f"{within}{name}", _shown(value)


def _shown(value: object) -> str:
    if value is None or value == {}:
        return NOT_STATED
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    is_hash = len(text) >= 2 * _HASH_CHARACTERS and not set(text) - set("0123456789abcdef")
    return f"{text[:_HASH_CHARACTERS]}…" if is_hash else text


def _kind(side: Compared) -> str:
    return "a group" if side.is_group else "an analysis"
