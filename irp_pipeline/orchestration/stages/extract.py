"""Extract: the exposure of each portfolio, copied from its source, and the proof that all of it arrived."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dagster import OpExecutionContext, graph

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.extract import extract
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.sources import FileSource, QuerySource, Source
from irp_pipeline.exposure.totals import (
    compare_totals,
    extract_totals,
    totals_from_json,
    totals_to_json,
    whole_totals,
)
from irp_pipeline.files import write_atomically
from irp_pipeline.helpers.configuration import active_workbook
from irp_pipeline.orchestration.tracking import Cycle, Stage, step

STAGE = Stage(2, "Extract")

_TOTALS_FILE = "source_totals.json"
_DIFFERENCES_SHOWN = 20


def portfolio_sources(cycle: Cycle) -> dict[str, dict[OedTable, Source]]:
    """Return where each portfolio of the cycle's workbook comes from, table by table.

    Raises:
        ConfigurationError: no workbook has been validated for the cycle.
        WorkbookError: a path leaves the data folder.
    """
    from irp_pipeline.helpers.workbook import PortfolioSource, is_query, resolve_path

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
                    place if is_query(place) else f"SELECT * FROM {place}",  # noqa: S608
                )
            else:
                tables[table] = FileSource(
                    resolve_path(folder, place),
                    encoding=portfolio.encoding,
                    delimiter=portfolio.delimiter,
                    decimal=portfolio.decimal,
                )
    return sources


def extracts_folder(cycle: Cycle, portfolio: str) -> Path:
    """Return the folder of a portfolio's extracted tables, one Parquet file each."""
    return cycle.folder / "extracts" / portfolio


def _file_hashes(cycle: Cycle, _: object) -> dict[str, str]:
    """Return what the source files hold, so that a changed one is extracted again. Databases are not asked."""
    return dict(sorted(_hashes(portfolio_sources(cycle))))


def _hashes(sources: dict[str, dict[OedTable, Source]]) -> Iterator[tuple[str, str]]:
    for portfolio, tables in sources.items():
        for table, source in tables.items():
            if isinstance(source, FileSource) and source.path.is_file():
                with source.path.open("rb") as file:
                    yield f"{portfolio}/{table}", hashlib.file_digest(file, "sha256").hexdigest()


@step(stage=STAGE, number=1, inputs=_file_hashes)
def extract_exposure(cycle: Cycle, context: OpExecutionContext) -> dict[str, Any]:
    """Copy the OED tables of each portfolio to Parquet, with the control totals of the source of that moment."""
    extracted: dict[str, Any] = {}
    for portfolio, sources in portfolio_sources(cycle).items():
        folder = extracts_folder(cycle, portfolio)
        for table in OedTable:
            path = folder / f"{table}.parquet"
            if table not in sources:
                path.unlink(missing_ok=True)
                continue
            result = extract(sources[table], table, path, with_totals=table is OedTable.LOCATION)
            context.log.info(f"{portfolio}: {result.rows:,} {table} records from {result.source} ({result.reading})")
            if result.source_totals is not None:
                write_atomically(folder / _TOTALS_FILE, totals_to_json(result.source_totals))
            extracted[f"{portfolio} {table} records"] = result.rows
            extracted[f"{portfolio} {table} read as"] = result.reading
            extracted[f"{portfolio} {table} sha256"] = result.sha256
    return extracted


@step(stage=STAGE, number=2)
def control_totals(cycle: Cycle) -> dict[str, Any]:
    """Compare locations, accounts and insured values of each extract with its source; any difference fails."""
    workbook, _ = active_workbook(cycle.id)
    differences: list[str] = []
    figures: dict[str, Any] = {}
    for portfolio in workbook.portfolios:
        folder = extracts_folder(cycle, portfolio.name)
        totals_file = folder / _TOTALS_FILE
        if not totals_file.is_file():
            raise ExposureError(f"The portfolio {portfolio.name} has not been extracted: run extract_exposure first")
        source = totals_from_json(totals_file.read_text())
        extracted = extract_totals(folder / f"{OedTable.LOCATION}.parquet")
        differences += [f"{portfolio.name}: {difference}" for difference in compare_totals(source, extracted)]
        whole = whole_totals(extracted)
        figures[f"{portfolio.name} locations"] = sum(total.locations for total in whole)
        figures[f"{portfolio.name} buildings"] = sum(total.buildings for total in whole)
        for total in whole:
            key = f"{portfolio.name} TIV {total.country} {total.currency}"
            figures[key] = float(total.tiv) + figures.get(key, 0.0)
    if differences:
        shown = differences[:_DIFFERENCES_SHOWN]
        more = f"\n… and {len(differences) - len(shown)} more" if len(differences) > len(shown) else ""
        raise ExposureError("The extract does not agree with its source:\n" + "\n".join(shown) + more)
    return figures


@graph(name="extract")
def extract_stage(start: Any) -> Any:
    """The exposure of each portfolio, copied from its source and compared with it."""
    return control_totals(extract_exposure(start))
