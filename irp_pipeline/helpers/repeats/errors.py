"""The exception of repeated runs."""

from irp_pipeline.helpers.reruns import RerunError


class RepeatError(RerunError):
    """Analyses cannot be run again with other draws as asked."""
