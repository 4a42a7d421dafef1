"""The configuration workbook under its old name: all of it is now in :mod:`irp_pipeline.workbook`."""

from irp_pipeline.workbook import *  # noqa: F403 - everything public
from irp_pipeline.workbook import __all__ as __all__
