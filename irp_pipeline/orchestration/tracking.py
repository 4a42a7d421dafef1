"""Ops that are tracked steps.

:func:`step` turns a plain function into an op. The function does the work. Around each execution, the op adds the
schema of the run, the cycle of the partition, one tracked step run (:func:`irp_pipeline.helpers.step.track_step`) with
all inputs that the result depends on, and the output data as op metadata. In the default schema, whose cycles are the
partitions, it also tells Dagster of the asset that the step materialises and the check that it evaluates.

https://docs.dagster.io/guides/build/ops
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster import (
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetSpec,
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

from irp_pipeline import hashes
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.artefact import list_artefacts, read_artefacts
from irp_pipeline.helpers.audit import begin_entry
from irp_pipeline.helpers.configuration import find_active_configuration, part_of_workbook
from irp_pipeline.helpers.cycle import CycleError, require_open_cycle
from irp_pipeline.helpers.db_context import get_schema_from_env
from irp_pipeline.helpers.decision import Verdict, decide, fingerprint_of, outputs_of_steps
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import TrackedRun, find_step, get_or_create_step, track_step
from irp_pipeline.orchestration.asset_events import Outcome, evaluate, materialise
from irp_pipeline.orchestration.coordinator import IN_TRAIL_TAG
from irp_pipeline.orchestration.executors import end_with_parent
from irp_pipeline.orchestration.resources import DatabaseResource, failure_of
from irp_pipeline.orchestration.run_watch import unwanted
from irp_pipeline.postgres.parameters import json_value

STEP_TAG = "irp/step"
STARTED_BY_TAG = "irp/started_by"


@dataclass(frozen=True)
class StageSpec:
    """A phase of a cycle; each module of :mod:`irp_pipeline.orchestration.stages` declares its own.

    Attributes:
        number: its place among the stages; may change from release to release.
        name: its name for people. In lower case, it is the key of its records.
    """

    number: int
    name: str

    @property
    def key(self) -> str:
        """The key of the stage's records."""
        return self.name.lower()


@dataclass(frozen=True)
class CycleOfRun:
    """The cycle that a step works for.

    Attributes:
        id: the cycle's id in the schema of the run.
        name: its name, which is the partition key.
        schema: the PostgreSQL schema of the run; it is already set as the context.
        folder: the cycle's files.
    """

    id: int
    name: str
    schema: str
    folder: Path

    def artefacts(self, folder: str) -> dict[str, Path]:
        """Check the files of earlier steps in a folder of the cycle against their recorded hashes, and return them.

        Args:
            folder: within the files of the cycle, such as ``extracts/main``.

        Returns:
            The paths by file name, or by the rest of the key for files in subfolders.

        Raises:
            ArtefactError: a file is missing on this machine or differs.
        """
        found = list_artefacts(self.id, folder)
        names = (key.removeprefix(f"{folder}/") for key in found)
        return dict(zip(names, read_artefacts(self.name, found.values()), strict=True))


