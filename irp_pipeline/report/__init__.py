"""The report of a cycle: one page that says what was computed, from what, and whether it is complete.

No Dagster here: the report can be made from the records at any time. Rendering does not use the database.

``records``, ``collecting``
    the content of a report, and collecting it from the database.
``completeness``, ``notes``
    whether it is complete, and what else a reader should know.
``brief``
    the head of the page: how much, of what, how sure, what changed and why.
``segments``, ``segment_records``
    the figures of parts of the portfolio: where the losses come from.
``losses``
    what the check of the saved figures found.
``charts``
    exceedance curves: as an interactive chart for the page and as a picture.
``comparison``, ``comparison_chart``
    what changed since the cycle before, and the curves of both.
``page``, ``summary``
    the HTML page, and a short version as Markdown; ``display`` formats values for both.
"""

from irp_pipeline.report.collecting import collect
from irp_pipeline.report.page import update, write, write_report
from irp_pipeline.report.records import Report, ReportError, State

__all__ = ["Report", "ReportError", "State", "collect", "update", "write", "write_report"]
