"""Requests of an analysis that have no effect, as far as this is known before the model runs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.model import Model, read_model, read_object


def notes(analysis: Mapping[str, Any], model: Path, settings: Path | None) -> Iterator[tuple[str, str]]:
    """Say what a stochastic analysis does not use, as column and message.

    Args:
        analysis: a row of the sheet Analyses.
        model: where its model is.
        settings: its settings file, if it names one.
    """
    try:
        read = read_model(model, analysis.get("model_options"))
        chosen = read_object(settings) if settings is not None else {}
    except (OasisError, OSError, TypeError, ValueError):  # the checks of model and settings report it
        return
    yield from notes_on_settings(analysis, chosen)
    periods = _periods(read, chosen)
    beyond = [period for period in analysis.get("return_periods") or () if periods is not None and period > periods]
    if beyond:
        yield (
            "return_periods",
            f"the model has {periods:,} simulated years, so there is no loss for {_told(beyond)} years",
        )


def notes_on_settings(analysis: Mapping[str, Any], chosen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Say what of the content of a settings file is not used, as column and message."""
    for entry, column in (("number_of_samples", "samples"), ("return_periods", "return_periods")):
        wanted = analysis.get(column)
        if entry in chosen and _plain(chosen[entry]) != _plain(wanted):
            yield (
                "settings",
                f"its {entry} {_told(chosen[entry])} is not used: the column {column} says {_told(wanted)}",
            )


def _periods(model: Model, chosen: Mapping[str, Any]) -> int | None:
    """The simulated years of the occurrence set that will be used; None if the model does not say."""
    known = model.settings.get("model_settings", {})
    occurrence = known.get("event_occurrence_id", {}) if isinstance(known, Mapping) else {}
    if not isinstance(occurrence, Mapping):
        return None
    of_settings = chosen.get("model_settings")
    wanted = of_settings.get("event_occurrence_id") if isinstance(of_settings, Mapping) else None
    wanted = wanted if wanted is not None else occurrence.get("default")
    for option in occurrence.get("options") or ():
        if isinstance(option, Mapping) and str(option.get("id")) == str(wanted):
            periods = option.get("max_periods")
            return periods if isinstance(periods, int) else None
    return None


def _plain(value: object) -> object:
    return sorted(value, key=str) if isinstance(value, list | tuple) else value


def _told(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
