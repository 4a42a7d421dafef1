"""What a tick of each sensor costs after years of use: among 2,000 cycles, and with a batch of 10,000 jobs."""

import os
import statistics
import time
from typing import Final

from dagster import DagsterInstance, SensorDefinition, build_sensor_context

from irp_pipeline.definitions import definitions
from irp_pipeline.helpers.database import init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline_tests.benchmarks.harness import Options, Target, show_table, throw_away_database
from irp_pipeline_tests.benchmarks.many_cycles import Amount, cycle_name, make_cycles, make_jobs, make_large_batch

SECONDS: Final = 2.0
MANY: Final = Amount(cycles=2_000, stages=6, steps=5, runs=5)
JOBS: Final = 10_000
QUICK_JOBS: Final = 1_000
_SCHEMA: Final = "public"


def run(options: Options) -> list[Target]:
    """Measure each sensor, print the table and return the target."""
    jobs = QUICK_JOBS if options.quick else JOBS
    os.environ["IRP_MESSAGES"] = "json://127.0.0.1:1"  # nobody takes a message there
    with throw_away_database(), schema_context(_SCHEMA):
        init_database()
        make_cycles(MANY)
        make_jobs(jobs=5, figures=20)
        make_large_batch(cycle_name(MANY.cycles), jobs, 0)
        print(f"{MANY}, a batch of {jobs:,} jobs", flush=True)
        with DagsterInstance.ephemeral() as instance:
            sensors = sorted(definitions.sensors or (), key=lambda sensor: sensor.name)
            taken = {
                sensor.name: [_seconds(sensor, instance) for _ in range(options.rounds_of_costly_calls())]
                for sensor in sensors
                if isinstance(sensor, SensorDefinition)
            }
    show_table(
        "Milliseconds a tick",
        ("", "median", "slowest"),
        [(name, f"{statistics.median(of) * 1000:.0f}", f"{max(of) * 1000:.0f}") for name, of in taken.items()],
    )
    return [Target("the slowest tick", max(max(of) for of in taken.values()), SECONDS, " s")]


def _seconds(sensor: SensorDefinition, instance: DagsterInstance) -> float:
    begin = time.perf_counter()
    with build_sensor_context(
        instance=instance, repository_def=definitions.get_repository_def(), sensor_name=sensor.name
    ) as context:
        sensor.evaluate_tick(context)
    return time.perf_counter() - begin
