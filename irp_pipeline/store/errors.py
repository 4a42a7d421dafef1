"""The error of this package."""

from irp_pipeline.errors import IrpError


class StoreError(IrpError):
    """The place of the cycles' files cannot be used, or a file in it is missing or is not the recorded one."""
