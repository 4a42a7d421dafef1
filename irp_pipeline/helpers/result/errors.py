"""Errors about results: the one exception of this package."""

from irp_pipeline.errors import IrpError


class ResultError(IrpError):
    """The results of a batch cannot be saved or exported as asked."""
