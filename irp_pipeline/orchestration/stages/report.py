"""Report: the results in files of the open standards, and the report of the cycle."""

import base64
from typing import Any

from dagster import MetadataValue, OpExecutionContext, graph

from irp_pipeline.helpers import result
from irp_pipeline.orchestration.stages.setup import analysis_batch
from irp_pipeline.orchestration.tracking import Cycle, Stage, step

STAGE = Stage(6, "Report")


@step(stage=STAGE, number=1)
def export_results(cycle: Cycle) -> dict[str, Any]:
    """Write the results as Parquet and CSV, in the terms of OED and ORD."""
    folder = cycle.folder / "results"
    files = result.export_results(analysis_batch(cycle)["id"], folder)
    return {"folder": str(folder), "files": [file.name for file in files]}


@step(stage=STAGE, number=2)
def cycle_report(cycle: Cycle, context: OpExecutionContext) -> dict[str, Any]:
    """Write the report of the cycle: a page, its chart as a picture, and a summary, which is shown here."""
    from irp_pipeline.report import write_report

    report = write_report(cycle.name, cycle.folder / "report")
    summary = report.with_name("report.md").read_text(encoding="utf-8")
    chart = report.with_name("ep_curves.png")
    if chart.is_file():
        picture = base64.b64encode(chart.read_bytes()).decode()
        summary += f"\n\n![Exceedance-probability curves](data:image/png;base64,{picture})\n"
    context.add_output_metadata({"summary": MetadataValue.md(summary)})
    return {"report": str(report)}


@graph(name="report")
def report_stage(start: Any) -> Any:
    """The results in files, and the report of the cycle."""
    return cycle_report(export_results(start))
