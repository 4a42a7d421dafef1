"""What the queue and the workers cost: handing over, starting a program, and many jobs on few slots.

A job's program is a shell that sleeps, so that what is measured is ours: the queue, the lease, the job's folder, and
looking after the program.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from irp_pipeline import settings
from irp_pipeline.engines import ENGINES, EngineDeclaration, JobPhase
from irp_pipeline.engines.limits import Limits
from irp_pipeline.engines.local import LocalEngine
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_insert, init_database
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step
from irp_pipeline.postgres.running import bulk_insert, transaction
from irp_pipeline_tests.benchmarks.harness import Options, Target, show_table, throw_away_database

SECONDS_MORE: Final = 0.3
OVERHEAD: Final = 1.10
JOBS_A_SECOND: Final = 20

SCHEMA: Final = "bench"
CYCLE: Final = "Q1-2024"
WORKER: Final = """
import sys
from irp_pipeline_tests.benchmarks.bench_queue import declare
from irp_pipeline.workers.worker import Worker
declare(float(sys.argv[2]))
print("works", flush=True)
Worker(int(sys.argv[1])).run()
"""


def declare(seconds: float) -> None:
    """Make the engine known: its jobs take so many seconds."""
    program = ["/bin/sh", "-c", f'sleep {seconds:g}; echo "{{}}" >"$0/outcome.json"']
    ENGINES.register(
        EngineDeclaration("bench", "sleeps.", lambda folder: LocalEngine(folder, program, Limits(600, 1e9)))
    )


@contextmanager
def workers(number: int, slots: int, seconds: float) -> Iterator[None]:
    """Run workers as processes during the block."""
    command = [sys.executable, "-c", WORKER, str(slots), str(seconds)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def engine() -> LocalEngine:
    made = ENGINES.declared()["bench"].make(settings.cycle_dir(get_current_schema(), CYCLE) / "jobs")
    assert isinstance(made, LocalEngine)
    return made


def hand_over(batch_id: int, number: int) -> tuple[list[str], float]:
    """Hand over jobs in one transaction; return their keys, and how long it took in seconds."""
    keys = [str(uuid.uuid4()) for _ in range(number)]
    began = time.perf_counter()
    with transaction():
        configurations = bulk_insert(
            "INSERT INTO irp_job_configuration (batch_id, job_configuration_data) VALUES (%s, %s) RETURNING id",
            [(batch_id, {"engine": "bench"}) for _ in keys],
        )
        bulk_insert(
            "INSERT INTO irp_job (batch_id, job_configuration_id, job_key, request_data, status)"
            " VALUES (%s, %s, %s, %s, %s) RETURNING id",
            [
                (batch_id, configuration, key, {}, "SUBMITTED")
                for configuration, key in zip(configurations, keys, strict=True)
            ],
        )
        engine().submit({key: {} for key in keys})
    return keys, time.perf_counter() - began


def wait_for(keys: list[str], pause: float) -> None:
    while any(state.phase is not JobPhase.FINISHED for state in engine().states(keys).values()):
        time.sleep(pause)


def run(options: Options) -> list[Target]:
    """Measure; return the targets."""
    os.environ["IRP_JOB_SLOTS"] = "0"
    with throw_away_database():
        init_database(SCHEMA)
        with schema_context(SCHEMA):
            declare(0)
            batch_id = make_batch()
            return [*_start(batch_id, options), *_ideal(batch_id, options), *_many(batch_id, options)]


def make_batch() -> int:
    """Make the cycle with an empty batch; return its id."""
    cycle_id = create_cycle(CYCLE)
    configuration_id = execute_insert(
        """
        INSERT INTO irp_configuration (cycle_id, file_name, file_hash, data_folder, status, configuration_data)
        VALUES (%s, 'configuration.xlsx', 'hash', '/data', 'ACTIVE', '{}')
        """,
        (cycle_id,),
    )
    step_id = get_or_create_step(get_or_create_stage(cycle_id, 1, "Setup"), 3, "Create batches")
    return int(
        execute_insert(
            """
            INSERT INTO irp_batch (configuration_id, batch_type, step_id, status) VALUES (%s, 'ANALYSIS', %s, 'ACTIVE')
            """,
            (configuration_id, step_id),
        )
    )


def _start(batch_id: int, options: Options) -> list[Target]:
    """From the call that hands a job over until its program has written its result, against the program by hand."""
    by_hand, queued = [], []
    program = engine().program
    with workers(1, 1, 0), tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds_of_costly_calls()):
            began = time.time()
            subprocess.run([*program, folder], check=True)
            by_hand.append((Path(folder) / "outcome.json").stat().st_mtime - began)
            began = time.time()
            (key,), _ = hand_over(batch_id, 1)
            wait_for([key], 0.01)
            queued.append((engine().folder(key) / "outcome.json").stat().st_mtime - began)
    more = statistics.median(queued) - statistics.median(by_hand)
    rows = [("by hand", f"{statistics.median(by_hand):.3f} s"), ("handed over", f"{statistics.median(queued):.3f} s")]
    show_table("From the call to the result of a program that does nothing", ("", "median"), rows)
    return [Target("handing over and starting a job, more than its program by hand", more, SECONDS_MORE, " s")]


def _ideal(batch_id: int, options: Options) -> list[Target]:
    number = 20 if options.quick else 200
    with workers(1, 2, 1):
        began = time.perf_counter()
        keys, _ = hand_over(batch_id, number)
        wait_for(keys, 0.5)
        took = time.perf_counter() - began
    rows = [("ideal", f"{number / 2:.1f} s"), ("measured", f"{took:.1f} s")]
    show_table(f"{number} jobs of 1 s on two slots", ("", "time"), rows)
    return [Target(f"{number} jobs of 1 s on two slots, against the ideal", took / (number / 2), OVERHEAD)]


def _many(batch_id: int, options: Options) -> list[Target]:
    number = 200 if options.quick else 2000
    keys, handed_over = hand_over(batch_id, number)
    looks = [_seconds_of(lambda: engine().states(keys)) for _ in range(5)]
    with workers(2, 2, 0):
        began = time.perf_counter()
        wait_for(keys, 1)
        took = time.perf_counter() - began
    rows = [
        ("handed over in", f"{handed_over:.2f} s"),
        ("one look at all of them", f"{statistics.median(looks):.3f} s"),
        ("run by two workers in", f"{took:.1f} s"),
    ]
    show_table(f"{number} jobs that do nothing", ("", "time"), rows)
    return [Target("trivial jobs that two workers run in a second", number / took, JOBS_A_SECOND, "", at_least=True)]


def _seconds_of(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
