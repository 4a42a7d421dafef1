"""Risk engines, which compute losses. No Dagster here.

``protocol``, ``declaration``
    what an engine does with jobs, and what it declares: its columns, checks, requirements and hashes.
``columns``, ``model_check``
    columns that several engines can declare, and how an engine checks its models.
``local``, ``leases``, ``waking``
    engines that are programs: their jobs in the queue, which worker has each, and starting one.
``inputs``
    the files of a request on the machine that needs them.
``running``, ``folders``, ``limits``, ``environment``, ``program``
    one job of such an engine, as its worker runs it.
``oasis``
    Oasis LMF. No other module imports it: like any other engine, it is found by its entry points.
``oasis_platform``
    Oasis LMF at an Oasis Platform; it takes settings, figures and checks from ``oasis``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from irp_pipeline.columns import Folders
from irp_pipeline.engines.declaration import ENGINES, ColumnRemark, EngineDeclaration, NamedFile
from irp_pipeline.engines.protocol import (
    CheckingEngine,
    EngineError,
    JobPhase,
    JobState,
    RiskEngine,
    UnknownEngineError,
    check_result,
)
from irp_pipeline.exposure.validation.needs import Needs, needs_of_perspectives
from irp_pipeline.plugins import PluginError, Requirement

__all__ = [
    "ENGINES",
    "CheckingEngine",
    "EngineDeclaration",
    "EngineError",
    "JobPhase",
    "JobState",
    "NamedFile",
    "Requirement",
    "RiskEngine",
    "UnknownEngineError",
    "check_result",
    "checks",
    "declared",
    "engine",
    "named_files",
    "needs",
    "options_problem",
    "register_engine",
]

EngineFactory = Callable[[Path], RiskEngine]
NeedsOfAnalysis = Callable[[Mapping[str, Any], Folders | None], Needs]


def register_engine(name: str, factory: EngineFactory, needs_of_analysis: NeedsOfAnalysis | None = None) -> None:
    """Make an engine known to this process. Engines that a workbook can name are found by entry point.

    Args:
        name: its name in the parameter ``engine`` of a job. It replaces an engine of that name, whose other
            declarations stay.
        factory: makes the engine for the folder with a cycle's jobs.
        needs_of_analysis: says what an analysis needs of its portfolio; :func:`needs` calls it.
    """
    known = ENGINES.declared().get(name)
    if known is not None:
        ENGINES.register(replace(known, make=factory, needs=needs_of_analysis or known.needs))
    else:
        ENGINES.register(EngineDeclaration(name, "", factory, needs=needs_of_analysis))


def declared(analysis: Mapping[str, Any]) -> EngineDeclaration | None:
    """Return the declaration of an analysis's engine; None if there is none, or it cannot be used."""
    try:
        return ENGINES.get(analysis.get("engine"))
    except PluginError:
        return None


def checks(analysis: Mapping[str, Any], folders: Folders | None = None) -> Iterable[ColumnRemark]:
    """Ask the engine of an analysis for mistakes beyond the rules of its row, as column and message.

    Args:
        analysis: a row of the sheet Analyses.
        folders: where the files that it names are; None: files are not checked.
    """
    declaration = declared(analysis)
    return () if declaration is None else declaration.checks(analysis, folders)


def options_problem(analysis: Mapping[str, Any]) -> str | None:
    """Say what is wrong with the names in ``model_options`` of an analysis; None if nothing is, or it is unknown.

    Args:
        analysis: a row of the sheet Analyses.
    """
    return next((message for column, message in checks(analysis) if column == "model_options"), None)


def needs(analysis: Mapping[str, Any], folders: Folders | None = None) -> Needs:
    """Ask the engine of an analysis what it needs of the portfolio.

    Args:
        analysis: a row of the sheet Analyses.
        folders: where the files that it names are, such as its model; None: they are not read.

    Returns:
        The needs. If the engine declares none: those of the perspectives, and that the rest is unknown.

    Raises:
        WorkbookError: a file that it names does not exist.
    """
    declaration = declared(analysis)
    if declaration is not None and declaration.needs is not None:
        return declaration.needs(analysis, folders)
    perspectives = [str(perspective) for perspective in analysis.get("perspectives", ())]
    return needs_of_perspectives(perspectives) | Needs(unknown=("the engine does not say what it needs",))


def named_files() -> list[str]:
    """Return the columns of all engines that name files on which losses depend."""
    names = dict.fromkeys(name for declaration in ENGINES.declared().values() for name in declaration.files)
    return sorted(names)


def engine(name: str, jobs_folder: Path) -> RiskEngine:
    """Return the engine of that name for the jobs in a folder.

    Raises:
        UnknownEngineError: there is no such engine, or its declaration cannot be used.
    """
    try:
        declaration = ENGINES.get(name)
    except PluginError as error:
        raise UnknownEngineError(str(error)) from error
    if declaration is None:
        known = ", ".join(sorted(ENGINES.declared())) or "none"
        raise UnknownEngineError(f"There is no risk engine {name!r}. The engines are: {known}")
    return declaration.make(jobs_folder)
