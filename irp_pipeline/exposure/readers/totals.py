"""Taking the control totals of a source of locations, or of an extract."""

from pathlib import Path

from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.opening import open_source
from irp_pipeline.exposure.readers.sources import FileSource, Source
from irp_pipeline.exposure.totals.control_total import ControlTotals


def source_totals(source: Source) -> ControlTotals:
    """Take the control totals of a source of locations, as it is now.

    Raises:
        ExposureError: the source cannot be read.
    """
    with open_source(source, OedTable.LOCATION) as reader:
        return reader.totals()


def extract_totals(path: Path) -> ControlTotals:
    """Take the control totals of an extracted location table; memory grows by about a hundred bytes per location.

    Raises:
        ExposureError: the file is missing or unreadable.
    """
    return source_totals(FileSource(path))
