"""What the cells of the sheet Portfolios may name: files, database tables, queries and files with queries.

:mod:`irp_pipeline.columns.paths` checks paths.
"""

import re

from irp_pipeline.columns.paths import path_problem
from irp_pipeline.columns.problems import quoted
from irp_pipeline.exposure.readers.parameters import without_semicolon
from irp_pipeline.exposure.readers.table_names import is_table_name
from irp_pipeline.workbook.choices import PortfolioSource

_BEGINS_AS_QUERY = re.compile(r"(select|with)\b", re.IGNORECASE)
_IS_QUERY = re.compile(r"(select|with)\s", re.IGNORECASE)
_SQL_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|--[^\n]*|/\*.*?\*/""", re.DOTALL)
_OTHER_SUFFIXES = {
    PortfolioSource.CSV: (".parquet", ".pq", ".xlsx", ".xls"),
    PortfolioSource.PARQUET: (".csv", ".csv.gz", ".txt", ".xlsx", ".xls"),
}


def is_query(text: str) -> bool:
    """Whether a table of an ``sql`` portfolio is given as a query; else ``text`` is the table's name or an SQL file."""
    return not is_sql_file(text) and not is_table_name(text)


def is_sql_file(text: str) -> bool:
    """Whether a table of an ``sql`` portfolio is given as a file with a query."""
    return text.lower().endswith(".sql") and not _IS_QUERY.match(_SQL_QUOTED.sub(" ", text).strip())


def query_problem(text: str) -> str | None:
    """What is wrong with the content of an SQL file; None if nothing is."""
    bare = _SQL_QUOTED.sub(" ", without_semicolon(text, "")).strip()
    if not _BEGINS_AS_QUERY.match(bare):
        return f"is no query that begins with SELECT or WITH, but begins with {quoted(bare[:20])}"
    if ";" in bare:
        return "holds a semicolon before its end; a file is one query"
    return None


def _query_problem(text: str) -> str | None:
    bare = _SQL_QUOTED.sub(" ", text).strip()
    if not _BEGINS_AS_QUERY.match(bare):
        if "://" in text:  # may hold a password: not shown
            return "is an address; name the table here, and the database by its short name in the column database"
        return f"{quoted(text)} is neither a table (schema.table) nor a query that begins with SELECT or WITH"
    if ";" in bare:
        return "holds a semicolon; write one query, without a semicolon at its end"
    return None


def table_problem(source: str, text: str) -> str | None:
    """What is wrong with the text that names an OED table; None if nothing is."""
    if source == PortfolioSource.SQL and not is_sql_file(text):
        return _query_problem(text) if is_query(text) else None
    if problem := path_problem(text):
        return problem
    if source != PortfolioSource.SQL and text.lower().endswith(_OTHER_SUFFIXES[PortfolioSource(source)]):
        return f"{quoted(text)} does not look like a {source} file, which the column source says it is"
    return None
