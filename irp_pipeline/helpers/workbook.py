"""The configuration workbook under the name that it had: all of it is in :mod:`irp_pipeline.workbook`."""

from irp_pipeline.workbook import *  # noqa: F403 - whatever is public there
from irp_pipeline.workbook import __all__ as __all__
