"""A code location for the tests: the quarterly schedule, for which every minute is the time, and messages."""

from dagster import Definitions

from irp_pipeline import settings
from irp_pipeline.orchestration.executors import executor
from irp_pipeline.orchestration.jobs import run_cycle
from irp_pipeline.orchestration.resources import DatabaseResource
from irp_pipeline.orchestration.schedules import quarterly_schedule
from irp_pipeline.orchestration.sensors import messages

definitions = Definitions(
    jobs=[run_cycle],
    schedules=[quarterly_schedule("* * * * *", "UTC", is_due=lambda day: True)],
    sensors=[messages],
    resources={"database": DatabaseResource()},
    executor=executor(settings.executor()),
)
