"""The exception of this package."""

from irp_pipeline.errors import IrpError


class DisplayError(IrpError):
    """There is nothing to show; the message says why and what to do."""
