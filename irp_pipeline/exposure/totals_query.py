"""The SQL that makes a database compute the control totals of a query by itself.

Two statements over the user's query as a derived table: :func:`sums_query` counts locations and adds up amounts, and
:func:`accounts_query` counts accounts. Both leave the perils together as LocPerilsCovered has them;
:func:`combine` takes them apart. Running the statements is for the module of each kind of database. The databases for
which the text below is known to be right are in :data:`DIALECTS`; on any other, rows are read and added up here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.control_total import (
    ACCOUNT_COLUMN,
    ALL_PERILS,
    KEY_COLUMNS,
    MONEY_COLUMNS,
    MONEY_PLACES,
    ControlTotal,
    peril_codes,
)
from irp_pipeline.exposure.oed import Column

if TYPE_CHECKING:
    import sqlalchemy as sa

# Stands for the user's query until the statement is compiled, so that SQLAlchemy never looks into it.
_PLACEHOLDER = "irp_source_query"
# OED knows about sixty. Databases take some hundred columns in a statement, one for each code here.
_MOST_PERIL_CODES = 400


@dataclass(frozen=True)
class TotalsDialect:
    """What differs between databases.

    Attributes:
        text: a column as text that compares exactly (no case folding, no padding), NULL as ``''``.
        number: a column as a 64-bit float, which it is in the extract too.
    """

    text: "Callable[[sa.ColumnElement[Any]], sa.ColumnElement[Any]]"
    number: "Callable[[sa.ColumnElement[Any]], sa.ColumnElement[Any]]"


def wrap(query: str) -> str:
    """The query as a derived table; the line break ends a comment on its last line."""
    return f"(\n{query}\n)"


def sums_query(query: str, columns: Sequence[Column], dialect_name: str) -> str:
    """A statement that gives the number of locations and the parts of each amount, by the key columns.

    Whole units of an amount add up exactly, as integers. What remains of each amount is below one, so that its
    floating-point sum over n rows is good to n² · 2⁻⁵⁴ units in the worst order.
    """
    import sqlalchemy as sa

    dialect = DIALECTS[dialect_name]
    source, names = _source(columns)
    keys = [_text(source, names, name, dialect) for name in KEY_COLUMNS]
    parts: list[sa.ColumnElement[Any]] = []
    for name in MONEY_COLUMNS:
        amount = dialect.number(source.c[names[name]] if name in names else sa.literal(0))
        whole = sa.cast(sa.func.round(amount), sa.BigInteger)
        parts += [sa.func.sum(whole), sa.func.sum(amount - whole)]
    return _compile(sa.select(*keys, sa.func.count(), *parts).select_from(source).group_by(*keys), query, dialect_name)


def accounts_query(query: str, columns: Sequence[Column], dialect_name: str, codes: Mapping[str, set[str]]) -> str:
    """A statement that gives the number of accounts by portfolio, country, currency and which perils they have.

    Args:
        query: the user's query.
        columns: its columns.
        dialect_name: a key of :data:`DIALECTS`.
        codes: from :func:`codes_of`.
    """
    import sqlalchemy as sa

    dialect = DIALECTS[dialect_name]
    source, names = _source(columns)
    keys = {name: _text(source, names, name, dialect) for name in (*KEY_COLUMNS, ACCOUNT_COLUMN)}
    covered, account = keys.pop("LocPerilsCovered"), keys[ACCOUNT_COLUMN]
    flags = [
        sa.func.max(sa.case((covered.in_([dialect.text(sa.literal(value)) for value in sorted(values)]), 1), else_=0))
        for values in codes.values()
    ]
    accounts = (
        sa.select(
            *(key.label(name) for name, key in keys.items()),
            *(flag.label(f"peril_{number}") for number, flag in enumerate(flags)),
        )
        .where(account != dialect.text(sa.literal("")))
        .group_by(*keys.values())
        .subquery("accounts")
    )
    groups = [column for column in accounts.c if column.name != ACCOUNT_COLUMN]
    return _compile(sa.select(*groups, sa.func.count()).group_by(*groups), query, dialect_name)


def codes_of(sums: Iterable[Sequence[Any]]) -> dict[str, set[str]]:
    """Which values of LocPerilsCovered hold each peril code, from the rows of :func:`sums_query`.

    Raises:
        ExposureError: there are so many codes that they cannot be perils.
    """
    codes: dict[str, set[str]] = {}
    for row in sums:
        covered = _decode(row[KEY_COLUMNS.index("LocPerilsCovered")])
        for code in peril_codes(covered):
            codes.setdefault(code, set()).add(covered)
    if len(codes) > _MOST_PERIL_CODES:
        raise ExposureError(
            f"LocPerilsCovered holds {len(codes):,} different codes, such as {next(iter(codes))!r}. "
            "Does it hold something else than perils?"
        )
    return codes


def combine(
    sums: Iterable[Sequence[Any]], accounts: Iterable[Sequence[Any]], codes: Iterable[str]
) -> tuple[ControlTotal, ...]:
    """Put the rows of both statements together; the result is sorted."""
    amounts: dict[tuple[str, str, str, str], list[Decimal]] = {}
    for portfolio, covered, country, currency, locations, *parts in sums:
        wholes, rests = map(_decimal, parts[::2]), (round(_decimal(part), MONEY_PLACES) for part in parts[1::2])
        row = [Decimal(locations), *(whole + rest for whole, rest in zip(wholes, rests, strict=True))]
        for peril in (ALL_PERILS, *peril_codes(_decode(covered))):
            key = (_decode(portfolio), peril, _decode(country), _decode(currency))
            earlier = amounts.get(key, [Decimal(0)] * len(row))
            amounts[key] = [total + value for total, value in zip(earlier, row, strict=True)]
    numbers = dict.fromkeys(amounts, 0)
    for portfolio, country, currency, *flags, number in accounts:
        for peril in (ALL_PERILS, *(code for code, flag in zip(codes, flags, strict=True) if flag)):
            numbers[_decode(portfolio), peril, _decode(country), _decode(currency)] += number
    return tuple(
        sorted(ControlTotal(*key, int(locations), numbers[key], *money) for key, (locations, *money) in amounts.items())
    )


def _decode(text: str | bytes) -> str:
    """Text as MySQL gives it after a comparison byte by byte."""
    return text.decode() if isinstance(text, bytes) else text


def _decimal(value: Any) -> Decimal:
    return Decimal(0 if value is None else value)


def _source(columns: Sequence[Column]) -> "tuple[sa.FromClause, dict[str, str]]":
    """The user's query as a table, and what it calls the OED columns."""
    import sqlalchemy as sa

    names = {column.name: column.source_name for column in columns}
    return sa.table(_PLACEHOLDER, *(sa.column(name) for name in names.values())).alias("source"), names


