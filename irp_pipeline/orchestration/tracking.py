"""Ops that are tracked steps.

:func:`step` turns a plain function into an op. The function says what is done; the op adds, around each execution: the
schema of the run, the cycle of the partition, one tracked step run (:func:`irp_pipeline.helpers.step.track_step`) with
a fingerprint of all that the result depends on, and the output data as op metadata.

https://docs.dagster.io/guides/build/ops
"""

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster import (
    Config,
    In,
    MetadataValue,
    Nothing,
    OpDefinition,
    OpExecutionContext,
    Out,
    RetryPolicy,
    op,
)

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.configuration import get_active_configuration
from irp_pipeline.helpers.cycle import CycleError, require_open_cycle
from irp_pipeline.helpers.parameters import json_value
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import StepRun, completed_work_before, get_or_create_step, track_step
from irp_pipeline.orchestration.executors import end_with_parent
from irp_pipeline.orchestration.resources import DatabaseResource, failure_of

STEP_TAG = "irp/step"
STARTED_BY_TAG = "irp/started_by"


@dataclass(frozen=True)
class Stage:
    """A numbered phase of a cycle; each module of :mod:`irp_pipeline.orchestration.stages` declares its own."""

    number: int
    name: str


@dataclass(frozen=True)
class Cycle:
    """What a step sees of the cycle it works for.

    Attributes:
        id: the cycle's id in the schema of the run.
        name: its name, which is the partition key.
        schema: the PostgreSQL schema of the run; set already.
        folder: the cycle's files.
    """

    id: int
    name: str
    schema: str
    folder: Path


StepFunction = Callable[..., Mapping[str, Any] | None]
Inputs = Callable[[Cycle, Any], Any]


def step(
    *,
    stage: Stage,
    number: int,
    version: int = 1,
    name: str | None = None,
    configured: bool = True,
    inputs: Inputs | None = None,
    retry_policy: RetryPolicy | None = None,
) -> Callable[[StepFunction], OpDefinition]:
    """Turn a plain function into an op that runs as a tracked step.

    The function may take any of: ``cycle`` (a :class:`Cycle`), ``step_id``, ``context`` (the op's), ``config`` (a
    ``dagster.Config``), and resources by annotation, as in any op. What it returns is the output data of the step:
    recorded with the run, shown as metadata of the op. It hands nothing to the next op: steps read what earlier ones
    left in the database and in the cycle's folder.

    Args:
        stage: the stage it belongs to.
        number: number of the step within the stage, from 1. Steps run in this order.
        version: raise it when the function gives other results than before, and cycles run it again.
        name: what people call it; default: the function's name as words.
        configured: whether the result depends on the cycle's configuration. False for the steps that come before there
            is one.
        inputs: called with the cycle and the op's config (None without one); returns what else the result depends
            on, JSON-like, such as the hash of a file.
        retry_policy: Dagster's; each retry is a step run of its own.

    Returns:
        A decorator that returns the op.
    """

    def make_op(function: StepFunction) -> OpDefinition:
        title = name or function.__name__.replace("_", " ").capitalize()
        spec = _Spec(stage, number, version, title, configured, inputs)
        return op(
            name=function.__name__,
            description=inspect.cleandoc(function.__doc__ or title),
            ins={"start": In(Nothing)},
            out=Out(Nothing),
            tags={STEP_TAG: f"{stage.number}.{number}"},
            code_version=str(version),
            retry_policy=retry_policy,
        )(_tracked(function, spec))

    return make_op


@dataclass(frozen=True)
class _Spec:
    stage: Stage
    number: int
    version: int
    name: str
    configured: bool
    inputs: Inputs | None


