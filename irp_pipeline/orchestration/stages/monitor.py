"""Monitor: follow jobs until they end, reconcile the batch, group the losses of analyses, and check all losses."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dagster import Config, MetadataValue, OpExecutionContext, graph
from pydantic import Field

from irp_pipeline import store
from irp_pipeline.cycle_files import CURVES, LOSS_FINDINGS, extracts_key
from irp_pipeline.files import write_atomically
from irp_pipeline.helpers.artefact import list_artefacts
from irp_pipeline.helpers.batch import find_current_batch
from irp_pipeline.helpers.batch_content import job_contents
from irp_pipeline.helpers.batch_lookup import chain_of_cycle
from irp_pipeline.helpers.batch_of_jobs import BatchError
from irp_pipeline.helpers.chain import ChainEnd, follow_chain, is_followed
from irp_pipeline.helpers.configuration import active_workbook
from irp_pipeline.helpers.constants import BatchStatus, JobStatus
from irp_pipeline.helpers.cycle import require_open_cycle
from irp_pipeline.helpers.result import CurveFiles, RecordedFigure, compute_results, saved_content
from irp_pipeline.helpers.result.recorded import get_results, recorded_figures
from irp_pipeline.helpers.step import TrackedRun
from irp_pipeline.helpers.wanted import declared_batch_type
from irp_pipeline.losses import DECLARED_METRICS, LossError
from irp_pipeline.orchestration.asset_events import Outcome, link_to
from irp_pipeline.orchestration.assets import LOSSES, SANITY_OF_LOSSES
from irp_pipeline.orchestration.resources import DatabaseResource
from irp_pipeline.orchestration.stages.setup import analysis_batch
from irp_pipeline.orchestration.tracking import AssetOfStep, CheckOfStep, CycleOfRun, StageSpec, step
from irp_pipeline.pages.addresses import Addresses
from irp_pipeline.vocabulary import USUAL_RETURN_PERIODS, Metric, OedTable

if TYPE_CHECKING:
    from irp_pipeline.helpers.sanity import CheckedLosses
    from irp_pipeline.workbook import Workbook

STAGE = StageSpec(5, "Monitor")

_FINDINGS_SHOWN: Final = 50


class TrackingConfig(Config):
    """How long a run waits for its jobs."""

    patience_minutes: float | None = Field(
        default=None,
        ge=0,
        description="How long to wait for jobs under way. Empty: as long as they take. Jobs continue if the run ends "
        "before them; when they have succeeded, the sensor follow_batches continues the cycle.",
    )


def _results(cycle: CycleOfRun) -> dict[str, Any]:
    """The results of the jobs."""
    results: dict[str, Any] = {"results": None}
    for link in chain_of_cycle(cycle.id):
        results["results" if link.is_first else f"results of {link.batch.batch_type}"] = job_contents(link.batch.id)
    return results


def _under_way(cycle: CycleOfRun) -> str | None:
    batches = [link.batch for link in chain_of_cycle(cycle.id)]
    under_way = sum(
        number for batch in batches for status, number in batch.job_counts.items() if not status.is_terminal
    )
    if under_way:
        return f"{under_way} jobs have not ended"
    late = [batch for batch in batches if batch.status is BatchStatus.COMPLETED and not is_followed(batch)]
    return f"what follows the batch {late[0].id} ({late[0].batch_type}) has not been done" if late else None


@step(
    stage=STAGE,
    number=1,
    after=("submit.submit_jobs",),
    records=_results,
    pending=_under_way,
    without_config=("patience_minutes",),
)
def track_jobs(
    cycle: CycleOfRun, context: OpExecutionContext, database: DatabaseResource, config: TrackingConfig
) -> dict[str, Any]:
    """Follow the jobs until they have ended, and reconcile the batches; jobs without losses fail the step.

    When a batch is complete, what its type says is done, and the batches that come after it begin.
    """
    batch_id = analysis_batch(cycle).id
    began, end = time.monotonic(), ChainEnd()
    for progress, is_new in follow_chain(cycle.id, end, everything=database.rerun_completed, tell=context.log.info):
        if is_new:
            context.log.info(progress)
        if config.patience_minutes is not None and time.monotonic() - began > config.patience_minutes * 60:
            under_way = ", ".join(map(str, end.running))
            raise BatchError(
                f"The jobs of batch {under_way} are still under way: {progress}. They go on, and the cycle continues "
                "by itself when they have ended well, if the Dagster daemon runs; else launch it again"
            )
    if end.failed or end.problems:
        raise BatchError("\n".join(_what_went_wrong(end)))
    output: dict[str, Any] = {}
    for link in chain_of_cycle(cycle.id):
        batch, name = link.batch, "" if link.is_first else f"{link.batch.batch_type} "
        output[f"{batch.batch_type} batch"] = batch.id
        output |= {
            f"{name}jobs {status.lower()}": batch.job_counts[status]
            for status in JobStatus
            if status in batch.job_counts
        }
        if (completion := end.completions.get(batch.batch_type)) is not None:
            output[f"{batch.batch_type} completed"] = dict(completion)
    return {"analysis batch": batch_id} | output


def _what_went_wrong(end: ChainEnd) -> Iterator[str]:
    yield from end.failed
    if end.failed:
        yield (
            "Launching the cycle again submits them again. irp job log ID shows what the engine printed, and irp job "
            "skip ID skips a job"
        )
    yield from end.problems
    for batch in end.waiting:
        yield (
            f"The batch {batch.id} of the type {batch.batch_type} has not begun: it waits for the batch of the type "
            f"{declared_batch_type(batch.batch_type).after}"
        )


def _figures(cycle: CycleOfRun) -> dict[str, Any]:
    """The saved figures."""
    batch = find_current_batch(cycle.id)
    return {"figures": None if batch is None else saved_content(batch.id)}


def _declared_metrics(cycle: CycleOfRun, _: Any) -> dict[str, Any]:
    """The metrics that distributions declare, with the version of each distribution; nothing if there are none."""
    metrics = {name: DECLARED_METRICS.version_of(name) for name in DECLARED_METRICS.declared()}
    faults = [fault.message for fault in DECLARED_METRICS.faults()]
    return {"metrics": [metrics, faults]} if metrics or faults else {}


def _main_figures(cycle: CycleOfRun, output: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that people compare: AAL, OEP at the usual return periods, losses at loss factors."""
    recorded = recorded_figures(get_results(analysis_batch(cycle).id))
    return {
        "analyses": output["analyses"],
        "groups": output["groups"],
        "currency": ", ".join(sorted({item.currency for item in recorded})),
        "all figures": link_to(Addresses(cycle.schema).results(cycle.name)),
        **{name: item.figure.loss for item in recorded if (name := _name_of_main(item)) is not None},
    }


