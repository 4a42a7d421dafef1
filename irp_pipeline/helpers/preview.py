"""The jobs that a batch type would make for a cycle now, without making them.

Nothing is written to the database and nothing is submitted. The jobs are checked as before their submission, if the
cycle has what their requests need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from irp_pipeline.helpers.batch_lookup import Batch, find_current_batch, newest_batch
from irp_pipeline.helpers.batch_of_jobs import BatchError, BatchOfJobs
from irp_pipeline.helpers.configuration import find_active_configuration
from irp_pipeline.helpers.constants import BatchStatus
from irp_pipeline.helpers.cycle_lookup import Cycle
from irp_pipeline.helpers.handover import requests_of
from irp_pipeline.helpers.step import step_output
from irp_pipeline.helpers.wanted import Wish, declared_batch_type, wanted_of, wishes_of
from irp_pipeline.helpers.world_check import Problem, problems_of
from irp_pipeline.postgres.parameters import json_value


class Novelty(StrEnum):
    """A job that would be made, beside the newest batch of its type."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, kw_only=True)
class PreviewedJob:
    """A job that would be made.

    Attributes:
        name: its name.
        engine: its risk engine.
        parameters: all of its parameters, with the changes of a person, which a new batch takes over.
        novelty: whether the newest batch has it.
        changes: of a changed job, the parameters that differ, each as it is in the batch and as it would be.
        skipped: whether a person skips it.
        overridden: whether a person changed its parameters.
        fault: why its request cannot be made; None if it can, or was not made.
    """

    name: str
    engine: str
    parameters: Mapping[str, Any] = field(repr=False)
    novelty: Novelty
    changes: Mapping[str, tuple[Any, Any]]
    skipped: bool
    overridden: bool
    fault: str | None


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a batch type would make.

    Attributes:
        batch_type: the type.
        batch: its newest batch in the cycle, if there is one.
        is_current: whether that has exactly these jobs, so that no other would be made.
        jobs: the jobs.
        gone: the names of jobs of the newest batch that would not be made again.
        engines: how many jobs each engine would get, without skipped ones.
        problems: what keeps jobs from running now.
        unchecked: why the jobs were not checked; None if they were.
    """

    batch_type: str
    batch: Batch | None
    is_current: bool
    jobs: tuple[PreviewedJob, ...]
    gone: tuple[str, ...]
    engines: Mapping[str, int]
    problems: tuple[Problem, ...]
    unchecked: str | None

    @property
    def faults(self) -> list[str]:
        """All that keeps jobs from running now, in words."""
        of_requests: dict[str, list[str]] = {}
        for job in self.jobs:
            if job.fault is not None and not job.skipped:
                of_requests.setdefault(job.fault, []).append(job.name)
        return [str(Problem(None, message, tuple(names))) for message, names in of_requests.items()] + [
            str(problem) for problem in self.problems
        ]


def preview_batch(cycle: Cycle, batch_type: str) -> Preview:
    """Return the jobs that a batch of a type would have, from the active configuration of a cycle.

    Args:
        cycle: the cycle.
        batch_type: a declared type.

    Raises:
        BatchError: there is no such type, its jobs do not come from a workbook, its transformer fails, or no workbook
            was validated for the cycle.
        DatabaseError: the database refuses or is away.
    """
    declared_batch_type(batch_type)
    configuration = find_active_configuration(cycle.id)
    if configuration is None:
        raise BatchError(
            f"No workbook has been validated for the cycle {cycle.cycle_name}: run validate_configuration first, with "
            f"irp run {cycle.cycle_name} --only validate_configuration"
        )
    wanted = [json_value(dict(job)) for job in wanted_of(batch_type, configuration.data)]
    newest = newest_batch(cycle.id, batch_type)
    present = {} if newest is None else wishes_of(newest.id)
    wishes = [present[job["name"]].over(job) if job["name"] in present else Wish(job) for job in wanted]
    batch = BatchOfJobs(
        id=0,
        configuration_id=configuration.id,
        batch_type=batch_type,
        status=BatchStatus.INITIATED,
        cycle_id=cycle.id,
        cycle_name=cycle.cycle_name,
        data_folder=configuration.data_folder,
        portfolios=tuple(portfolio["name"] for portfolio in configuration.data.get("portfolios", ())),
    )
    unchecked = _why_unchecked(cycle.id, batch_type)
    faults: dict[int, str] = {}
    problems: list[Problem] = []
    if unchecked is None:
        parameters = {number: wish.parameters for number, wish in enumerate(wishes) if not wish.skipped}
        requests, refused = requests_of(batch, parameters)
        faults = {number: str(error) for number, error in refused.items()}
        problems = problems_of(cycle.cycle_name, parameters, requests)
    jobs = tuple(_previewed(wish, present, faults.get(number)) for number, wish in enumerate(wishes))
    current = find_current_batch(cycle.id, batch_type)
    names = {job.name for job in jobs}
    return Preview(
        batch_type=batch_type,
        batch=newest,
        is_current=current is not None,
        jobs=jobs,
        gone=tuple(sorted(name for name in present if name not in names)),
        engines=Counter(job.engine for job in jobs if not job.skipped),
        problems=tuple(problems),
        unchecked=unchecked,
    )


def _previewed(wish: Wish, present: Mapping[str, Wish], fault: str | None) -> PreviewedJob:
    name = str(wish.parameters["name"])
    before = present.get(name)
    now = wish.parameters
    changes = {}
    if before is not None:
        was = before.parameters
        changes = {
            parameter: (was.get(parameter), now.get(parameter))
            for parameter in sorted({*was, *now})
            if was.get(parameter) != now.get(parameter)
        }
    novelty = Novelty.NEW if before is None else Novelty.CHANGED if changes else Novelty.UNCHANGED
    return PreviewedJob(
        name=name,
        engine=str(now["engine"]),
        parameters=now,
        novelty=novelty,
        changes=changes,
        skipped=wish.skipped,
        overridden=wish.workbook is not None,
        fault=fault,
    )


def _why_unchecked(cycle_id: int, batch_type: str) -> str | None:
    """Say why requests of jobs cannot be made yet; None if they can."""
    declared = declared_batch_type(batch_type)
    if declared.needs_portfolio and not step_output(cycle_id, "process.build_portfolios"):
        return "the portfolios of the cycle have not been built yet"
    if declared.after is not None:
        before = find_current_batch(cycle_id, declared.after)
        if before is None or before.status is not BatchStatus.COMPLETED:
            return f"the batch of the type {declared.after}, whose results its jobs may need, is not complete"
    return None
