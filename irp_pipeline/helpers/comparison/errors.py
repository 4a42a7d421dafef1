"""The exception of this package."""

from irp_pipeline.errors import IrpError


class ComparisonError(IrpError):
    """Two cycles, batches or analyses cannot be compared as asked."""
