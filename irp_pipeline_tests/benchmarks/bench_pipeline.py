"""What the pipeline costs above bare Dagster: tracking steps and their artefacts, a cold run, loading the definitions.

Cold is a process of its own each time, with the bytecode of all modules there, as after any first use. The stages
Submit, Monitor and Report are left out of the cold run: they wait for a risk engine.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dagster import DagsterInstance, In, JobDefinition, Nothing, OpDefinition, Out, graph, in_process_executor, op

from irp_pipeline import settings
from irp_pipeline.demo import write_sample
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.lease import track_step
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step
from irp_pipeline.orchestration.instance import use_dagster_home
from irp_pipeline.orchestration.jobs import STAGES
from irp_pipeline.orchestration.partitions import CYCLES, cycles
from irp_pipeline.orchestration.resources import DatabaseResource
from irp_pipeline.orchestration.tracking import StageSpec, step
from irp_pipeline_tests.benchmarks.harness import Options, Target, Timing, measure, show_table, throw_away_database

STEPS: Final = 30
TRACKING_MS: Final = 5
ARTEFACTS_MS: Final = 10
ARTEFACT_BYTES: Final = 1_000_000
TIMES_BARE_RUN: Final = 1.5
TIMES_BARE_IMPORT: Final = 1.5

SCHEMA: Final = "bench"
_STAGE: Final = StageSpec(1, "Empty")
_TRACKED, _BARE = "tracked steps", "bare ops"
_FILES, _BARE_FILES = "a tracked step writes them", "they are written"
_CYCLE, _EMPTY = "irp run, up to Process", "as many empty ops"
_DEFINITIONS, _DAGSTER = "irp_pipeline.definitions", "dagster"
_SELECTION: Final = ["setup", "extract", "process"]
_QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_RUN_CONFIG: Final = _QUIET | {"resources": {"database": {"config": {"db_schema": SCHEMA}}}}

# What the command does, without the terminal.
_CYCLE_PROGRAM = f"""
import sys
from irp_pipeline.cli.loading import loading
with loading():
    from dagster import DagsterInstance
    from irp_pipeline.launch import running_cycle
    from irp_pipeline.orchestration.instance import use_dagster_home
use_dagster_home()
with DagsterInstance.get() as instance:
    with running_cycle(instance, sys.argv[1], {_RUN_CONFIG!r}, {_SELECTION!r}) as (run, events):
        steps = sum(event.is_step_success for event in events)
    assert instance.get_run_by_id(run.run_id).is_success
    assert steps == int(sys.argv[2]), steps
"""
_EMPTY_PROGRAM = f"""
import sys
from dagster import DagsterInstance, In, Nothing, Out, in_process_executor, job, op

@op(ins={{"start": In(Nothing)}}, out=Out(Nothing))
def empty():
    pass

@job(executor_def=in_process_executor)
def bare():
    done = empty.alias("empty_0")()
    for number in range(1, int(sys.argv[1])):
        done = empty.alias(f"empty_{{number}}")(done)

with DagsterInstance.get() as instance:
    result = bare.execute_in_process(instance=instance, run_config={_QUIET!r})
