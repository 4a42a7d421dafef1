"""Risk engines: what computes losses. No database here, and no Dagster."""

from collections.abc import Callable
from pathlib import Path

from irp_pipeline.engines.oasis import DETERMINISTIC, STOCHASTIC, oasis
from irp_pipeline.engines.protocol import EngineError, JobPhase, JobState, RiskEngine, check_result

__all__ = ["EngineError", "JobPhase", "JobState", "RiskEngine", "check_result", "engine", "register_engine"]

EngineFactory = Callable[[Path], RiskEngine]

_engines: dict[str, EngineFactory] = {DETERMINISTIC: oasis, STOCHASTIC: oasis}


def register_engine(name: str, factory: EngineFactory) -> None:
    """Make an engine known.

    Args:
        name: what the column ``engine`` of a workbook calls it; a later registration replaces an earlier one.
        factory: makes the engine for the folder that holds a cycle's jobs.
    """
    _engines[name] = factory


def engine(name: str, jobs_folder: Path) -> RiskEngine:
    """Return the engine of that name for the jobs in a folder.

    Raises:
        EngineError: there is no such engine.
    """
    if name not in _engines:
        raise EngineError(f"There is no risk engine {name!r}. Those there are: {', '.join(sorted(_engines)) or 'none'}")
    return _engines[name](jobs_folder)
