"""The record of a job, and the SQL that reads it. Other modules change jobs.

``job`` handles single jobs, ``handover`` many jobs of a batch; ``job_changes`` interprets an engine's answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from irp_pipeline.helpers.constants import JobStatus
from irp_pipeline.helpers.record import INTERNAL

JOB_COLUMNS: Final = """
    j.id, j.batch_id, j.job_configuration_id, j.parent_job_id, j.job_key, j.status, j.skipped, j.created_ts,
    j.submitted_ts, j.completed_ts, j.error_message, j.work_job_id, j.recompute,
    c.job_configuration_data, c.overridden, c.override_reason, b.batch_type,
    c.workbook_data, j.request_data IS NOT NULL AS has_request
"""
"""The columns of a :class:`Job`, from :data:`JOBS`."""

JOBS: Final = """
    irp_job j
    JOIN irp_job_configuration c ON c.id = j.job_configuration_id
    JOIN irp_batch b ON b.id = j.batch_id
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One submission of a job configuration to a risk engine.

    Attributes:
        id: the job's id.
        batch_id: its batch.
        job_configuration_id: its job configuration.
        parent_job_id: the job that it replaced.
        job_key: its key at the engine.
        status: its status.
        skipped: whether its batch does without it.
        created_ts: when it was made.
        submitted_ts: when it was handed over, if it was.
        completed_ts: when it ended, if it has.
        error_message: why it failed.
        work_job_id: the job whose result it has, since their requests are the same.
        recompute: whether the engine must compute it even if a finished job had the same request.
        job_configuration_data: its parameters.
        overridden: whether a person changed the workbook's parameters.
        override_reason: why.
        batch_type: what it does.
        workbook_data: the workbook's parameters, if a person changed them.
        has_request: whether its request is recorded, so that it may be at its engine.
        request_data: what its engine was given; also None if it was not asked for, since it is long.
    """

    id: int
    batch_id: int
    job_configuration_id: int
    parent_job_id: int | None
    job_key: str
    status: JobStatus
    skipped: bool
    created_ts: datetime
    submitted_ts: datetime | None
    completed_ts: datetime | None
    error_message: str | None
    work_job_id: int | None
    recompute: bool
    job_configuration_data: Mapping[str, Any]
    overridden: bool
    override_reason: str | None
    batch_type: str
    workbook_data: Mapping[str, Any] | None = field(metadata=INTERNAL)
    has_request: bool = field(metadata=INTERNAL)
    request_data: Mapping[str, Any] | None = field(default=None, metadata=INTERNAL)

    @property
    def analysis(self) -> str | None:
        """The name of its analysis, if its parameters have one."""
        name = self.job_configuration_data.get("name")
        return None if name is None else str(name)

    @property
    def engine(self) -> str | None:
        """The name of its risk engine, if its parameters have one."""
        name = self.job_configuration_data.get("engine")
        return None if name is None else str(name)


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedJob:
    """What a finished job left.

    Attributes:
        id: the job's id.
        work_key: the engine's key of the job that did the work.
        job_configuration_data: its parameters.
        result_data: what its engine reported, if recorded.
    """

    id: int
    work_key: str
    job_configuration_data: Mapping[str, Any]
    result_data: Mapping[str, Any] | None
