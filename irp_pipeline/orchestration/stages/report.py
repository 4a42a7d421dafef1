"""Report: the results as files in the open standards, and the report of the cycle."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster import AssetCheckSeverity, MetadataValue, OpExecutionContext, graph

from irp_pipeline import store
from irp_pipeline.cycle_files import REPORT, REPORT_PICTURE, REPORT_SUMMARY, RESULTS, report_of
from irp_pipeline.helpers import result, sign_off
from irp_pipeline.helpers.artefact import list_artefacts
from irp_pipeline.helpers.configuration import find_active_configuration
from irp_pipeline.helpers.sign_off import SignOffState
from irp_pipeline.helpers.step import TrackedRun
from irp_pipeline.orchestration.asset_events import Outcome, link_to
from irp_pipeline.orchestration.assets import APPROVAL
from irp_pipeline.orchestration.assets import REPORT as REPORT_ASSET
from irp_pipeline.orchestration.notebooks import ops_of_stage
from irp_pipeline.orchestration.stages.setup import analysis_batch
from irp_pipeline.orchestration.tracking import AssetOfStep, CheckOfStep, CycleOfRun, StageSpec, step
from irp_pipeline.pages.addresses import Addresses

STAGE = StageSpec(6, "Report")

share_out_notebooks, run_notebooks = ops_of_stage(STAGE)
_SIGN_OFF = "sign-off"


def _beside_figures(cycle: CycleOfRun, _: Any) -> dict[str, Any]:
    """The state of the sign-off, if the results wait for it, and what repeated runs say, if there were any."""
    found = {_SIGN_OFF: str(sign_off.find_sign_off(cycle.id).state)} if _waits(cycle) else {}
    repeated = result.repeated_content(cycle.id)
    return found if repeated is None else found | {"repeated runs": repeated}


def _waits(cycle: CycleOfRun) -> bool:
    """Whether the workbook, if there is one yet, lets the results wait for approval."""
    configuration = find_active_configuration(cycle.id)
    return configuration is not None and configuration.workbook().metadata.export_after_approval


@step(stage=STAGE, number=1, after=("monitor.track_jobs", "monitor.group_results"), inputs=_beside_figures)
def export_results(cycle: CycleOfRun, run: TrackedRun, context: OpExecutionContext) -> dict[str, Any]:
    """Write the results as Parquet and CSV, in the terms of OED and ORD.

    If the workbook lets them wait for approval, there are none without it, not even earlier ones. The sensor
    `continue_approved` launches the cycle again when the approval comes.
    """
    waits = _waits(cycle)
    if waits and not (found := sign_off.find_sign_off(cycle.id)).is_approved:
        for key in list_artefacts(cycle.id, RESULTS):
            run.remove_file(key)
        context.log.info(f"The results are not written before they are approved: irp approve {cycle.name}. {found}")
        return {sign_off.HELD: str(found)}
    files = result.exported_files(analysis_batch(cycle).id, run.scratch / RESULTS)
    if waits and not sign_off.find_sign_off(cycle.id).is_approved:
        raise sign_off.SignOffError("The figures changed while they were written into files: launch the cycle again")
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


def _sign_off_outcome(output: Mapping[str, Any]) -> Outcome:
    """Return the outcome: an error if the figures were rejected, a warning if they are not approved."""
    said = output[_SIGN_OFF]
    severities = {SignOffState.APPROVED: None, SignOffState.REJECTED: AssetCheckSeverity.ERROR}
    severity = severities.get(SignOffState(said["state"]), AssetCheckSeverity.WARN)
    return Outcome(severity=severity, description=said["said"], metadata={"state": said["state"]})


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
    check=CheckOfStep(check=APPROVAL, outcome=_sign_off_outcome, applies=lambda output: _SIGN_OFF in output),
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
    found = report.sign_off
    told = found is not None and (found.decision is not None or _waits(cycle))
    about = {_SIGN_OFF: {"state": str(found.state), "said": str(found)}} if found is not None and told else {}
    return {"report": str(cycle.folder / REPORT / page.name), **about}


@graph(name="report")
def report_stage(start: Any) -> Any:
    """The results in files, the report of the cycle, and the notebooks that the workbook names for this stage."""
    done = cycle_report(export_results(start))
    share_out_notebooks(done).map(run_notebooks)
    return done
