"""The jobs that a batch must have: those that a transformer makes from a workbook, with the changes of a person.

Each batch type has one transformer, which a distribution declares by an entry point of the group
``irp_pipeline.batch_types``; :data:`BATCH_TYPES` has them all. :mod:`irp_pipeline.helpers.batch` makes the batch.

A type with a predecessor (``after``) is run by the pipeline: :mod:`irp_pipeline.helpers.chain`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from irp_pipeline.errors import IrpError
from irp_pipeline.hashes import value_hash
from irp_pipeline.helpers.batch_of_jobs import BatchError
from irp_pipeline.helpers.constants import BatchType
from irp_pipeline.helpers.job_request import RESULTS_OF
from irp_pipeline.plugins import PluginError, Registry, Requirement
from irp_pipeline.postgres.parameters import json_value
from irp_pipeline.postgres.running import fetch_all

Transformer = Callable[[Mapping[str, Any]], Iterable[dict[str, Any]]]
WhenComplete = Callable[[int], Mapping[str, Any] | None]


@dataclass(frozen=True)
class BatchTypeDeclaration:
    """A type of batches.

    Attributes:
        name: of the type; also the name of the entry point.
        help: one sentence on what its jobs do.
        transform: takes the data of a configuration and returns the parameters of each job. Each names its ``engine``,
            a unique ``name``, and the ``currency`` of its losses. If there are none, the type has no batch for that
            configuration. A job of a type with a predecessor may name jobs of it in ``results_of``, a list: their
            results become part of its request. None: its jobs do not come from a workbook.
        needs_portfolio: whether each job is for a ``portfolio`` of the configuration, and gets its OED files.
        requirements: what its jobs need on this machine, besides the needs of their engine.
        after: the type whose batch must be complete first: ``analysis``, or another type with a predecessor. The
            pipeline then makes and runs the batches of this type. None: it does not; a command or a script does.
        when_complete: called with the id of a batch that is complete, before its successors begin;
            :func:`irp_pipeline.helpers.result.finished_jobs` has the results. What it returns, JSON-like, is recorded
            with the batch and in the output of the step. It is called once for each result, but again after a crash:
            it must be safe to repeat.
    """

    name: str
    help: str
    transform: Transformer | None
    needs_portfolio: bool = True
    requirements: tuple[Requirement, ...] = ()
    after: str | None = None
    when_complete: WhenComplete | None = None


def _without_place(declared: Mapping[str, BatchTypeDeclaration]) -> dict[str, str]:
    """Say which types with a predecessor cannot be run by the pipeline, and why."""
    problems = {}
    for name, declaration in declared.items():
        if declaration.after is None:
            continue
        if declaration.transform is None:
            problems[name] = f"it comes after {declaration.after!r}, so it needs a transformer"
        elif (before := declared.get(declaration.after)) is None:
            problems[name] = f"it comes after {declaration.after!r}, which is no batch type that can be used"
        elif before.name != BatchType.ANALYSIS and before.after is None:
            problems[name] = f"it comes after {declaration.after!r}, whose batches the pipeline does not run"
        elif _is_in_circle(name, declared):
            problems[name] = f"it comes after {declaration.after!r}, which comes after it in turn"
    return problems


def _is_in_circle(name: str, declared: Mapping[str, BatchTypeDeclaration]) -> bool:
    seen: list[str] = []
    here: str | None = name
    while here is not None and here in declared and here not in seen:
        seen.append(here)
        here = declared[here].after
    return here == name


BATCH_TYPES: Final = Registry("irp_pipeline.batch_types", BatchTypeDeclaration, "batch type", check_all=_without_place)
"""The declared batch types."""


def transformer(batch_type: str) -> Callable[[Transformer], Transformer]:
    """Register a function as the transformer of a batch type, for this process; others are found by entry point.

    Args:
        batch_type: the type; a later registration replaces an earlier one.

    Returns:
        A decorator for a function that takes the data of a configuration and returns the parameters of each job.
    """

    def register(function: Transformer) -> Transformer:
        BATCH_TYPES.register(BatchTypeDeclaration(batch_type, "", function))
        return function

    return register


def one_job_for_each_analysis(configuration: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Return the analyses of a workbook, each with the currency of its results."""
    currency = configuration["metadata"].get("currency")
    for analysis in configuration["analyses"]:
        yield {"currency": currency, **analysis}


ANALYSES: Final = BatchTypeDeclaration(
    BatchType.ANALYSIS, "One job for each row of the sheet Analyses.", one_job_for_each_analysis
)


ATTRIBUTION: Final = BatchTypeDeclaration(
    BatchType.ATTRIBUTION, "The analyses between two cycles, of which one factor after the other changes.", None
)


REPEATS: Final = BatchTypeDeclaration(BatchType.REPEATS, "The analyses of a cycle again, with other draws.", None)


