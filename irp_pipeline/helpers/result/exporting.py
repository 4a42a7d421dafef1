"""Exporting: the saved figures of a batch, and the loss tables of its jobs, as files.

Here: which files there are, their columns and how each is written. Not here: the folder, which the caller chooses, and
computing anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irp_pipeline.files import appearing_when_whole, link_or_copy, write_atomically
from irp_pipeline.helpers.result.errors import ResultError
from irp_pipeline.helpers.result.finished import JobResult, existing_file, finished_jobs, provenance_content
from irp_pipeline.helpers.result.recorded import get_results, saved_content
from irp_pipeline.losses.segments import joined
from irp_pipeline.vocabulary import Metric

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# Numbers of the Open Results Data standard. By samples: full uncertainty, and the average of samples. By means: both 1.
_EP_CALC = {"samples": 2, "means": 1}
_SAMPLE_TYPE = {"samples": 2, "means": 1}
_EP_TYPES = {Metric.OEP.value: 1, Metric.AEP.value: 3}
_AVERAGES = {Metric.AAL.value: "MeanLoss", Metric.STD_DEV.value: "SDLoss"}
_SUMMARY = 1


@dataclass(frozen=True)
class ExportedFile:
    """A file that :func:`exported_files` wrote.

    Attributes:
        path: the file.
        content: plain data that represents its content; None for the cells of a table.
        sha256: of its bytes, if known.
    """

    path: Path
    content: Any = field(default=None, repr=False)
    sha256: str | None = None


def export_results(batch_id: int, folder: Path) -> list[Path]:
    """Write the saved figures of a batch, and the loss tables of its jobs, into a folder.

    Parquet and CSV: ``results`` (all figures; ``segment_by`` and ``segment`` name the OED fields of a segment and their
    values, joined by ``+``, and are empty for the whole), ``ept`` and ``palt`` (exceedance curves and averages of whole
    portfolios, with the columns of the Open Results Data standard), ``location_losses`` (deterministic losses by
    location and loss factor). JSON:
    ``provenance``. In ``analyses/<name>``: the period and event losses of each job, as links to the job's files if the
    file system allows, else as copies. No file is ever seen incomplete.

    Args:
        batch_id: a batch whose results are saved.
        folder: the target; made if it is missing. Files of the same names are replaced.

    Returns:
        The files.

    Raises:
        ResultError: no results are saved for the batch, or only those of earlier jobs; a file of a job is missing or
            has changed.
        DatabaseError: the database refuses or is away.
    """
    return [file.path for file in exported_files(batch_id, folder)]


def exported_files(batch_id: int, folder: Path) -> list[ExportedFile]:
    """Write the files of :func:`export_results`, and return each with its content."""
    results = get_results(batch_id, segments=True)
    jobs = finished_jobs(batch_id)
    if results.empty:
        raise ResultError(f"No results of the batch {batch_id} are saved: save_results first")
    if not {job_id for ids in results["job_ids"] for job_id in ids} <= {job.job_id for job in jobs}:
        raise ResultError(f"Jobs of the batch {batch_id} changed after its results were saved: save_results again")
    written: list[ExportedFile] = []
    for name, table in _exported_tables(results, jobs):
        # The ids of the jobs are beside the figures, but are not part of them.
        content = saved_content(batch_id) if name == "results" else None
        parquet, as_text = _write_parquet(table, folder / f"{name}.parquet"), _write_csv(table, folder / f"{name}.csv")
        written += [ExportedFile(parquet, content), ExportedFile(as_text, content)]
    provenance = folder / "provenance.json"
    write_atomically(provenance, json.dumps({job.name: _provenance(job) for job in jobs}, indent=2) + "\n")
    written.append(ExportedFile(provenance, {job.name: provenance_content(job.provenance) for job in jobs}))
    for job in jobs:
        for name, file in job.files.items():
            if "plt" in name.split("_") or "elt" in name.split("_"):
                target = folder / "analyses" / job.name / file.path.name
                written.append(ExportedFile(_link_or_copy(existing_file(job, name), target), file.sha256, file.sha256))
    return written


def _provenance(job: JobResult) -> dict[str, Any]:
    return {"job_id": job.job_id, "job_key": job.job_key, "currency": job.currency, **job.provenance}


def _exported_tables(results: pd.DataFrame, jobs: Sequence[JobResult]) -> Iterator[tuple[str, pa.Table]]:
    import pyarrow as pa

    flat = results.assign(
        job_ids=[" ".join(map(str, ids)) for ids in results["job_ids"]],
        **{name: results[name].map(joined) for name in ("segment_by", "segment")},
    )
    yield "results", pa.Table.from_pandas(flat, preserve_index=False)
    flat = flat[flat["segment_by"] == ""]
    stated = {"analysis_name": "Analysis", "is_group": "IsGroup", "perspective": "Perspective", "currency": "Currency"}
    curves = flat[flat["metric"].isin(list(_EP_TYPES))].rename(
        columns={**stated, "return_period": "ReturnPeriod", "loss": "Loss"}
    )
    by = {job.name: str(job.provenance.get("losses_by", "samples")) for job in jobs}

    def losses_by(names: pd.Series[Any]) -> pd.Series[Any]:
        return names.map(by).fillna("samples")  # a group is computed from sampled losses

    curves = curves.assign(
        SummaryId=_SUMMARY,
        EPCalc=losses_by(curves["Analysis"]).map(_EP_CALC).astype("int64"),
        EPType=curves["metric"].map(_EP_TYPES),
    )
    columns = [*stated.values(), "SummaryId", "EPCalc", "EPType", "ReturnPeriod", "Loss"]
    yield "ept", pa.Table.from_pandas(curves[columns], preserve_index=False)
    averages = flat[flat["metric"].isin(list(_AVERAGES))].rename(columns=stated)
    wide = averages.pivot(index=list(stated.values()), columns="metric", values="loss")
    wide = wide.reindex(columns=list(_AVERAGES)).set_axis(list(_AVERAGES.values()), axis=1).reset_index()
    wide = wide.assign(SummaryId=_SUMMARY, SampleType=losses_by(wide["Analysis"]).map(_SAMPLE_TYPE).astype("int64"))
    columns = [*stated.values(), "SummaryId", "SampleType", *_AVERAGES.values()]
    yield "palt", pa.Table.from_pandas(wide[columns], preserve_index=False)
    if by_location := [_location_losses(job) for job in jobs if "losses" in job.files]:
        yield "location_losses", pa.concat_tables(by_location, promote_options="permissive")


def _location_losses(job: JobResult) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        losses = pq.read_table(existing_file(job, "losses"))
    except pa.ArrowInvalid as error:
        raise ResultError(f"The losses of job {job.job_id} of {job.name} cannot be read: {error}") from error
    for position, name, value in ((0, "Analysis", job.name), (1, "Currency", job.currency)):
        if name not in losses.column_names:
            losses = losses.add_column(position, name, pa.array([value] * losses.num_rows, pa.string()))
    return losses


def _write_parquet(table: pa.Table, path: Path) -> Path:
    import pyarrow.parquet as pq

    with appearing_when_whole(path) as partial:
        pq.write_table(table, partial)
    return path


def _write_csv(table: pa.Table, path: Path) -> Path:
    import pyarrow.csv as pc

    with appearing_when_whole(path) as partial:
        pc.write_csv(table, partial)
    return path


def _link_or_copy(source: Path, target: Path) -> Path:
    if target.exists() and target.samefile(source):
        return target
    with appearing_when_whole(target) as partial:
        partial.unlink()
        link_or_copy(source, partial)
    return target
