"""Process: the extracted exposure, checked against the OED standard and written as a model reads it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import OpExecutionContext, graph

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.portfolio import exposure_hash, portfolio_file, portfolio_folder
from irp_pipeline.files import appearing_when_whole, write_atomically
from irp_pipeline.helpers.configuration import active_workbook
from irp_pipeline.helpers.step import StepRun
from irp_pipeline.orchestration.stages.extract import extracted_tables, extracts_key
from irp_pipeline.orchestration.tracking import Cycle, Stage, step

if TYPE_CHECKING:
    from irp_pipeline.helpers.workbook import Analysis, Workbook

STAGE = Stage(3, "Process")

_FINDINGS_SHOWN = 20


@step(
    stage=STAGE,
    number=1,
    workbook=("metadata.currency", "portfolios", "analyses"),
    after=("extract.extract_exposure",),
)
def validate_exposure(cycle: Cycle, run: StepRun, context: OpExecutionContext) -> dict[str, Any]:
    """Check each portfolio against OED; errors fail the step, all of them are in ``findings.txt`` of the extract."""
    from irp_pipeline.exposure.findings import Severity
    from irp_pipeline.exposure.validate import validate

    workbook, _ = active_workbook(cycle.id)
    figures: dict[str, Any] = {}
    errors: list[str] = []
    for portfolio in workbook.portfolios:
        findings = validate(
            extracted_tables(cycle, portfolio.name),
            perspectives=_perspectives(workbook, portfolio.name),
            currency=_currency(workbook, portfolio.name),
        )
        key = f"{extracts_key(portfolio.name)}/findings.txt"
        of_errors = [finding for finding in findings if finding.severity is Severity.ERROR]
        text = "".join(f"{finding}\n" for finding in findings)
        if of_errors:  # a failed run publishes nothing, and people need them all
            write_atomically(cycle.folder / key, text)
        else:
            write_atomically(run.scratch / key, text)
            run.add_file(run.scratch / key)
        errors += [f"{portfolio.name}: {finding}" for finding in of_errors]
        figures[f"{portfolio.name} errors"] = len(of_errors)
        figures[f"{portfolio.name} warnings"] = len(findings) - len(of_errors)
        if findings:
            context.log.warning(f"{portfolio.name}: {len(findings)} findings, see {cycle.folder / key}")
    if errors:
        shown = errors[:_FINDINGS_SHOWN]
        more = f"\n… and {len(errors) - len(shown)} more, in findings.txt" if len(errors) > len(shown) else ""
        raise ExposureError("The exposure is not valid OED:\n" + "\n".join(shown) + more)
    return figures


@step(stage=STAGE, number=2, workbook=("portfolios",), after=("extract.extract_exposure",))
def build_portfolios(cycle: Cycle, run: StepRun) -> dict[str, Any]:
    """Write the OED files of each portfolio as a model reads them, and record what they hold."""
    workbook, _ = active_workbook(cycle.id)
    figures: dict[str, Any] = {}
    for portfolio in workbook.portfolios:
        folder = portfolio_folder(cycle.folder, portfolio.name)
        extracts = extracted_tables(cycle, portfolio.name)
        built: list[Path] = []
        for table in OedTable:
            target = portfolio_file(folder, table)
            if table not in extracts:
                run.remove_file(target.relative_to(cycle.folder).as_posix())
                continue
            built.append(run.scratch / target.relative_to(cycle.folder))
            figures[f"{portfolio.name} {table} records"] = _write_csv(extracts[table], built[-1])
        files = [run.add_file(path) for path in built]
        figures[f"{portfolio.name} exposure hash"] = exposure_hash(
            {path.stem: file.sha256 for path, file in zip(built, files, strict=True)}
        )
        figures[f"{portfolio.name} folder"] = str(folder)
    return figures


@graph
def process(start: Any) -> Any:
    """The extracted exposure, checked against the OED standard and written as a model reads it."""
    return build_portfolios(validate_exposure(start))


def _analyses_of(workbook: "Workbook", portfolio: str) -> "list[Analysis]":
    return [analysis for analysis in workbook.analyses if analysis.portfolio.casefold() == portfolio.casefold()]


def _perspectives(workbook: "Workbook", portfolio: str) -> set[str]:
    analyses = _analyses_of(workbook, portfolio)
    return {str(perspective) for analysis in analyses for perspective in analysis.perspectives} or {"GUL"}


def _currency(workbook: "Workbook", portfolio: str) -> str | None:
    """The currency that all amounts of a portfolio must be in; None if each of its analyses converts them."""
    currency = workbook.metadata.currency
    converts = [
        analysis.model_options.get("reporting_currency") == currency for analysis in _analyses_of(workbook, portfolio)
    ]
    return None if converts and all(converts) else currency


def _write_csv(extract: Path, target: Path) -> int:
    """Write a Parquet file as CSV in bounded memory; return how many records it has."""
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    records = 0
    with (
        pq.ParquetFile(extract) as source,
        appearing_when_whole(target) as partial,
        pc.CSVWriter(partial, source.schema_arrow) as writer,
    ):
        for batch in source.iter_batches():
            writer.write_batch(batch)
            records += batch.num_rows
    return records
