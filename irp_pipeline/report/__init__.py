"""The report of a cycle: one page that says what was computed, from what, and whether it is complete.

No Dagster here: the report is made of the records, at any time. Rendering knows nothing of the database.

``records``
    what a report says, collected from the database.
``charts``
    exceedance curves: as an interactive chart for the page and as a picture.
``page``, ``summary``
    the HTML page, and the same in short as Markdown; ``display`` says how values are shown in both.
"""

from irp_pipeline.report.page import write, write_report
from irp_pipeline.report.records import Report, ReportError, State, collect

__all__ = ["Report", "ReportError", "State", "collect", "write", "write_report"]