def _name_of_main(item: RecordedFigure) -> str | None:
    """The name of a figure that people compare, such as ``property_wind GUL OEP 100 years``; None for another."""
    figure = item.figure
    name = f"{item.analysis_name} {figure.perspective} {figure.metric}"
    if figure.metric == Metric.AAL:
        return name
    if figure.metric == Metric.OEP and figure.return_period in USUAL_RETURN_PERIODS:
        return f"{name} {figure.return_period:.10g} years"
    return f"{name} at factor {figure.loss_factor:.10g}" if figure.metric == Metric.LOSS else None


@step(
    stage=STAGE,
    number=2,
    version=2,
    workbook=("analyses", "groupings"),
    after=("monitor.track_jobs",),
    inputs=_declared_metrics,
    records=_figures,
    asset=AssetOfStep(asset=LOSSES, metadata=_main_figures, content=_figures),
)
def group_results(cycle: CycleOfRun, run: TrackedRun) -> dict[str, Any]:
    """Record the figures of each analysis, and of each group of the workbook by adding up the losses of its members.

    Their whole curves, and how sure the figures are, become files.
    """
    curves = CurveFiles(run.scratch)
    computed = compute_results(analysis_batch(cycle).id, curves)
    if computed.refused:
        computed.save()  # the figures of everything else
        raise LossError("\n".join(computed.refused))
    run.when_complete(computed.save)
    for path in curves.written.values():
        run.add_file(path)
    for key in set(list_artefacts(cycle.id, CURVES)) - curves.written.keys():
        run.remove_file(key)
    return {
        "analyses": computed.summary.analyses,
        "groups": computed.summary.groups,
        "figures": computed.summary.figures,
        "groups left out": dict(computed.summary.left_out),
        "return periods left out": dict(computed.beyond),
        "curves left out": {f"{name}, {of}": reason for (name, of), reason in curves.left_out.items()},
    }


