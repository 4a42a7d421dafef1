"""Extract: copy the exposure of each portfolio from its source, and prove that it is complete."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from dagster import OpExecutionContext, graph

from irp_pipeline.cycle_files import EXTRACTS, extracts_key
from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.extract import extract
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.sources import FileSource, QuerySource, Source
from irp_pipeline.exposure.readers.totals import extract_totals
from irp_pipeline.exposure.totals.as_json import totals_from_json, totals_to_json
from irp_pipeline.exposure.totals.comparison import compare_totals, whole_totals
from irp_pipeline.files import write_atomically
from irp_pipeline.hashes import file_sha256
from irp_pipeline.helpers.artefact import list_artefacts, read_artefacts
from irp_pipeline.helpers.configuration import active_workbook, find_active_configuration
from irp_pipeline.helpers.portfolio_facts import PortfolioTotals, records_key, totals_of_all
from irp_pipeline.helpers.step import TrackedRun
from irp_pipeline.orchestration.asset_events import Outcome
from irp_pipeline.orchestration.assets import CONTROL_TOTALS, EXTRACT
from irp_pipeline.orchestration.tracking import AssetOfStep, CheckOfStep, CycleOfRun, StageSpec, step

STAGE = StageSpec(2, "Extract")

_TOTALS_FILE = "source_totals.json"
_DIFFERENCES_SHOWN = 20


def portfolio_sources(cycle: CycleOfRun) -> dict[str, dict[OedTable, Source]]:
    """Return where each portfolio of the cycle's workbook comes from, table by table.

    Raises:
        ConfigurationError: no workbook has been validated for the cycle.
        WorkbookError: a path leaves the data folder; an SQL file is missing, or is no query.
    """
    from irp_pipeline.workbook import PortfolioSource, parameters_of, query_of, resolve_path

    workbook, folder = active_workbook(cycle.id)
    sources: dict[str, dict[OedTable, Source]] = {}
    for portfolio in workbook.portfolios:
        tables = sources[portfolio.name] = {}
        for table in OedTable:
            place = getattr(portfolio, table.value)
            if not place:
                continue
            if portfolio.source is PortfolioSource.SQL:
                tables[table] = QuerySource(
                    portfolio.database or "",
                    query_of(place, folder),
                    parameters_of(dict(portfolio), dict(workbook.metadata), cycle.name),
                    f"portfolio {portfolio.name}, {table}",
                )
            else:
                tables[table] = FileSource(
                    resolve_path(folder, place),
                    encoding=portfolio.encoding,
                    delimiter=portfolio.delimiter,
                    decimal=portfolio.decimal,
                )
    return sources


def extracted_tables(cycle: CycleOfRun, portfolio: str) -> dict[OedTable, Path]:
    """Return the extracted tables of a portfolio, after a check against the records of their step.

    Raises:
        ExposureError: the portfolio has not been extracted.
        ArtefactError: a file is missing on this machine or differs.
    """
    files = cycle.artefacts(extracts_key(portfolio))
    found = {table: files[name] for table in OedTable if (name := f"{table}.parquet") in files}
    if not found:
        raise ExposureError(f"The portfolio {portfolio} has not been extracted: run extract_exposure first")
    return found


def _source_contents(cycle: CycleOfRun, _: object) -> dict[str, Any]:
    """Return the hashes of the source files and queries in files, and the values of the parameters that queries use.

    If one of them changes, the exposure is extracted again. Databases are not queried.
    """
    from irp_pipeline.workbook import (
        PortfolioSource,
        WorkbookError,
        parameters_in,
        parameters_of,
        query_of,
        resolve_path,
    )
    from irp_pipeline.workbook.sources import is_sql_file

    if find_active_configuration(cycle.id) is None:
        return {}
    workbook, folder = active_workbook(cycle.id)
    found: dict[str, Any] = {}
    for portfolio in workbook.portfolios:
        is_sql = portfolio.source is PortfolioSource.SQL
        for table in OedTable:
            if not (place := getattr(portfolio, table.value)):
                continue
            key = f"{portfolio.name}/{table}"
            if (not is_sql or is_sql_file(place)) and (path := resolve_path(folder, place)).is_file():
                found[f"source {key}"] = file_sha256(path)
            if is_sql:
                try:
                    used = parameters_in(query_of(place, folder))
                except WorkbookError:  # the step itself tells
                    continue
                values = parameters_of(dict(portfolio), dict(workbook.metadata), cycle.name)
                if known := sorted(used & values.keys()):
                    found[f"parameters {key}"] = {name: _plain(values[name]) for name in known}
    return found


def _plain(value: object) -> object:
    """Return the value of a parameter as JSON; a date is text."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float) else str(value)


