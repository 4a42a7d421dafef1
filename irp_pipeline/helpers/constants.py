"""The statuses that the database stores, spelled as in its check constraints."""

from enum import StrEnum


class CycleStatus(StrEnum):
    """A cycle takes new work while it is ACTIVE; once ARCHIVED, it is read-only."""

    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"


class StepStatus(StrEnum):
    """The life of a step run: it starts ACTIVE and ends in one of the other three, which are final."""

    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


class ConfigurationStatus(StrEnum):
    """A configuration is NEW until its workbook is read, then ERROR or VALID; the one that a cycle uses is ACTIVE."""

    NEW = "NEW"
    VALID = "VALID"
    ACTIVE = "ACTIVE"
    ERROR = "ERROR"


class BatchStatus(StrEnum):
    """A batch is INITIATED, then ACTIVE while one of its jobs is under way, then has the outcome of its jobs."""

    INITIATED = "INITIATED"
    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    ERROR = "ERROR"


class BatchType(StrEnum):
    """What the jobs of a batch do."""

    ANALYSIS = "analysis"
    ATTRIBUTION = "attribution"
    REPEATS = "repeats"


class JobStatus(StrEnum):
    """A job is INITIATED, SUBMITTED to a risk engine, then has the status that the engine reports."""

    INITIATED = "INITIATED"
    SUBMITTED = "SUBMITTED"
    QUEUED = "QUEUED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"
    ERROR = "ERROR"

    @property
    def is_terminal(self) -> bool:
        """Whether a job with this status has ended."""
        return self in _ENDS_OF_JOBS


_ENDS_OF_JOBS = frozenset({JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.ERROR})
