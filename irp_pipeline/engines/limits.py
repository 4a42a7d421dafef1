"""What a job may use."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a job may use.

    Attributes:
        seconds: how long it may run.
        disk_bytes: how large its folder may become.
        memory_bytes: how much memory its processes may use together; None means no limit.
    """

    seconds: float
    disk_bytes: float
    memory_bytes: float | None = None
