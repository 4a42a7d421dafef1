"""Results: the figures of a batch's analyses and groups, and their files.

The figures of an analysis come from its job; the figures of a group are computed here, from the period losses of its
analyses (:mod:`irp_pipeline.losses`). Works in the schema of :mod:`irp_pipeline.helpers.db_context`.

``errors``, ``finished``
    the exception of this package, and the finished jobs of a batch.
``declared``
    the metrics that distributions declare, for single analyses.
``groups``, ``recording``, ``recorded``
    the figures of groups; computing and saving all figures of a batch; reading saved figures.
``exporting``
    the saved figures and the loss tables as files.
"""

from irp_pipeline.helpers.result.errors import ResultError
from irp_pipeline.helpers.result.exporting import ExportedFile, export_results, exported_files
from irp_pipeline.helpers.result.finished import JobResult, finished_jobs, provenance_content
from irp_pipeline.helpers.result.groups import missing_of_groups
from irp_pipeline.helpers.result.recorded import (
    RecordedFigure,
    analyses_by_means,
    get_results,
    recorded_figures,
    saved_content,
    segment_fields,
)
from irp_pipeline.helpers.result.recording import ComputedResults, SavedResults, compute_results, save_results

__all__ = [
    "ComputedResults",
    "ExportedFile",
    "JobResult",
    "RecordedFigure",
    "ResultError",
    "SavedResults",
    "analyses_by_means",
    "compute_results",
    "export_results",
    "exported_files",
    "finished_jobs",
    "get_results",
    "missing_of_groups",
    "provenance_content",
    "recorded_figures",
    "save_results",
    "saved_content",
    "segment_fields",
]