StepFunction = Callable[..., Mapping[str, Any] | None]
Inputs = Callable[[CycleOfRun, Any], Mapping[str, Any]]
Records = Callable[[CycleOfRun], Mapping[str, Any]]
Pending = Callable[[CycleOfRun], str | None]
Shown = Callable[[CycleOfRun], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class AssetOfStep:
    """The asset that a step materialises.

    Attributes:
        asset: the asset.
        metadata: called with the cycle and the output data of the step; returns what the UI shows, as Dagster takes
            metadata. It plots numbers from cycle to cycle.
        content: called with the cycle; returns the content of the asset, JSON-like, of which the data version is the
            hash. None: the files and records of the step.
    """

    asset: AssetSpec
    metadata: Callable[[CycleOfRun, Mapping[str, Any]], Mapping[str, Any]]
    content: Callable[[CycleOfRun], Any] | None = None


@dataclass(frozen=True, kw_only=True)
class CheckOfStep:
    """The asset check that a step evaluates.

    Attributes:
        check: the check.
        outcome: called with the output data of the step; returns what was found.
        fails_with: an error of the step that means that the check has failed; None if no error does.
        applies: called with the output data of the step; tells whether the check is evaluated. None: always.
    """

    check: AssetCheckSpec
    outcome: Callable[[Mapping[str, Any]], Outcome]
    fails_with: type[IrpError] | None = None
    applies: Callable[[Mapping[str, Any]], bool] | None = None


SPECS: dict[str, "Spec"] = {}
"""The declaration of each step, by its key."""


@dataclass(frozen=True)
class Spec:
    """The declaration of a step; the attributes are those of :func:`step`."""

    stage: StageSpec
    function: StepFunction
    number: int
    version: int
    name: str
    workbook: Sequence[str]
    after: Sequence[str]
    inputs: Inputs | None
    records: Records | None
    pending: Pending | None
    foreseen: Pending | None
    without_config: Sequence[str]
    config: type[Config] | None
    asset: AssetOfStep | None
    check: CheckOfStep | None
    notebook_path: str | None
    shown: Shown | None

    @property
    def key(self) -> str:
        """The key of the step's records: stage and op, as Dagster names them within ``run_cycle``."""
        return f"{self.stage.key}.{self.function.__name__}"

    def inputs_now(self, cycle: CycleOfRun, config: Config | None) -> dict[str, Any]:
        """Return the present inputs that the result of the step depends on, by name.

        Args:
            cycle: the cycle.
            config: the op's config.
        """
        found: dict[str, Any] = {"step": f"{self.key} version {self.version}"}
        if config is not None:
            values = config.model_dump(mode="json", exclude=set(self.without_config))
            found |= {f"config {name}": value for name, value in values.items()}
        if self.workbook:
            configuration = find_active_configuration(cycle.id)
            data = configuration.data if configuration else None
            found |= {f"workbook {part}": part_of_workbook(data, part) for part in self.workbook}
        if self.after:
            outputs = outputs_of_steps(cycle.id)
            found |= {f"output of {key}": outputs.get(key, "none yet") for key in self.after}
        if self.inputs is not None:
            found |= self.inputs(cycle, config)
        return {name: json_value(value) for name, value in found.items()}

    def step_id(self, cycle: CycleOfRun) -> int:
        """Return the id of the step in a cycle, making the step if it is missing."""
        stage_id = get_or_create_stage(cycle.id, self.stage.number, self.stage.name, stage_key=self.stage.key)
        return get_or_create_step(stage_id, self.number, self.name, self.notebook_path, step_key=self.key)

    def records_of(self, cycle: CycleOfRun) -> Callable[[], Mapping[str, Any]] | None:
        """Return a function that returns the present records that the step keeps in the database."""
        records = self.records
        return None if records is None else lambda: json_value(dict(records(cycle)))

    def verdict(self, cycle: CycleOfRun) -> Verdict:
        """Say whether the step would run now, with the default config, or be skipped, without running anything."""
        inputs = self.inputs_now(cycle, self.config() if self.config is not None else None)
        waiting = (ask(cycle) for ask in (self.foreseen, self.pending) if ask is not None)
        pending = next((what for what in waiting if what is not None), None)
        step_id = find_step(cycle.id, self.key)
        found = None
        if step_id is not None:
            found = decide(step_id, fingerprint_of(inputs), inputs, records=self.records_of(cycle), pending=pending)
        return found or Verdict.never_ran(cycle.name)


def step(
    *,
    stage: StageSpec,
    number: int,
    version: int = 1,
    name: str | None = None,
    workbook: Sequence[str] = (),
    after: Sequence[str] = (),
    inputs: Inputs | None = None,
    records: Records | None = None,
    pending: Pending | None = None,
    foreseen: Pending | None = None,
    without_config: Sequence[str] = (),
    retry_policy: RetryPolicy | None = None,
    asset: AssetOfStep | None = None,
    check: CheckOfStep | None = None,
    notebook_path: str | None = None,
    shown: Shown | None = None,
) -> Callable[[StepFunction], OpDefinition]:
    """Turn a plain function into an op that runs as a tracked step.

    The function may take any of: ``cycle`` (a :class:`CycleOfRun`), ``run`` (its step run: scratch space, files,
    records), ``step_id``, ``context`` (the op's), ``config`` (a ``dagster.Config``), and resources by annotation, as in
    any op.
    It returns the output data of the step, which is recorded with the run and shown as metadata of the op. It passes
    nothing to the next op: steps read the output of earlier ones from the database and the files of the cycle.

    The key of a step is made from the names of its stage and its function. Inserting a step before another one, or
    renumbering it, does not affect the records of either.

    Args:
        stage: the stage it belongs to.
        number: number of the step within the stage, from 1. Steps are shown in this order.
        version: raise it when the results of the function change; cycles then run it again.
        name: its name for people; default: the function's name as words.
        workbook: the parts of the cycle's workbook that the result depends on, such as ``portfolios`` or
            ``metadata.currency``.
        after: keys of the steps whose outputs the result depends on, such as ``extract.extract_exposure``. Only their
            content counts: if one runs again and its output is the same, this step need not run.
        inputs: called with the cycle and the op's config (None without one); returns what else the result depends
            on, JSON-like, by name, such as the hash of a file.
        records: called with the cycle; returns the content of the records that the step keeps in the database,
            JSON-like, by name. If they have changed since the last run, the step runs again.
        pending: called with the cycle; returns work that waits to be done, whatever was done before, or None.
        foreseen: called with the cycle to explain the step without running it; says what earlier ops of a launch would
            find to do, or None.
        without_config: fields of the config that do not affect the result, such as how long to wait.
        retry_policy: Dagster's; each retry is a new step run.
        asset: the asset that it materialises.
        check: the asset check that it evaluates.
        notebook_path: the notebook that does the work, if one does.
        shown: called with the cycle when the work is done, now or before; returns what else the UI shows of the op, as
            Dagster takes metadata.

    Returns:
        A decorator that returns the op.
    """

    def make_op(function: StepFunction) -> OpDefinition:
        title = name or function.__name__.replace("_", " ").capitalize()
        config = inspect.signature(function, eval_str=True).parameters.get("config")
        spec = Spec(
            stage,
            function,
            number,
            version,
            title,
            workbook,
            after,
            inputs,
            records,
            pending,
            foreseen,
            without_config,
            config.annotation if config is not None else None,
            asset,
            check,
            notebook_path,
            shown,
        )
        SPECS[spec.key] = spec
        return op(
            name=function.__name__,
            description=inspect.cleandoc(function.__doc__ or title),
            ins={"start": In(Nothing)},
            out=Out(Nothing),
            tags={STEP_TAG: spec.key},
            code_version=str(version),
            retry_policy=retry_policy,
        )(_tracked(spec))

    return make_op


def _tracked(spec: Spec) -> Callable[..., None]:
    parameters = dict(inspect.signature(spec.function, eval_str=True).parameters)
    ours = {
        name for name in ("cycle", "run", "step_id", "context", "database") if parameters.pop(name, None) is not None
    }

    def run_step(context: OpExecutionContext, database: DatabaseResource, **given: Any) -> None:
        with cycle_of_run(context, database) as cycle:
            record_launch(context, database, cycle.name)
            step_id = spec.step_id(cycle)
            with (
                _failure_fails_check(spec, cycle, context),
                track_step(
                    step_id,
                    started_by=started_by(context, database),
                    inputs=spec.inputs_now(cycle, given.get("config")),
                    rerun=database.rerun_completed,
                    dagster_run_id=context.run_id,
                    records=spec.records_of(cycle),
                    pending=spec.pending(cycle) if spec.pending is not None else None,
                    unwanted=unwanted(context.instance, context.run_id),
                ) as run,
            ):
                if not run.skipped:
                    offered = {
                        "cycle": cycle,
                        "run": run,
                        "step_id": step_id,
                        "context": context,
                        "database": database,
                    }
                    arguments = given | {name: value for name, value in offered.items() if name in ours}
                    run.output.update(spec.function(**arguments) or {})
            _tell_events(spec, cycle, run, context)
            shown = {} if spec.shown is None else spec.shown(cycle)
        context.add_output_metadata({**about_run(run), **shown})

    # Dagster reads from the signature which resources and config an op takes. The signature needs evaluated types,
    # since the annotations of a module with postponed evaluation are only strings.
    functools.update_wrapper(run_step, spec.function)
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


def started_by(context: OpExecutionContext, database: DatabaseResource) -> str | None:
    """Return who started the run of an op, if the run says so; None for the user of the system."""
    return database.started_by or context.run.tags.get(STARTED_BY_TAG)


def record_launch(context: OpExecutionContext, database: DatabaseResource, cycle_name: str) -> None:
    """Record the launch of a run in the audit trail, once for all its ops, unless the command that made it is there.

    Args:
        context: the op's.
        database: the run's.
        cycle_name: its cycle.
    """
    run = context.run
    if run.tags.get(IN_TRAIL_TAG) == run.run_id:
        return
    given = {
        "run": run.run_id,
        "steps": sorted(run.op_selection) if run.op_selection else None,
        "rerun": database.rerun_completed or None,
    }
    begin_entry(
        f"Dagster: {run.job_name}",
        {name: value for name, value in given.items() if value is not None},
        cycle_name,
        key=run.run_id,
        user=started_by(context, database),
    )


@contextmanager
def part_of_step(key: str, context: OpExecutionContext, database: DatabaseResource) -> Iterator[CycleOfRun]:
    """Work within an op that is only a part of a step, such as one of many that share its work.

    Args:
        key: of the step. An error in the block is recorded as a failed run of that step.
        context: the op's.
        database: the run's.

    Yields:
        The cycle.

    Raises:
        Failure: as for :func:`cycle_of_run`.
    """
    with cycle_of_run(context, database) as cycle:
        try:
            yield cycle
        except Exception as error:
            with track_step(
                SPECS[key].step_id(cycle), started_by(context, database), rerun=True, dagster_run_id=context.run_id
            ):
                error.add_note(f"in {context.op.name}, a part of the step")
                raise


@contextmanager
def cycle_of_run(context: OpExecutionContext, database: DatabaseResource) -> Iterator[CycleOfRun]:
    """Work in the schema of a run, for the cycle that its partition names; a missing cycle is not created.

    Every step does this automatically. An op that is only a part of a step must do it itself.

    Args:
        context: the op's.
        database: the run's.

    Yields:
        The cycle.

    Raises:
        Failure: the run has no partition, or its partition is not an open cycle of the schema; or the block raises an
            error that a user can correct.
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
            name = cycle.cycle_name
            yield CycleOfRun(cycle.id, name, schema, settings.cycle_dir(schema, name))
    except IrpError as error:
        raise failure_of(error) from error


def _has_partition(cycle: CycleOfRun) -> bool:
    """Whether the cycle is a partition: one of another schema would overwrite that of the same name."""
    return cycle.schema == get_schema_from_env()


@contextmanager
def _failure_fails_check(spec: Spec, cycle: CycleOfRun, context: OpExecutionContext) -> Iterator[None]:
    """Tell Dagster that the check of a step has failed if the block raises the error that means this."""
    try:
        yield
    except IrpError as error:
        check = spec.check
        if check is not None and check.fails_with is not None and isinstance(error, check.fails_with):
            failed = Outcome(severity=AssetCheckSeverity.ERROR, description=str(error))
            if _has_partition(cycle):
                evaluate(context, check.check, cycle.name, None, lambda: failed, is_new=True)
        raise


def _tell_events(spec: Spec, cycle: CycleOfRun, run: TrackedRun, context: OpExecutionContext) -> None:
    """Tell Dagster of the asset and the check of a step whose run has completed or was skipped."""
    if (spec.asset is None and spec.check is None) or not _has_partition(cycle):
        return
    is_new, output = not run.skipped, json_value(run.output)
    written = outputs_of_steps(cycle.id).get(spec.key, "")
    if (asset := spec.asset) is not None:
        version = written if asset.content is None else hashes.value_hash(json_value(asset.content(cycle)))
        materialise(context, asset.asset, cycle.name, version, lambda: asset.metadata(cycle, output), is_new=is_new)
    if (check := spec.check) is not None and (check.applies is None or check.applies(output)):
        evaluate(context, check.check, cycle.name, written, lambda: check.outcome(output), is_new=is_new)


def about_run(run: TrackedRun) -> dict[str, Any]:
    """Return the metadata of a step run: not as log messages, each of which costs as much as tracking the step."""
    about: dict[str, Any] = {
        "run": run.run_num,
        "skipped": run.skipped,
        "why": run.reason,
        "work done in run": run.work_run_num,
    }
    output = {key: _metadata(value) for key, value in json_value(run.output).items()}
    return about | output


def _metadata(value: Any) -> Any:
    """Return a JSON value as Dagster metadata, which has no empty values and no bare lists."""
    if value is None:
        return MetadataValue.null()
    if isinstance(value, list | dict):
        return MetadataValue.json(value)
    return value