def _extracted_values(cycle: CycleOfRun, _: Mapping[str, Any]) -> dict[str, int | float]:
    """Return the control totals that were taken with the extract: of all portfolios, and of each."""
    artefacts = {
        PurePosixPath(key).parent.name: artefact
        for key, artefact in list_artefacts(cycle.id, EXTRACTS).items()
        if PurePosixPath(key).name == _TOTALS_FILE
    }
    paths = read_artefacts(cycle.name, artefacts.values())
    totals = {
        portfolio: PortfolioTotals.of(whole_totals(totals_from_json(path.read_text())))
        for portfolio, path in zip(artefacts, paths, strict=True)
    }
    figures = totals_of_all(totals.values())
    for portfolio, of_portfolio in totals.items():
        figures |= of_portfolio.output(portfolio)
    return figures


def _agreed(output: Mapping[str, Any]) -> Outcome:
    return Outcome(severity=None, description="The extract agrees with its source", metadata=output)


@step(
    stage=STAGE,
    number=1,
    workbook=("portfolios",),
    inputs=_source_contents,
    asset=AssetOfStep(asset=EXTRACT, metadata=_extracted_values),
)
def extract_exposure(cycle: CycleOfRun, run: TrackedRun, context: OpExecutionContext) -> dict[str, Any]:
    """Copy the OED tables of each portfolio to Parquet, with the control totals of the source at that moment."""
    extracted: dict[str, Any] = {}
    for portfolio, sources in portfolio_sources(cycle).items():
        key = extracts_key(portfolio)
        for table in OedTable:
            if table not in sources:
                run.remove_file(f"{key}/{table}.parquet")
                continue
            path = run.scratch / key / f"{table}.parquet"
            result = extract(sources[table], table, path, with_totals=table is OedTable.LOCATION)
            run.add_file(path, metadata={"records": result.rows})
            context.log.info(f"{portfolio}: {result.rows:,} {table} records from {result.source} ({result.reading})")
            if result.source_totals is not None:
                totals = run.scratch / key / _TOTALS_FILE
                write_atomically(totals, totals_to_json(result.source_totals))
                run.add_file(totals)
            extracted[records_key(portfolio, table)] = result.rows
            extracted[f"{portfolio} {table} read as"] = result.reading
            extracted[f"{portfolio} {table} sha256"] = result.sha256
    return extracted


@step(
    stage=STAGE,
    number=2,
    workbook=("portfolios",),
    after=("extract.extract_exposure",),
    check=CheckOfStep(check=CONTROL_TOTALS, outcome=_agreed, fails_with=ExposureError),
)
def control_totals(cycle: CycleOfRun, run: TrackedRun) -> dict[str, Any]:
    """Compare locations, accounts and insured values of each extract with its source; any difference fails."""
    workbook, _ = active_workbook(cycle.id)
    differences: list[str] = []
    figures: dict[str, Any] = {}
    for portfolio in workbook.portfolios:
        files = cycle.artefacts(extracts_key(portfolio.name))
        if not files:
            raise ExposureError(f"The portfolio {portfolio.name} has not been extracted: run extract_exposure first")
        if _TOTALS_FILE not in files:  # a portfolio without locations has no insured values by location
            continue
        source = totals_from_json(files[_TOTALS_FILE].read_text())
        extracted = extract_totals(files[f"{OedTable.LOCATION}.parquet"])
        differences += [f"{portfolio.name}: {difference}" for difference in compare_totals(source, extracted)]
        figures |= PortfolioTotals.of(whole_totals(extracted)).output(portfolio.name)
    if differences:
        shown = differences[:_DIFFERENCES_SHOWN]
        more = f"\n… and {len(differences) - len(shown)} more" if len(differences) > len(shown) else ""
        raise ExposureError("The extract does not agree with its source:\n" + "\n".join(shown) + more)
    run.add_records("totals", figures)
    return figures


@graph(name="extract")
def extract_stage(start: Any) -> Any:
    """The exposure of each portfolio, copied from its source and compared with it."""
    return control_totals(extract_exposure(start))
