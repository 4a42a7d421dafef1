"""Named parameters in a query: ``:exposure_date`` stands for a value, which the driver binds.

A value never becomes a part of the SQL. This module finds the names. A colon in a literal, a quoted name or a comment
is no parameter, nor is the cast ``::date``; ``\\:`` is a colon wherever it could be taken for one. The readers bind the
values, each as its database can.
"""

import datetime as dt
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache

from irp_pipeline.exposure import ExposureError

Value = str | bool | int | float | dt.date
Values = Mapping[str, Value | tuple[Value, ...]]
"""The values of parameters by name, in lower case; several values are for ``IN :name``."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MARK = "\0"
_NESTED_COMMENTS = 4
_BACKSLASHES = ("mysql", "mariadb", "snowflake")
_HASH_COMMENTS = ("mysql", "mariadb")
_BRACKETS = ("mssql", "sqlite")
_NESTING = ("postgresql", "mssql", "duckdb", "")
_DOLLARS = ("postgresql", "duckdb", "snowflake", "")


def names_in(query: str, backend: str = "") -> tuple[str, ...]:
    """Return the names of the parameters of a query, in lower case, each once.

    Args:
        query: in the SQL of the database.
        backend: the kind of database, as SQLAlchemy calls it; empty if it is not known.
    """
    return tuple(dict.fromkeys(name.lower() for match in _tokens(query, backend) if (name := match["name"])))


def code_of(query: str, backend: str = "") -> str:
    """Return a query with blanks in place of comments, and ``?`` in place of literals and quoted names, as long."""

    def replaced(match: re.Match[str]) -> str:
        if match["name"] or match["colons"]:
            return match[0]
        return (" " if match["comment"] else "?") * len(match[0])

    return _pattern(backend).sub(replaced, query)


def without_semicolon(query: str, backend: str) -> str:
    """Return a query without the semicolons at its end, and what comments come after them."""
    query = query.strip()
    while (code := code_of(query, backend).rstrip()).endswith(";"):
        query = query[: len(code) - 1].rstrip()
    return query


def mark(query: str, known: Collection[str], backend: str, description: str) -> str:
    """Return a query with a mark for each parameter, which no SQL contains; :func:`pieces` splits there.

    Args:
        query: in the SQL of the database.
        known: the names of the parameters that there are.
        backend: the kind of database.
        description: the query's name in messages.

    Raises:
        ExposureError: a parameter is not known; or the query contains a NUL.
    """
    if _MARK in query:
        raise ExposureError(f"{description} contains a NUL character, which is not SQL")
    if problem := unknown_parameters(names_in(query, backend), known):
        raise ExposureError(f"{description}: {problem}")

    def replaced(match: re.Match[str]) -> str:
        if match["name"]:
            return f"{_MARK}{match['name'].lower()}{_MARK}"
        return ":" if match["colons"] == "\\:" else match[0]

    return _pattern(backend).sub(replaced, query)


def unknown_parameters(names: Collection[str], known: Collection[str]) -> str | None:
    """Return what is wrong with the names of a query's parameters; None if all are known."""
    unknown = [f":{name}" for name in names if name not in known]
    if not unknown:
        return None
    verb = "is no parameter" if len(unknown) == 1 else "are no parameters"
    there_are = ", ".join(f":{name}" for name in sorted(known)) or "none"
    return f"{', '.join(unknown)} {verb}; there are {there_are} (write \\: for a colon that is meant as one)"


def pieces(statement: str) -> list[str]:
    """Split a statement with marks: SQL at the even places, the names of parameters at the odd ones."""
    return statement.split(_MARK)


def is_marked(statement: str) -> bool:
    """Whether a statement has parameters."""
    return _MARK in statement


def without_brackets(statement: str, names: Collection[str]) -> str:
    """Return a marked statement with ``IN (:name)`` as ``IN :name``, for parameters that have several values."""
    for name in names:
        statement = re.sub(rf"\(\s*({_MARK}{name}{_MARK})\s*\)", r"\1", statement)
    return statement


def _tokens(query: str, backend: str) -> Iterator[re.Match[str]]:
    return _pattern(backend).finditer(query)


@cache
def _pattern(backend: str) -> re.Pattern[str]:
    """Return a pattern for all that could hide a colon, and for parameters. What is not closed goes on to the end."""
    escaped = r"(?:[^{quote}\\]|\\.|{quote}{quote})*(?:{quote}|\Z)"
    plain = r"(?:[^{quote}]|{quote}{quote})*(?:{quote}|\Z)"
    content = escaped if backend in _BACKSLASHES else plain
    comment = r"/\*(?:(?!\*/).)*(?:\*/|\Z)"
    if backend in _NESTING:
        comment = r"/\*(?:(?!/\*|\*/).)*(?:\*/|\Z)"
        for _ in range(_NESTED_COMMENTS):
            comment = rf"/\*(?:(?!/\*|\*/).|{comment})*(?:\*/|\Z)"
    comments = rf"--[^\n]*|{comment}" + (r"|\#[^\n]*" if backend in _HASH_COMMENTS else "")
    hidden = [f"(?P<comment>{comments})"]
    if backend in ("postgresql", ""):
        hidden.append(r"(?<!\w)[eE]'" + escaped.format(quote="'"))
    if backend == "oracle":
        hidden.append(r"(?<!\w)[nN]?[qQ]'(?:\[.*?\]|\{.*?\}|\(.*?\)|<.*?>|(?P<q>[^\s\[{(<]).*?(?P=q))'")
    if backend in _DOLLARS:
        hidden.append(r"(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)")
    hidden += [f"{quote}{content.format(quote=quote)}" for quote in ("'", '"')]
    hidden.append(f"`{plain.format(quote='`')}")
    if backend in _BRACKETS:
        hidden.append(r"\[(?:[^\]]|\]\])*(?:\]|\Z)")
    # What comes before a parameter is an operator, a bracket, a comma or a blank.
    parameter = r"""(?<![\w)\]"'`:]):(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?!\w)"""
    return re.compile(rf"{'|'.join(hidden)}|(?P<colons>\\:|::)|{parameter}", re.DOTALL)