def _checked(cycle: CycleOfRun, _: Any) -> dict[str, Any]:
    """The figures, what their jobs say about them, and the cycle that they are compared with."""
    from irp_pipeline.helpers.sanity import checked_content

    batch = find_current_batch(cycle.id)
    return {} if batch is None else checked_content(require_open_cycle(cycle.name), batch.id)


def _sanity_outcome(output: Mapping[str, Any]) -> Outcome:
    from irp_pipeline.helpers.sanity import LossFinding
    from irp_pipeline.report.summary import findings_table

    findings = [LossFinding.from_json(finding) for finding in output["findings"][:_FINDINGS_SHOWN]]
    counts = {name: output[name] for name in ("errors", "warnings", "notes", "figures checked")}
    table = {"findings": MetadataValue.md("\n".join(findings_table(findings)))} if findings else {}
    compared = {"compared with": output["compared with"] or "no earlier cycle"}
    return Outcome.of_counts(output["errors"], output["warnings"], {**counts, **compared, **table})


@step(
    stage=STAGE,
    number=3,
    workbook=("metadata.largest_change", "metadata.least_covered", "metadata.exposure_date", "analyses", "groupings"),
    after=("extract.extract_exposure", "monitor.group_results"),
    inputs=_checked,
    check=CheckOfStep(check=SANITY_OF_LOSSES, outcome=_sanity_outcome),
)
def check_losses(cycle: CycleOfRun, run: TrackedRun, context: OpExecutionContext) -> dict[str, Any]:
    """Check all saved figures together before they are reported. The file `losses/findings.txt` has the findings.

    Errors do not fail the step: the report is written, shows them, and does not say COMPLETED.
    """
    from irp_pipeline.helpers import sanity

    workbook, _ = active_workbook(cycle.id)
    checked = sanity.check_losses(
        require_open_cycle(cycle.name),
        analysis_batch(cycle).id,
        largest_change=workbook.metadata.largest_change,
        least_covered=workbook.metadata.least_covered,
        dates={name: sanity.policy_dates(path) for name, path in accounts_of_groups(cycle, workbook).items()},
    )
    write_atomically(run.scratch / LOSS_FINDINGS, "".join(f"{finding}\n" for finding in checked.findings))
    run.add_file(run.scratch / LOSS_FINDINGS)
    _say_findings(cycle, checked, context)
    return sanity.output_of_check(checked)


@graph
def monitor(start: Any) -> Any:
    """The jobs followed to their end, their batch reconciled, their losses grouped and checked."""
    return check_losses(group_results(track_jobs(start)))


def accounts_of_groups(cycle: CycleOfRun, workbook: "Workbook") -> dict[str, Path]:
    """Return the extracted account tables of the portfolios whose analyses are in groups, by portfolio.

    Raises:
        ArtefactError: a file is missing on this machine or differs.
    """
    portfolios = dict.fromkeys(
        analysis.portfolio for group in workbook.groupings for analysis in workbook.analyses_in(group.name)
    )
    name = f"{OedTable.ACCOUNT}.parquet"
    extracts = {portfolio: cycle.artefacts(extracts_key(portfolio)) for portfolio in portfolios}
    return {portfolio: files[name] for portfolio, files in extracts.items() if name in files}


def _say_findings(cycle: CycleOfRun, checked: "CheckedLosses", context: OpExecutionContext) -> None:
    """Log the findings, and show them as a table in the metadata of the op."""
    from irp_pipeline.helpers.sanity import Severity
    from irp_pipeline.report.summary import findings_table

    shown = checked.findings[:_FINDINGS_SHOWN]
    if shown:
        context.add_output_metadata({"table of findings": MetadataValue.md("\n".join(findings_table(shown)))})
    for severity, say in ((Severity.ERROR, context.log.error), (Severity.WARNING, context.log.warning)):
        if lines := [str(finding) for finding in shown if finding.severity is severity]:
            path = cycle.folder / LOSS_FINDINGS
            place = store.name_of_path(path) or path
            say("\n".join([f"{checked.count(severity)} findings about the losses, see {place}", *lines]))
