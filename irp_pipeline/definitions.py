"""The one Definitions object: what Dagster finds in this project. Loading it connects to nothing."""

from dagster import Definitions

from irp_pipeline import settings
from irp_pipeline.orchestration.assets import ASSETS, checks_of_the_cycle
from irp_pipeline.orchestration.cycles import archive_cycle, open_cycle
from irp_pipeline.orchestration.executors import executor
from irp_pipeline.orchestration.jobs import run_cycle, stage_jobs
from irp_pipeline.orchestration.resources import DatabaseResource, HandedOn
from irp_pipeline.orchestration.schedules import quarterly_cycle
from irp_pipeline.orchestration.sensors import (
    continue_approved,
    follow_batches,
    lost_workers,
    messages,
    partitions_follow_cycles,
)

definitions = Definitions(
    assets=ASSETS,
    asset_checks=[checks_of_the_cycle],
    jobs=[run_cycle, *stage_jobs, open_cycle, archive_cycle],
    schedules=[quarterly_cycle],
    sensors=[partitions_follow_cycles, lost_workers, follow_batches, continue_approved, messages],
    resources={"database": DatabaseResource(), "io_manager": HandedOn()},
    executor=executor(settings.executor()),
)
