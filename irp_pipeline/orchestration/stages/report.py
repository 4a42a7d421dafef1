"""Report: the results as files in the open standards, and the report of the cycle."""

import base64
from typing import Any

from dagster import MetadataValue, OpExecutionContext, graph

from irp_pipeline.cycle_files import REPORT, REPORT_PICTURE, REPORT_SUMMARY, RESULTS
from irp_pipeline.helpers import result
from irp_pipeline.helpers.artefact import list_artefacts
from irp_pipeline.helpers.step import TrackedRun
from irp_pipeline.orchestration.stages.setup import analysis_batch
from irp_pipeline.orchestration.tracking import CycleOfRun, StageSpec, step

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
)
def cycle_report(cycle: CycleOfRun, run: TrackedRun, context: OpExecutionContext) -> dict[str, Any]:
    """Write the report of the cycle: a page, its chart as a picture, and a summary, which is shown here."""
    from irp_pipeline.report import collect, write

    report = collect(cycle.name)
    page = write(report, run.scratch / REPORT)
    summary = page.with_name(REPORT_SUMMARY).read_text(encoding="utf-8")
    chart = page.with_name(REPORT_PICTURE)
    if chart.is_file():
        picture = base64.b64encode(chart.read_bytes()).decode()
        summary += f"\n\n![Exceedance-probability curves](data:image/png;base64,{picture})\n"
    else:
        run.remove_file(f"{REPORT}/{chart.name}")
    for file in sorted(page.parent.iterdir()):
        run.add_file(file, content=report.content())
    context.add_output_metadata({"summary": MetadataValue.md(summary)})
    return {"report": str(cycle.folder / REPORT / page.name)}


@graph(name="report")
def report_stage(start: Any) -> Any:
    """The results in files, and the report of the cycle."""
    return cycle_report(export_results(start))
