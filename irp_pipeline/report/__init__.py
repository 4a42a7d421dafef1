"""The report of a cycle: one page that says what was computed, from what, and whether it is complete.

No Dagster here: the report is made of the records, at any time. Rendering knows nothing of the database.

``records``, ``collecting``
    what a report says, and collecting it from the database.
``completeness``, ``notes``
    whether it is all, and what a reader should know besides.
``charts``
    exceedance curves: as an interactive chart for the page and as a picture.
``page``, ``summary``
    the HTML page, and the same in short as Markdown; ``display`` says how values are shown in both.
"""

from irp_pipeline.report.collecting import collect
from irp_pipeline.report.page import update, write, write_report
from irp_pipeline.report.records import Report, ReportError, State

__all__ = ["Report", "ReportError", "State", "collect", "update", "write", "write_report"]