@dataclass(frozen=True)
class Wish:
    """The content of a job configuration: what the workbook asks for, and what a person changed."""

    parameters: Mapping[str, Any]
    workbook: Mapping[str, Any] | None = None
    override_reason: str | None = None
    skipped: bool = False
    skipped_reason: str | None = None

    def over(self, wanted: Mapping[str, Any]) -> Wish:
        """Return the same changes of a person, applied to other parameters of the workbook."""
        before = self.parameters if self.workbook is None else self.workbook
        kept = {name: value for name, value in wanted.items() if name in self.parameters or name not in before}
        changed = {
            name: value for name, value in self.parameters.items() if name not in before or before[name] != value
        }
        parameters = kept | changed
        if parameters == dict(wanted):
            return replace(self, parameters=wanted, workbook=None, override_reason=None)
        return replace(self, parameters=parameters, workbook=wanted)


def wishes_of(batch_id: int) -> dict[str, Wish]:
    """Return what applies to each named analysis of a batch now."""
    rows = fetch_all(
        """
        SELECT DISTINCT ON (name) coalesce(workbook_data, job_configuration_data) ->> 'name' AS name,
               job_configuration_data, workbook_data, override_reason, skipped, skipped_reason
          FROM irp_job_configuration
         WHERE batch_id = %s
         ORDER BY name, id DESC
        """,
        (batch_id,),
    )
    return {
        row["name"]: Wish(
            row["job_configuration_data"],
            row["workbook_data"],
            row["override_reason"],
            row["skipped"],
            row["skipped_reason"],
        )
        for row in rows
        if row["name"] is not None
    }


def wanted_of(batch_type: str, configuration: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of the jobs of a type that a configuration asks for.

    Raises:
        BatchError: there is no such type, its jobs do not come from a workbook, or its transformer fails or returns
            something else than jobs.
    """
    transform = declared_batch_type(batch_type).transform
    if transform is None:
        raise BatchError(f"The jobs of a batch of the type {batch_type!r} do not come from a workbook")
    try:
        wanted = list(transform(configuration))
    except IrpError:
        raise
    except Exception as error:
        raise BatchError(
            f"The transformer of the batch type {batch_type!r} fails with this workbook: {type(error).__name__}: "
            f"{error}"
        ) from error
    if batch_type != BatchType.ANALYSIS and (problem := next(_faults_of_jobs(wanted), None)) is not None:
        raise BatchError(f"The transformer of the batch type {batch_type!r} makes a job that cannot be: {problem}")
    return wanted


def _faults_of_jobs(wanted: Sequence[object]) -> Iterator[str]:
    names = set()
    for number, job in enumerate(wanted, start=1):
        if not isinstance(job, Mapping):
            yield f"number {number} is no mapping of parameters but {job!r}"
            return
        for parameter in ("name", "engine"):
            if not (isinstance(job.get(parameter), str) and job[parameter]):
                yield f"number {number} has no {parameter!r}"
                return
        if job["name"] in names:
            yield f"two have the name {job['name']!r}"
        names.add(job["name"])
        named = job.get(RESULTS_OF, [])
        if not (isinstance(named, list | tuple) and all(isinstance(name, str) for name in named)):
            yield f"{RESULTS_OF} of {job['name']!r} is no list of names but {named!r}"


def declared_batch_type(batch_type: str) -> BatchTypeDeclaration:
    """Return the declaration of a batch type.

    Raises:
        BatchError: there is no such type, or its declaration cannot be used.
    """
    try:
        declaration = BATCH_TYPES.get(batch_type)
    except PluginError as error:
        raise BatchError(str(error)) from error
    if declaration is None:
        known = ", ".join(sorted(BATCH_TYPES.declared()))
        raise BatchError(f"Unknown batch type {batch_type!r}. The types are: {known}")
    return declaration


def wanted_hash(wanted: Iterable[Mapping[str, Any]]) -> str:
    return value_hash(sorted(value_hash(json_value(dict(item))) for item in wanted))


def chain_types() -> list[BatchTypeDeclaration]:
    """Return the types whose batches the pipeline runs, each after its predecessor: ``analysis`` is the first."""
    declared = BATCH_TYPES.declared()
    found = [declared.get(BatchType.ANALYSIS, ANALYSES)]
    for before in found:  # it grows meanwhile
        found += [declaration for declaration in declared.values() if declaration.after == before.name]
    return found


def wanted_types(configuration: Mapping[str, Any]) -> list[str]:
    """Return the types after the analyses that have jobs for a configuration, each after its predecessor.

    Raises:
        BatchError: a transformer fails.
    """
    after = [declaration.name for declaration in chain_types() if declaration.after is not None]
    return [name for name in after if wanted_of(name, configuration)]
