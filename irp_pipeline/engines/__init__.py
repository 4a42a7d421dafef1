"""Risk engines: what computes losses. No database here, and no Dagster."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from irp_pipeline.engines.oasis import DETERMINISTIC, STOCHASTIC, oasis
from irp_pipeline.engines.oasis.needs import needs as oasis_needs
from irp_pipeline.engines.oasis.options import options_problem as oasis_options_problem
from irp_pipeline.engines.protocol import EngineError, JobPhase, JobState, RiskEngine, check_result
from irp_pipeline.exposure.validation.needs import Needs, needs_of_perspectives

__all__ = [
    "EngineError",
    "JobPhase",
    "JobState",
    "RiskEngine",
    "check_result",
    "engine",
    "needs",
    "options_problem",
    "register_engine",
]

EngineFactory = Callable[[Path], RiskEngine]
NeedsOfAnalysis = Callable[[Mapping[str, Any], Path | None], Needs]

_engines: dict[str, EngineFactory] = {DETERMINISTIC: oasis, STOCHASTIC: oasis}
_needs: dict[str, NeedsOfAnalysis] = {DETERMINISTIC: oasis_needs, STOCHASTIC: oasis_needs}


def register_engine(name: str, factory: EngineFactory, needs_of_analysis: NeedsOfAnalysis | None = None) -> None:
    """Make an engine known.

    Args:
        name: what the column ``engine`` of a workbook calls it; a later registration replaces an earlier one.
        factory: makes the engine for the folder that holds a cycle's jobs.
        needs_of_analysis: says what an analysis needs of its portfolio; as :func:`needs`, which asks it.
    """
    _engines[name] = factory
    if needs_of_analysis is not None:
        _needs[name] = needs_of_analysis


def options_problem(analysis: Mapping[str, Any]) -> str | None:
    """Say what is wrong with the names in ``model_options`` of an analysis; None if nothing is, or nobody knows.

    Args:
        analysis: a row of the sheet Analyses.
    """
    return oasis_options_problem(analysis) if analysis.get("engine") in (DETERMINISTIC, STOCHASTIC) else None


def needs(analysis: Mapping[str, Any], model: Path | None = None) -> Needs:
    """Ask the engine of an analysis what it needs of the portfolio.

    Args:
        analysis: a row of the sheet Analyses.
        model: where its model is, if it has one.

    Returns:
        The needs; of an engine that declares none, those of the perspectives, and that the rest is not known.
    """
    declared = _needs.get(str(analysis.get("engine")))
    if declared is not None:
        return declared(analysis, model)
    perspectives = [str(perspective) for perspective in analysis.get("perspectives", ())]
    return needs_of_perspectives(perspectives) | Needs(unknown=("the engine does not say what it needs",))


def engine(name: str, jobs_folder: Path) -> RiskEngine:
    """Return the engine of that name for the jobs in a folder.

    Raises:
        EngineError: there is no such engine.
    """
    if name not in _engines:
        raise EngineError(f"There is no risk engine {name!r}. Those there are: {', '.join(sorted(_engines)) or 'none'}")
    return _engines[name](jobs_folder)
