"""Parameters of the queries of a portfolio: ``:exposure_date`` in its SQL stands for a value of the workbook.

Every query can use those of :data:`OFFERED`, which are settings of the sheet Metadata and the names of the cycle and
the portfolio; and those of the column ``parameters``. Here: which there are, what they are worth, and what is wrong
with them. Not here: how they are found in SQL and bound (:mod:`irp_pipeline.exposure.readers.parameters`).
"""

import datetime as dt
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from irp_pipeline.columns.paths import resolve_path
from irp_pipeline.columns.problems import WorkbookError, quoted
from irp_pipeline.exposure.readers.parameters import NAME, Value, Values, names_in, unknown_parameters
from irp_pipeline.vocabulary import OedTable
from irp_pipeline.workbook.choices import PortfolioSource
from irp_pipeline.workbook.sources import is_query, is_sql_file, query_problem

Fields = Mapping[str, Any]

OFFERED: Final = ("currency", "cycle_name", "exposure_date", "insurer", "portfolio")
"""The parameters that every query can use."""
_SETTINGS: Final = ("exposure_date", "insurer")
"""Those that are worth nothing while their setting is empty."""
_MOST_BYTES: Final = 2**20
_LARGEST: Final = 2**63 - 1
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# The address of the database may not be known here. So a name counts as wrong only if every kind of database would take
# it for a parameter, and as used if one of them would.
_KINDS: Final = ("", "mysql", "mssql", "oracle", "snowflake")


def checked_query_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Check the column ``parameters``.

    Raises:
        ValueError: a name or a value is none; the message is for the user.
    """
    seen: set[str] = set()
    for name, value in parameters.items():
        if not NAME.fullmatch(name):
            raise ValueError(f"{quoted(name)} is not a name of letters without accents, digits and '_'")
        if name.lower() in OFFERED:
            raise ValueError(f"{quoted(name)} is a parameter of every query already; choose another name")
        if name.lower() in seen:
            raise ValueError(f"{quoted(name)} is there twice; capitals do not count")
        seen.add(name.lower())
        items = value if isinstance(value, list) else [value]
        if not items:
            raise ValueError(f"{quoted(name)} is an empty list, and SQL has none")
        if problem := next((problem for item in items if (problem := _value_problem(item))), None):
            raise ValueError(f"{quoted(name)} {problem}")
        if len({_kind(item) for item in items}) > 1:
            raise ValueError(f"{quoted(name)} is a list of values of several kinds")
    return dict(parameters)


def _value_problem(value: object) -> str | None:
    match value:
        case str() if "\0" in value:
            return "contains a NUL character, which is not text"
        case str() | bool():
            return None
        case int() if abs(value) > _LARGEST:
            return "is a number that is too large; write it as text"
        case float() if not math.isfinite(value):
            return "is a number that is too large"
        case int() | float():
            return None
    return 'must be a text, a number, true or false, a date such as "2024-01-31", or a list of them in [ ]'


def _kind(value: object) -> type:
    value = _typed(value)
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _typed(value: Any) -> Value:
    """Return the value that JSON stands for: a text such as ``2024-01-31`` is a date."""
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            return value
    return value  # type: ignore[no-any-return] # it was checked


def parameters_of(portfolio: Fields, metadata: Fields, cycle_name: str) -> Values:
    """Return the values of all parameters that the queries of a portfolio can use, by name.

    Args:
        portfolio: a row of the sheet Portfolios.
        metadata: the settings.
        cycle_name: the name of the cycle.
    """
    values: dict[str, Value | tuple[Value, ...]] = {"cycle_name": cycle_name, "portfolio": portfolio["name"]}
    values |= {name: metadata[name] for name in ("currency", *_SETTINGS) if metadata.get(name) is not None}
    for name, value in (portfolio.get("parameters") or {}).items():
        values[name.lower()] = tuple(map(_typed, value)) if isinstance(value, list) else _typed(value)
    return values


def parameters_in(query: str) -> set[str]:
    """Return the names of the parameters that a query uses, whatever kind of database it is for."""
    return {name for kind in _KINDS for name in names_in(query, kind)}


def _certain_parameters(query: str) -> list[str]:
    certain = set.intersection(*(set(names_in(query, kind)) for kind in _KINDS))
    return [name for name in names_in(query) if name in certain]


def parameter_problem(query: str, portfolio: Fields) -> str | None:
    """What is wrong with the parameters that a query of a portfolio uses; None if nothing is."""
    own = portfolio.get("parameters") or {}
    return unknown_parameters(_certain_parameters(query), {*OFFERED, *(name.lower() for name in own)})


def query_of(place: str, folder: Path) -> str:
    """Return the query of a table of an ``sql`` portfolio, or its name in the database.

    Args:
        place: the cell: the name of a table, a query, or an SQL file.
        folder: the data folder.

    Raises:
        WorkbookError: the SQL file is missing, or is no query.
    """
    if not is_sql_file(place):
        return place
    path = resolve_path(folder, place)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise WorkbookError(f"{quoted(place)} is larger than 1 MB, so it is no query")
        query = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise WorkbookError(f"there is no file {quoted(place)} in {folder}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise WorkbookError(f"{quoted(place)}, line {line}: is not UTF-8 text; save the file as UTF-8") from None
    except OSError as error:
        raise WorkbookError(f"{quoted(place)} cannot be read: {error.strerror}") from None
    if problem := query_problem(query):
        raise WorkbookError(f"{quoted(place)} {problem}")
    return query


def queries_of(portfolio: Fields, folder: Path | None) -> Iterator[tuple[str, str, str]]:
    """Yield the queries of a portfolio that can be read: column, cell and query.

    Args:
        portfolio: a row of the sheet Portfolios.
        folder: the data folder; None: SQL files are not read.
    """
    if portfolio.get("source") != PortfolioSource.SQL:
        return
    for column in OedTable:
        place = portfolio.get(column)
        if place and (is_query(place) or (folder is not None and is_sql_file(place))):
            try:
                yield column.value, place, place if folder is None else query_of(place, folder)
            except WorkbookError:  # told elsewhere
                continue


def sql_file_problems(portfolio: Fields, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the SQL files of a portfolio, as column and message."""
    for column in OedTable:
        place = portfolio.get(column)
        if not place or not is_sql_file(place):
            continue
        try:
            query = query_of(place, folder)
        except WorkbookError as error:
            yield column.value, str(error)
            continue
        if problem := parameter_problem(query, portfolio):
            yield column.value, f"{quoted(place)}: {problem}"


def empty_settings(
    portfolios: Mapping[int, Fields], metadata: Fields, folder: Path | None
) -> Iterator[tuple[str, str]]:
    """Yield the settings that queries use although they are empty, as setting and message.

    Args:
        portfolios: the rows of the sheet Portfolios.
        metadata: the settings.
        folder: the data folder; None: SQL files are not read.
    """
    used = {
        name: place
        for portfolio in portfolios.values()
        for _, place, query in queries_of(portfolio, folder)
        for name in _certain_parameters(query)
    }
    for name in _SETTINGS:
        if name in used and name in metadata and metadata[name] is None:
            yield name, f"is empty, but {quoted(used[name])} on the sheet Portfolios uses :{name}"


def unused_parameters(portfolio: Fields, folder: Path) -> list[str]:
    """Return the names of the portfolio's own parameters that none of its queries uses."""
    used = {name for _, _, query in queries_of(portfolio, folder) for name in parameters_in(query)}
    return [name for name in portfolio.get("parameters") or {} if name.lower() not in used]
