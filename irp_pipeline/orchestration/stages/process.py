"""Process: the extracted exposure, checked against the OED standard and written as a model reads it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import OpExecutionContext, graph

from irp_pipeline import engines
from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.needs import Needs
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.portfolio import exposure_hash, portfolio_file, portfolio_folder
from irp_pipeline.files import appearing_when_whole, write_atomically
from irp_pipeline.helpers.configuration import active_workbook
from irp_pipeline.orchestration.stages.extract import extracts_folder
from irp_pipeline.orchestration.tracking import Cycle, Stage, step
from irp_pipeline.settings import models_folder

if TYPE_CHECKING:
    from irp_pipeline.helpers.workbook import Analysis, Workbook

STAGE = Stage(3, "Process")

_FINDINGS_SHOWN = 20


@step(stage=STAGE, number=1)
def validate_exposure(cycle: Cycle, context: OpExecutionContext) -> dict[str, Any]:
    """Check each portfolio against OED; errors fail the step, all of them are in ``findings.txt`` of the extract."""
    from irp_pipeline.exposure.findings import Severity
    from irp_pipeline.exposure.validate import validate

    workbook, folder = active_workbook(cycle.id)
    figures: dict[str, Any] = {}
    errors: list[str] = []
    for portfolio in workbook.portfolios:
        findings = validate(
            _extracts(cycle, portfolio.name),
            needs=needs_of_portfolio(workbook, portfolio.name, folder),
            currency=_currency(workbook, portfolio.name),
        )
        report = extracts_folder(cycle, portfolio.name) / "findings.txt"
        write_atomically(report, "".join(f"{finding}\n" for finding in findings))
        of_errors = [finding for finding in findings if finding.severity is Severity.ERROR]
        errors += [f"{portfolio.name}: {finding}" for finding in of_errors]
        figures[f"{portfolio.name} errors"] = len(of_errors)
        figures[f"{portfolio.name} warnings"] = sum(finding.severity is Severity.WARNING for finding in findings)
        if findings:
            context.log.warning(f"{portfolio.name}: {len(findings)} findings, see {report}")
    if errors:
        shown = errors[:_FINDINGS_SHOWN]
        more = f"\n… and {len(errors) - len(shown)} more, in findings.txt" if len(errors) > len(shown) else ""
        raise ExposureError("The exposure is not valid OED:\n" + "\n".join(shown) + more)
    return figures


@step(stage=STAGE, number=2)
def build_portfolios(cycle: Cycle) -> dict[str, Any]:
    """Write the OED files of each portfolio as a model reads them, and record what they hold."""
    workbook, _ = active_workbook(cycle.id)
    figures: dict[str, Any] = {}
    for portfolio in workbook.portfolios:
        folder = portfolio_folder(cycle.folder, portfolio.name)
        extracts = _extracts(cycle, portfolio.name)
        for table in OedTable:
            target = portfolio_file(folder, table)
            if table not in extracts:
                target.unlink(missing_ok=True)
                continue
            figures[f"{portfolio.name} {table} records"] = _write_csv(extracts[table], target)
        figures[f"{portfolio.name} exposure hash"] = exposure_hash(folder)
        figures[f"{portfolio.name} folder"] = str(folder)
    return figures


@graph
def process(start: Any) -> Any:
    """The extracted exposure, checked against the OED standard and written as a model reads it."""
    return build_portfolios(validate_exposure(start))


def _extracts(cycle: Cycle, portfolio: str) -> dict[OedTable, Path]:
    folder = extracts_folder(cycle, portfolio)
    found = {table: folder / f"{table}.parquet" for table in OedTable if (folder / f"{table}.parquet").is_file()}
    if OedTable.LOCATION not in found:
        raise ExposureError(f"The portfolio {portfolio} has not been extracted: run extract_exposure first")
    return found


def _analyses_of(workbook: "Workbook", portfolio: str) -> "list[Analysis]":
    return [analysis for analysis in workbook.analyses if analysis.portfolio.casefold() == portfolio.casefold()]


def needs_of_portfolio(workbook: "Workbook", portfolio: str, data_folder: Path) -> Needs:
    """Ask the engines of a portfolio's analyses what these need of it."""
    from irp_pipeline.helpers.workbook import resolve_model

    needed = Needs()
    for analysis in _analyses_of(workbook, portfolio):
        model = resolve_model(analysis.model, data_folder, models_folder()) if analysis.model else None
        needed |= engines.needs(analysis.model_dump(mode="json"), model)
    return needed


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