def _text(
    source: "sa.FromClause", names: Mapping[str, str], name: str, dialect: TotalsDialect
) -> "sa.ColumnElement[Any]":
    import sqlalchemy as sa

    return dialect.text(source.c[names[name]] if name in names else sa.literal(""))


def _compile(statement: "sa.Select[Any]", query: str, dialect_name: str) -> str:
    from sqlalchemy.dialects import registry

    # The parameter style "named" leaves a per cent sign in a literal as it is.
    dialect = registry.load(dialect_name)(paramstyle="named")
    compiled = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    return str(compiled).replace(_PLACEHOLDER, wrap(query))


def _postgresql_text(column: "sa.ColumnElement[Any]") -> "sa.ColumnElement[Any]":
    import sqlalchemy as sa

    return sa.func.coalesce(sa.cast(column, sa.Text), "")


def _postgresql_number(column: "sa.ColumnElement[Any]") -> "sa.ColumnElement[Any]":
    import sqlalchemy as sa

    # "NaN" is an empty cell to pandas, and in the extract.
    return sa.func.nullif(sa.cast(column, sa.Double), sa.cast(sa.literal("NaN"), sa.Double))


def _mysql_text(column: "sa.ColumnElement[Any]") -> "sa.ColumnElement[Any]":
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql

    text = sa.func.coalesce(sa.cast(column, mysql.CHAR(charset="utf8mb4")), "")
    return sa.cast(text, mysql.BINARY())


def _mysql_number(column: "sa.ColumnElement[Any]") -> "sa.ColumnElement[Any]":
    import sqlalchemy as sa

    return column + sa.literal_column("0e0", sa.Double)  # older servers have no CAST(… AS DOUBLE)


def _sqlite_text(column: "sa.ColumnElement[Any]") -> "sa.ColumnElement[Any]":
    import sqlalchemy as sa

    whole = sa.cast(column, sa.BigInteger)
    is_whole_float = sa.and_(sa.func.typeof(column) == "real", column == whole)
    value = sa.case((is_whole_float, whole), else_=column)
    return sa.func.coalesce(sa.collate(sa.cast(value, sa.Text), "BINARY"), "")


def _sqlite_number(column: "sa.ColumnElement[Any]") -> "sa.ColumnElement[Any]":
    import sqlalchemy as sa

    return sa.cast(column, sa.Float)


DIALECTS: Mapping[str, TotalsDialect] = {
    "postgresql": TotalsDialect(_postgresql_text, _postgresql_number),
    "mysql": TotalsDialect(_mysql_text, _mysql_number),
    "mariadb": TotalsDialect(_mysql_text, _mysql_number),
    "sqlite": TotalsDialect(_sqlite_text, _sqlite_number),
}