def _tracked(function: StepFunction, spec: _Spec) -> Callable[..., None]:
    parameters = dict(inspect.signature(function, eval_str=True).parameters)
    wants_cycle = parameters.pop("cycle", None) is not None
    wants_context = parameters.pop("context", None) is not None
    wants_database = parameters.pop("database", None) is not None
    wants_step_id = parameters.pop("step_id", None) is not None

    def run_step(context: OpExecutionContext, database: DatabaseResource, **given: Any) -> None:
        arguments = dict(given)
        if wants_context:
            arguments["context"] = context
        if wants_database:
            arguments["database"] = database
        with cycle_of_run(context, database) as cycle:
            stage_id = get_or_create_stage(cycle.id, spec.stage.number, spec.stage.name)
            step_id = get_or_create_step(stage_id, spec.number, spec.name)
            if wants_cycle:
                arguments["cycle"] = cycle
            if wants_step_id:
                arguments["step_id"] = step_id
            with track_step(
                step_id,
                started_by=database.started_by or context.run.tags.get(STARTED_BY_TAG),
                fingerprint=_fingerprint(spec, cycle, step_id, given.get("config")),
                rerun=database.rerun_completed,
                dagster_run_id=context.run_id,
            ) as run:
                if not run.skipped:
                    run.output.update(function(**arguments) or {})
        _report(context, run)

    # Dagster reads which resources and config an op takes from its signature. It is given as evaluated types, since
    # the annotations of a module with postponed evaluation are only strings.
    functools.update_wrapper(run_step, function)
    del run_step.__wrapped__  # type: ignore[attr-defined]
    config = [parameters.pop("config")] if "config" in parameters else []
    signature = inspect.Signature(
        [
            inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=OpExecutionContext),
            *config,
            inspect.Parameter("database", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=DatabaseResource),
            *parameters.values(),
        ]
    )
    run_step.__signature__ = signature  # type: ignore[attr-defined]
    run_step.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return run_step


@contextmanager
def cycle_of_run(context: OpExecutionContext, database: DatabaseResource) -> Iterator[Cycle]:
    """Work in the schema of a run, for the cycle that its partition names; nothing is created if there is none.

    Every step does. An op that is only a part of one, such as one of many that share its work, does so itself.

    Args:
        context: the op's.
        database: the run's.

    Yields:
        The cycle.

    Raises:
        Failure: the run has no partition, or its partition is no open cycle of the schema; and for whatever a person
            can act on within the block.
    """
    from irp_pipeline import settings

    end_with_parent()
    try:
        with database.entered() as schema:
            if not context.has_partition_key:
                raise CycleError(
                    "This run does not say which cycle it is for. Choose a partition, or on a command line add "
                    """--tags '{"dagster/partition": "Q1-2024"}'"""
                )
            cycle = require_open_cycle(context.partition_key)
            name = cycle["cycle_name"]
            yield Cycle(cycle["id"], name, schema, settings.cycle_dir(schema, name))
    except IrpError as error:
        raise failure_of(error) from error


def _fingerprint(spec: _Spec, cycle: Cycle, step_id: int, config: Config | None) -> str:
    """Return a digest of all that the result of a step depends on."""
    configuration = get_active_configuration(cycle.id) if spec.configured else None
    depends_on = {
        "step": f"{spec.stage.number}.{spec.number} {spec.name}",
        "version": spec.version,
        "configuration": configuration["file_hash"] if configuration else None,
        "config": config.model_dump(mode="json") if config is not None else None,
        "inputs": spec.inputs(cycle, config) if spec.inputs else None,
        "work_before": completed_work_before(step_id),
    }
    return hashlib.sha256(json.dumps(json_value(depends_on), sort_keys=True).encode()).hexdigest()


def _report(context: OpExecutionContext, run: StepRun) -> None:
    if run.skipped:
        context.log.debug(f"Skipped: run {run.work_run_num} of this step did the work, and nothing has changed since.")
    about: dict[str, Any] = {"run": run.run_num, "skipped": run.skipped, "work done in run": run.work_run_num}
    output = {key: _metadata(value) for key, value in json_value(run.output).items()}
    context.add_output_metadata(about | output)


def _metadata(value: Any) -> Any:
    """Return a JSON value as Dagster metadata, which knows no empty value and no bare list."""
    if value is None:
        return MetadataValue.null()
    if isinstance(value, list | dict):
        return MetadataValue.json(value)
    return value
