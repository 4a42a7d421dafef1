"""Report: the results as files in the open standards, and the report of the cycle."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster import MetadataValue, OpExecutionContext, graph

from irp_pipeline import store
from irp_pipeline.cycle_files import REPORT, REPORT_PICTURE, REPORT_SUMMARY, RESULTS, report_of
from irp_pipeline.helpers import result
from irp_pipeline.helpers.artefact import list_artefacts
from irp_pipeline.helpers.step import TrackedRun
from irp_pipeline.orchestration.asset_events import link_to
from irp_pipeline.orchestration.assets import REPORT as REPORT_ASSET
from irp_pipeline.orchestration.stages.setup import analysis_batch
from irp_pipeline.orchestration.tracking import AssetOfStep, CycleOfRun, StageSpec, step
from irp_pipeline.pages.addresses import Addresses

STAGE = StageSpec(6, "Report")


@step(stage=STAGE, number=1, after=("monitor.track_jobs", "monitor.group_results"))
def export_results(cycle: CycleOfRun, run: TrackedRun) -> dict[str, Any]:
    """Write the results as Parquet and CSV, in the terms of OED and ORD."""
    files = result.exported_files(analysis_batch(cycle).id, run.scratch / RESULTS)
    keys = [run.add_file(file.path, content=file.content, sha256=file.sha256).key for file in files]
    for key in set(list_artefacts(cycle.id, RESULTS)) - set(keys):
        run.remove_file(key)
    return {"folder": str(cycle.folder / RESULTS), "files": [file.path.name for file in files]}


def _content(cycle: CycleOfRun, _: Any) -> dict[str, Any]:
    """The content that the report would have now."""
    from irp_pipeline.report import collect

    return {"content of the report": collect(cycle.name).content()}


def _summary(files: Mapping[str, Path]) -> str:
    """Return the summary of a report, as Markdown. The files are by name."""
    return files[REPORT_SUMMARY].read_text(encoding="utf-8")


def _picture(files: Mapping[str, Path]) -> str | None:
    """Return the chart of a report, as Markdown; None if it has none. The files are by name."""
    if REPORT_PICTURE not in files:
        return None
    picture = base64.b64encode(files[REPORT_PICTURE].read_bytes()).decode()
    return f"![Exceedance-probability curves](data:image/png;base64,{picture})\n"


def _shown_report(cycle: CycleOfRun, _: Mapping[str, Any]) -> dict[str, MetadataValue[Any]]:
    """Return the summary of the report, its chart, and where its page is.

    The link opens the report beside the UI. The chart is apart: the UI shows short Markdown at once, and
    long Markdown only when it is asked for.
    """
    files = cycle.artefacts(REPORT)
    picture = _picture(files)
    page = report_of(cycle.folder)
    address = store.name_of_path(page)
    return {
        "summary": MetadataValue.md(_summary(files)),
        **({} if picture is None else {"EP curves": MetadataValue.md(picture)}),
        "page": link_to(Addresses(cycle.schema).report(cycle.name)),
        "report": MetadataValue.path(str(page)) if address is None else MetadataValue.url(address),
    }


@step(
    stage=STAGE,
    number=2,
    after=(
        "extract.control_totals",
        "process.validate_exposure",
        "process.profile_exposure",
        "report.export_results",
    ),
    inputs=_content,
    asset=AssetOfStep(asset=REPORT_ASSET, metadata=_shown_report),
)
def cycle_report(cycle: CycleOfRun, run: TrackedRun, context: OpExecutionContext) -> dict[str, Any]:
    """Write the report of the cycle: a page, its chart as a picture, and a summary, which is shown here."""
    from irp_pipeline.report import collect, write

    report = collect(cycle.name)
    page = write(report, run.scratch / REPORT)
    files = {file.name: file for file in sorted(page.parent.iterdir())}
    if REPORT_PICTURE not in files:
        run.remove_file(f"{REPORT}/{REPORT_PICTURE}")
    for file in files.values():
        run.add_file(file, content=report.content())
    shown = [_summary(files), _picture(files)]
    context.add_output_metadata({"summary": MetadataValue.md("\n\n".join(filter(None, shown)))})
    return {"report": str(cycle.folder / REPORT / page.name)}


@graph(name="report")
def report_stage(start: Any) -> Any:
    """The results in files, and the report of the cycle."""
    return cycle_report(export_results(start))
