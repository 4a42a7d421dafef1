"""The statuses that the database stores, word for word as its check constraints have them."""

from enum import StrEnum


class CycleStatus(StrEnum):
    """A cycle takes new work while it is ACTIVE and is only read once it is ARCHIVED."""

    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"


class StepStatus(StrEnum):
    """The life of one step run: it starts ACTIVE and ends, for good, in one of the other three."""

    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


class ConfigurationStatus(StrEnum):
    """A configuration is NEW until its workbook is read; then ERROR, or VALID; ACTIVE is the one a cycle works with."""

    NEW = "NEW"
    VALID = "VALID"
    ACTIVE = "ACTIVE"
    ERROR = "ERROR"


class BatchStatus(StrEnum):
    """A batch is INITIATED, then ACTIVE while a job of it is under way, then what became of its jobs."""

    INITIATED = "INITIATED"
    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    ERROR = "ERROR"


class BatchType(StrEnum):
    """What the jobs of a batch do."""

    ANALYSIS = "analysis"


class JobStatus(StrEnum):
    """A job is INITIATED, SUBMITTED to a risk engine, then what the engine says of it."""

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
        """Whether a job ends there."""
        return self in _ENDS_OF_JOBS


_ENDS_OF_JOBS = frozenset({JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.ERROR})
