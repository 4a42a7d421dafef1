"""Sanity of losses: what cannot be right, or should be looked at, in the saved figures of a cycle.

The job that computes a figure checks it against its own run. Here all saved figures are looked at together, before they
are reported: those of analyses and groups, beside what their jobs say about them, and beside the cycle before.

``findings``
    a finding, how bad it is, and the list of checks.
``subjects``
    an analysis or a group with its figures and the facts of its jobs, as records.
``figures``, ``coverage``, ``dates``, ``changes``
    the checks. Pure: no database.
``policies``
    the dates of policies in extracted exposure.
``checking``
    reading the records, and all checks together.
``recorded``
    the findings as the step records them, and reading them again.
"""

from irp_pipeline.helpers.sanity.checking import CheckedLosses, check_losses, checked_content, content_of_figures
from irp_pipeline.helpers.sanity.findings import Check, LossFinding, Severity
from irp_pipeline.helpers.sanity.policies import PolicyDates, policy_dates
from irp_pipeline.helpers.sanity.recorded import RecordedCheck, find_recorded_check, output_of_check

__all__ = [
    "Check",
    "CheckedLosses",
    "LossFinding",
    "PolicyDates",
    "RecordedCheck",
    "Severity",
    "check_losses",
    "checked_content",
    "content_of_figures",
    "find_recorded_check",
    "output_of_check",
    "policy_dates",
]
