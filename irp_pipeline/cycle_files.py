"""Where each file of a cycle is. No other module spells out these paths.

A *key* is a path relative to the cycle's folder, with ``/`` between its parts. The database holds keys, so that
machines with different folders can share the same records. The folder itself is
:func:`irp_pipeline.settings.cycle_dir`. Nothing here reads or writes a file.
"""

from pathlib import Path
from typing import Final

WORKBOOK: Final = "configuration.xlsx"
"""The configuration workbook, unless run config names another."""

EXTRACTS: Final = "extracts"
"""The extracted tables: a folder for each portfolio."""

PORTFOLIOS: Final = "portfolios"
"""The portfolios as models read them: a folder for each, with a CSV file for each OED table."""

EXPOSURE: Final = "exposure"
"""The profile of the exposure: how much of what, where."""

JOBS: Final = "jobs"
"""A folder for each job: its inputs, its log and its results."""

RESULTS: Final = "results"
"""The exported results."""

CURVES: Final = "curves"
"""The whole exceedance curves: a folder for each analysis and group, with a Parquet file for each perspective."""

UNCERTAINTY: Final = f"{CURVES}/uncertainty.parquet"
"""How sure each figure is."""

ATTRIBUTION: Final = "attribution"
"""The files of jobs between this cycle and an earlier one, by their hashes."""

REPEATS: Final = "repeats"
"""The files of jobs with other draws, by their hashes."""

LOSSES: Final = "losses"
"""What was found about the saved figures."""

LOSS_FINDINGS: Final = f"{LOSSES}/findings.txt"
"""The findings about the saved figures, one a line."""

REPORT: Final = "report"
"""The report: :data:`REPORT_PAGE`, :data:`REPORT_SUMMARY` and :data:`REPORT_PICTURE`."""

REPORT_PAGE: Final = "report.html"
REPORT_SUMMARY: Final = "report.md"
REPORT_PICTURE: Final = "ep_curves.png"

NOTEBOOKS: Final = "executed_notebooks"
"""The executed notebooks: a folder for each stage."""

OF_DAGSTER: Final = ".dagster"
"""In a store of files, beside the folders of schemas: what Dagster keeps."""

FROM_ELSEWHERE: Final = "files"
"""Files that steps declared, and that were neither in scratch space nor among the files of the cycle."""

MADE: Final = (
    EXTRACTS,
    PORTFOLIOS,
    EXPOSURE,
    JOBS,
    CURVES,
    LOSSES,
    RESULTS,
    ATTRIBUTION,
    REPEATS,
    REPORT,
    NOTEBOOKS,
    FROM_ELSEWHERE,
)
"""The folders that steps and jobs write. Everything else in the folder of a cycle, people put there."""

SCRATCH: Final = ".scratch"
"""Scratch space of running steps, on the same file system as the files they publish."""


def extracts_key(portfolio: str) -> str:
    """Return where the extracted tables of a portfolio are: one Parquet file each."""
    return f"{EXTRACTS}/{portfolio}"


def findings_key(portfolio: str) -> str:
    """Return where the findings of a portfolio are."""
    return f"{extracts_key(portfolio)}/findings.txt"


def portfolio_key(portfolio: str) -> str:
    """Return where a portfolio is, as models read it."""
    return f"{PORTFOLIOS}/{portfolio}"


def curve_key(name: str, perspective: str) -> str:
    """Return where the curves of an analysis or a group are."""
    return f"{CURVES}/{name}/{perspective.lower()}.parquet"


def workbook_of(cycle_folder: Path) -> Path:
    """Return the workbook of a cycle."""
    return cycle_folder / WORKBOOK


def report_of(cycle_folder: Path) -> Path:
    """Return the page of a cycle's report."""
    return cycle_folder / REPORT / REPORT_PAGE


def jobs_of(cycle_folder: Path) -> Path:
    """Return the folder of a cycle's jobs."""
    return cycle_folder / JOBS
