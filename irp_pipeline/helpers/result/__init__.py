"""Results: the figures of a batch's analyses and groups, and their files.

The figures of an analysis come from its job; the figures of a group are computed here, from the period losses of its
analyses (:mod:`irp_pipeline.losses`). Works in the schema of :mod:`irp_pipeline.helpers.db_context`.

``errors``, ``finished``
    the exception of this package, and the finished jobs of a batch.
``curves``, ``uncertainty``
    the whole curves of analyses and groups, and how sure their figures are.
``declared``
    the metrics that distributions declare, for single analyses.
``groups``, ``recording``, ``recorded``
    the figures of groups; computing and saving all figures of a batch; reading saved figures.
``what_if``
    what-ifs beside their bases.
``exporting``
    the saved figures and the loss tables as files.
"""

from irp_pipeline.helpers.result.curves import CurveFiles
from irp_pipeline.helpers.result.errors import ResultError
from irp_pipeline.helpers.result.exporting import ExportedFile, export_results, exported_files
from irp_pipeline.helpers.result.finished import JobResult, beyond_its_years, finished_jobs, provenance_content
from irp_pipeline.helpers.result.groups import missing_of_groups, return_periods_left_out
from irp_pipeline.helpers.result.recorded import (
    RecordedFigure,
    analyses_by_means,
    get_results,
    recorded_figures,
    saved_content,
    segment_fields,
)
from irp_pipeline.helpers.result.recording import ComputedResults, SavedResults, compute_results, save_results
from irp_pipeline.helpers.result.repeated import (
    RepeatedFigure,
    SureOf,
    repeated_content,
    repeated_figures,
    save_repeated,
)
from irp_pipeline.helpers.result.uncertainty import Uncertainty, figure_key, recorded_uncertainty
from irp_pipeline.helpers.result.what_if import Difference, WhatIf, what_ifs_of

__all__ = [
    "ComputedResults",
    "CurveFiles",
    "Difference",
    "ExportedFile",
    "JobResult",
    "RecordedFigure",
    "RepeatedFigure",
    "ResultError",
    "SavedResults",
    "SureOf",
    "Uncertainty",
    "WhatIf",
    "analyses_by_means",
    "beyond_its_years",
    "compute_results",
    "export_results",
    "exported_files",
    "figure_key",
    "finished_jobs",
    "get_results",
    "missing_of_groups",
    "provenance_content",
    "recorded_figures",
    "recorded_uncertainty",
    "repeated_content",
    "repeated_figures",
    "return_periods_left_out",
    "save_repeated",
    "save_results",
    "saved_content",
    "segment_fields",
    "what_ifs_of",
]
