"""The exception of attributions."""

from irp_pipeline.errors import IrpError


class AttributionError(IrpError):
    """The change of losses between two cycles cannot be attributed as asked."""
