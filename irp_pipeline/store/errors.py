"""The errors of this package."""

from irp_pipeline.errors import IrpError


class StoreError(IrpError):
    """The place of the cycles' files cannot be used, or a file in it is missing or is not the recorded one."""


class MissingFileError(StoreError):
    """A file is not in the store, or is not the one by whose hash it is known: what wrote it must write it anew."""
