"""The exception of reruns."""

from irp_pipeline.errors import IrpError


class RerunError(IrpError):
    """What a cycle ran cannot be run again as asked."""
