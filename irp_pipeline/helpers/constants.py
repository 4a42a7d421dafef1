"""The statuses that the database stores, spelled as in its check constraints."""

from enum import StrEnum


class _Status(StrEnum):
    """The statuses of one kind of record."""

    @classmethod
    def all(cls) -> list[str]:
        """Return all of them, as text."""
        return [str(status) for status in cls]


class CycleStatus(_Status):
    """A cycle takes new work while it is ACTIVE; once ARCHIVED, it is read-only."""

    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"


class StepStatus(_Status):
    """The life of a step run: it starts ACTIVE and ends in one of the other three, which are final."""

    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"

    @classmethod
    def terminal(cls) -> list[str]:
        """Return those that are final, as text."""
        return [str(status) for status in cls if status is not cls.ACTIVE]


class ConfigurationStatus(_Status):
    """A configuration is NEW until its workbook is read, then ERROR or VALID; the one that a cycle uses is ACTIVE."""

    NEW = "NEW"
    VALID = "VALID"
    ACTIVE = "ACTIVE"
    ERROR = "ERROR"


class BatchStatus(_Status):
    """A batch is INITIATED, then ACTIVE while one of its jobs is under way, then has the outcome of its jobs."""

    INITIATED = "INITIATED"
    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    ERROR = "ERROR"

    @classmethod
    def terminal(cls) -> list[str]:
        """Return those of a batch that has ended, as text."""
        return [str(status) for status in cls if status not in {cls.INITIATED, cls.ACTIVE}]


class BatchType(StrEnum):
    """What the jobs of a batch do."""

    ANALYSIS = "analysis"
    ATTRIBUTION = "attribution"
    REPEATS = "repeats"


class JobStatus(_Status):
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

    @classmethod
    def terminal(cls) -> list[str]:
        """Return those of a job that has ended, as text."""
        return [str(status) for status in cls if status.is_terminal]

    @property
    def is_terminal(self) -> bool:
        """Whether a job with this status has ended."""
        return self in _ENDS_OF_JOBS


_ENDS_OF_JOBS = frozenset({JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.ERROR})
