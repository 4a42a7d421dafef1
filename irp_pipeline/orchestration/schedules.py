"""Schedules: the quarterly cycle, which opens automatically.

https://docs.dagster.io/guides/automate/schedules
"""

import datetime as dt
from collections.abc import Callable, Iterator

from dagster import (
    DefaultScheduleStatus,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)

from irp_pipeline import settings
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.cycle import open_cycle
from irp_pipeline.helpers.db_context import get_schema_from_env, schema_context
from irp_pipeline.orchestration.jobs import run_cycle
from irp_pipeline.orchestration.partitions import CYCLES

FIRST_DAYS_OF_QUARTERS = "0 6 1-3 1,4,7,10 *"
"""Six in the morning on the first three days of a quarter, one of which is its first weekday."""

_SATURDAY = 5


def cycle_of_quarter(day: dt.date) -> str:
    """Return the name of the cycle that opens in the quarter of a day, such as ``Q1-2024``."""
    return f"Q{(day.month + 2) // 3}-{day.year}"


def is_first_weekday_of_quarter(day: dt.date) -> bool:
    """Tell whether a day is the first weekday (Monday to Friday) of its quarter. Holidays are ignored."""
    first = dt.date(day.year, 3 * ((day.month - 1) // 3) + 1, 1)
    while first.weekday() >= _SATURDAY:
        first += dt.timedelta(days=1)
    return day == first


def quarterly_schedule(
    cron_schedule: str, time_zone: str, is_due: Callable[[dt.date], bool] = is_first_weekday_of_quarter
) -> ScheduleDefinition:
    """Make the schedule that opens and runs the cycle of each quarter in the default schema.

    Args:
        cron_schedule: when to check whether the cycle is due.
        time_zone: the zone of ``cron_schedule`` and of the days, such as ``Europe/London``.
        is_due: tells whether the cycle is due on a day.
    """

    @schedule(
        name="quarterly_cycle",
        job=run_cycle,
        cron_schedule=cron_schedule,
        execution_timezone=time_zone,
        default_status=DefaultScheduleStatus.STOPPED,
        description="On the first weekday of a quarter, open its cycle and run it.",
    )
    def quarterly_cycle(context: ScheduleEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        day = context.scheduled_execution_time.date()
        if not is_due(day):
            yield SkipReason(f"{day} is not the first weekday of a quarter")
            return
        name = cycle_of_quarter(day)
        try:
            with schema_context(get_schema_from_env()):
                open_cycle(name)
        except IrpError as error:
            raise RuntimeError(f"The cycle {name} could not be opened: {error}") from error
        context.instance.add_dynamic_partitions(CYCLES, [name])
        yield RunRequest(run_key=name, partition_key=name)

    return quarterly_cycle


quarterly_cycle = quarterly_schedule(FIRST_DAYS_OF_QUARTERS, settings.time_zone())
