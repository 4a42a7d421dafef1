"""The exception of attributions."""

from irp_pipeline.helpers.reruns import RerunError


class AttributionError(RerunError):
    """The change of losses between two cycles cannot be attributed as asked."""
