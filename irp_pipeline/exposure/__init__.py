"""Exposure in the Open Exposure Data (OED) format: extract it, add it up, check it.

:mod:`~irp_pipeline.exposure.extract` copies an OED table from a file or from a query on any database to
Parquet; :mod:`~irp_pipeline.exposure.totals` compares the source with the extract;
:mod:`~irp_pipeline.exposure.validate` says what is wrong with the data. Plain Python: nothing here uses
Dagster or the ``irp_*`` tables, and importing the package loads neither pandas nor pyarrow.
"""

from irp_pipeline.errors import IrpError


class ExposureError(IrpError):
    """An exposure cannot be read; the message gives the place of the fault: source, row and column."""
