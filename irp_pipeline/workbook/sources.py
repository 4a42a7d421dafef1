"""What the cells of the sheet Portfolios may name: files, database tables and queries.

:mod:`irp_pipeline.columns.paths` checks paths.
"""

import re

from irp_pipeline.columns.paths import path_problem
from irp_pipeline.columns.problems import quoted
from irp_pipeline.workbook.choices import PortfolioSource

_TABLE = re.compile(r"[^\W\d][\w$]*(\.[^\W\d][\w$]*){0,2}")
_SQL_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|--[^\n]*|/\*.*?\*/""", re.DOTALL)
_OTHER_SUFFIXES = {
    PortfolioSource.CSV: (".parquet", ".pq", ".xlsx", ".xls"),
    PortfolioSource.PARQUET: (".csv", ".csv.gz", ".txt", ".xlsx", ".xls"),
}


def is_query(text: str) -> bool:
    """Whether a table of an ``sql`` portfolio is given as a query; else ``text`` is the table's name."""
    return _TABLE.fullmatch(text) is None


def _query_problem(text: str) -> str | None:
    bare = _SQL_QUOTED.sub(" ", text).strip()
    if not re.match(r"(select|with)\b", bare, re.IGNORECASE):
        if "://" in text:  # may hold a password: not shown
            return "is an address; name the table here, and the database by its short name in the column database"
        return f"{quoted(text)} is neither a table (schema.table) nor a query that begins with SELECT or WITH"
    if ";" in bare:
        return "holds a semicolon; write one query, without a semicolon at its end"
    return None


def table_problem(source: str, text: str) -> str | None:
    """What is wrong with the text that names an OED table; None if nothing is."""
    if source == PortfolioSource.SQL:
        return _query_problem(text) if is_query(text) else None
    if problem := path_problem(text):
        return problem
    if text.lower().endswith(_OTHER_SUFFIXES[PortfolioSource(source)]):
        return f"{quoted(text)} does not look like a {source} file, which the column source says it is"
    return None