assert result.success
"""


def run(options: Options) -> list[Target]:
    """Measure all of them, print the tables and return the targets."""
    rounds = options.rounds_of_costly_calls()
    with throw_away_database(), _own_dagster() as environment:
        init_database(SCHEMA)
        return [
            _cost_of_tracking(rounds),
            _cost_of_artefacts(options.rounds),
            _cold_run(environment, min(rounds, 10)),
            _loading(environment, min(rounds, 10)),
        ]


@contextmanager
def _own_dagster() -> Iterator[dict[str, str]]:
    """A Dagster instance in the throw-away database; yield the environment of processes that use it.

    They find the bytecode of all modules in a folder of their own, whatever this process may write.
    """
    os.environ["IRP_DAGSTER_DATABASE_URL"] = os.environ["IRP_DATABASE_URL"]
    os.environ.pop("DAGSTER_HOME", None)
    os.environ.pop("IRP_EXECUTOR", None)
    use_dagster_home()
    with tempfile.TemporaryDirectory(prefix="irp-bench-bytecode-") as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        yield environment


# --- tracking -----------------------------------------------------------------------------------------------------


def _cost_of_tracking(rounds: int) -> Target:
    with DagsterInstance.get() as instance:
        jobs = {_TRACKED: _job("tracked", _tracked_op), _BARE: _job("bare", _bare_op)}
        timings = measure({name: _execution(job, instance) for name, job in jobs.items()}, rounds)
    tracked, bare = timings[_TRACKED], timings[_BARE]
    both = tracked.elapsed.keys() & bare.elapsed.keys()
    cost_ms = statistics.median((tracked.elapsed[i] - bare.elapsed[i]) * 1000 / STEPS for i in both)
    show_table(
        f"A cycle of {STEPS} empty steps in process, medians of {rounds} rounds",
        ("", "seconds", "ms a step", "ms of CPU a step"),
        [
            (
                name,
                f"{timing.elapsed_ms / 1000:.2f}",
                f"{timing.elapsed_ms / STEPS:.1f}",
                f"{timing.cpu_ms / STEPS:.1f}",
            )
            for name, timing in timings.items()
        ],
    )
    return Target("tracking a step", cost_ms, TRACKING_MS, " ms")


def _cost_of_artefacts(rounds: int) -> Target:
    """Measure a tracked step that writes two files beside the writing of two such files."""
    with schema_context(SCHEMA):
        stage_id = get_or_create_stage(create_cycle("of-artefacts"), 1, "Files")
        step_id = get_or_create_step(stage_id, 1, "write")
        contents = iter(lambda: os.urandom(ARTEFACT_BYTES), b"")

        def write(folder: Path) -> list[Path]:
            files = [folder / "first.bin", folder / "second.bin"]
            for file in files:
                file.write_bytes(next(contents))
            return files

        def tracked() -> None:
            with track_step(step_id, rerun=True) as run:
                for file in write(run.scratch):
                    run.add_file(file)

        with tempfile.TemporaryDirectory() as folder:
            timings = measure({_FILES: tracked, _BARE_FILES: lambda: write(Path(folder))}, rounds)
    files, bare = timings[_FILES], timings[_BARE_FILES]
    show_table(
        f"Two files of {ARTEFACT_BYTES:,} bytes, medians of {rounds} rounds",
        ("", "ms"),
        [(name, f"{timing.elapsed_ms:.1f}") for name, timing in timings.items()],
    )
    cost_ms = statistics.median((files.elapsed[i] - bare.elapsed[i]) * 1000 for i in files.elapsed)
    return Target("tracking a step with two artefacts of 1 MB", cost_ms, ARTEFACTS_MS, " ms")


def _tracked_op(number: int) -> OpDefinition:
    def empty() -> None:
        """Do nothing."""

    empty.__name__ = f"empty_{number}"
    return step(stage=_STAGE, number=number)(empty)


def _bare_op(number: int) -> OpDefinition:
    @op(name=f"empty_{number}", ins={"start": In(Nothing)}, out=Out(Nothing))
    def empty() -> None:
        """Do nothing."""

    return empty


def _job(name: str, make_op: Callable[[int], OpDefinition]) -> JobDefinition:
    ops = [make_op(number) for number in range(1, STEPS + 1)]

    @graph(name=name)
    def chain() -> None:
        done = ops[0]()
        for each in ops[1:]:
            done = each(done)

    resources = {"database": DatabaseResource(db_schema=SCHEMA, rerun_completed=True)}
    return chain.to_job(partitions_def=cycles, resource_defs=resources, executor_def=in_process_executor)


def _execution(job: JobDefinition, instance: DagsterInstance) -> Callable[[], None]:
    cycle = f"of-{job.name}"
    with schema_context(SCHEMA):
        create_cycle(cycle)
    instance.add_dynamic_partitions(CYCLES, [cycle])

    def execute() -> None:
        result = job.execute_in_process(instance=instance, partition_key=cycle, run_config=_QUIET)
        assert result.success

    return execute


# --- cold processes -----------------------------------------------------------------------------------------------


def _cold_run(environment: dict[str, str], rounds: int) -> Target:
    names = iter([_cycle_with_sample(f"cold-{number}") for number in range(rounds + 1)])  # one to warm up
    steps = len(_steps_of_stages())
    timings = measure(
        {
            _CYCLE: lambda: _python(environment, _CYCLE_PROGRAM, next(names), str(steps)),
            _EMPTY: lambda: _python(environment, _EMPTY_PROGRAM, str(steps)),
        },
        rounds,
    )
    show_table(
        f"Seconds of a process that runs {steps} steps, medians of {rounds} rounds", ("", "seconds"), _seconds(timings)
    )
    return Target("cold run: times as long as empty ops", timings[_CYCLE].ratio_to(timings[_EMPTY]), TIMES_BARE_RUN)


def _cycle_with_sample(name: str) -> str:
    with schema_context(SCHEMA):
        create_cycle(name)
    folder = settings.cycle_dir(SCHEMA, name)
    folder.mkdir(parents=True)
    write_sample(folder)
    return name


def _steps_of_stages() -> list[str]:
    stages = [stage for stage in STAGES if stage.name in _SELECTION]
    return [node.name for stage in stages for node in stage.nodes_in_topological_order]


def _loading(environment: dict[str, str], rounds: int) -> Target:
    timings = measure(
        {
            _DEFINITIONS: lambda: _python(environment, f"import {_DEFINITIONS}"),
            _DAGSTER: lambda: _python(environment, f"import {_DAGSTER}"),
        },
        rounds,
    )
    ratio = timings[_DEFINITIONS].ratio_to(timings[_DAGSTER])
    show_table("Seconds of a process that only imports it (medians)", ("", "seconds"), _seconds(timings))
    return Target("loading the definitions: times as long as dagster", ratio, TIMES_BARE_IMPORT)


def _seconds(timings: dict[str, Timing]) -> list[tuple[str, str]]:
    return [(name, f"{timing.elapsed_ms / 1000:.2f}") for name, timing in timings.items()]


def _python(environment: dict[str, str], program: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-c", program, *arguments], env=environment, check=True)
