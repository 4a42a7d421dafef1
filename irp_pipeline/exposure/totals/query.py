"""The SQL with which a database computes the control totals of a query itself.

The statements use the user's query as a derived table. One asks which perils are covered. Another one makes one row of
each location, as :mod:`~irp_pipeline.exposure.totals.control_total` defines it, and adds up the locations: over all
perils, by peril, or by account. The module of each kind of database runs them. :data:`DIALECTS` has the databases for
which the SQL is known to be right; for any other database, the rows are read and added up in Python.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedColumn
from irp_pipeline.exposure.totals.control_total import (
    ACCOUNT_COLUMN,
    ALL_PERILS,
    BUILDINGS_COLUMN,
    KEY_COLUMNS,
    LOCATION_COLUMN,
    MONEY_COLUMNS,
    MONEY_PLACES,
    MOST_ACCOUNTS,
    PERILS_COLUMN,
    ControlTotal,
    ControlTotals,
    peril_codes,
)

if TYPE_CHECKING:
    import sqlalchemy as sa

# Replaces the user's query until the statement is compiled, so that SQLAlchemy never interprets it.
_PLACEHOLDER = "irp_source_query"
# OED knows about sixty.
_MOST_PERIL_CODES = 400
# SQLite takes 500 SELECTs in a UNION.
_MOST_UNITED = 400
_TEXT_COLUMNS = (*KEY_COLUMNS, ACCOUNT_COLUMN, LOCATION_COLUMN)


@dataclass(frozen=True)
class TotalsDialect:
    """The differences between databases.

    Attributes:
        text: a column as text that compares exactly (no case folding, no padding), with NULL as ``''``.
        number: a column as a 64-bit float, as in the extract.
        whole_number: a column of floats or decimals as text without a fraction or exponent; only for a database that
            needs it.
    """

    text: "Callable[[sa.ColumnElement[Any]], sa.ColumnElement[Any]]"
    number: "Callable[[sa.ColumnElement[Any]], sa.ColumnElement[Any]]"
    whole_number: "Callable[[sa.ColumnElement[Any]], sa.ColumnElement[Any]] | None" = None


def wrap(query: str) -> str:
    """Return the query as a derived table; the line break ends a comment on its last line."""
    return f"(\n{query}\n)"


@dataclass(frozen=True)
class TotalsQueries:
    """Makes and runs the statements for one query.

    Attributes:
        query: the user's query.
        columns: its columns.
        dialect_name: a key of :data:`DIALECTS`.
        numeric: the columns, as the source names them, that are floats or decimals in the database.
    """

    query: str
    columns: Sequence[OedColumn]
    dialect_name: str
    numeric: Collection[str] = ()

    def run(self, fetch: Callable[[str], Iterable[Sequence[Any]]]) -> ControlTotals:
        """Take the control totals.

        Args:
            fetch: runs a statement and returns its rows.

        Raises:
            ExposureError: LocPerilsCovered has so many codes that they cannot be perils.
        """
        coverage = list(fetch(self._coverage_query()))
        codes = _codes_of(_decode(covered) for covered, _ in coverage)
        blanks = any(int(number) for _, number in coverage)
        totals = [_total(row, ALL_PERILS) for row in fetch(self._sums_query(blanks))]
        for some in _at_most(codes, _MOST_UNITED):
            totals += [_total(row[:-1], _decode(row[-1])) for row in fetch(self._sums_query(blanks, codes=some))]
        by_account: list[ControlTotal] | None = None
        if sum(total.accounts for total in totals if total.peril == ALL_PERILS) <= MOST_ACCOUNTS:
            rows = fetch(self._sums_query(blanks, by_account=True))
            by_account = [_total(row[:-1], ALL_PERILS, _decode(row[-1])) for row in rows]
        return ControlTotals(totals, by_account)

    def _coverage_query(self) -> str:
        """Return a query for the values of LocPerilsCovered, and how many rows of each have no LocNumber."""
        import sqlalchemy as sa

        rows = self._rows()
        has_none = rows.c[LOCATION_COLUMN] == self._blank()
        covered = rows.c[PERILS_COLUMN]
        return self._compile(sa.select(covered, sa.func.sum(sa.case((has_none, 1), else_=0))).group_by(covered))

    def _sums_query(
        self, blanks: bool, *, codes: Mapping[str, Collection[str]] | None = None, by_account: bool = False
    ) -> str:
        """Return a query for the sums.

        Its columns: portfolio, country, currency; records, locations, accounts, buildings, parts of amounts; peril or
        account. Whole units of an amount add up exactly, as integers. The fraction of each amount is below one, so
        the floating-point sum over n locations is accurate to n² · 2⁻⁵⁴ units in the worst order.
        """
        import sqlalchemy as sa

        located = self._located(blanks, codes)
        keys = [located.c[name] for name in KEY_COLUMNS if name != PERILS_COLUMN]
        account = located.c[ACCOUNT_COLUMN]
        parts: list[sa.ColumnElement[Any]] = []
        for name in MONEY_COLUMNS:
            whole = sa.cast(sa.func.round(located.c[name]), sa.BigInteger)
            parts += [sa.func.sum(whole), sa.func.sum(located.c[name] - whole)]
        more = [located.c.peril] if codes else [account] if by_account else []
        named = sa.case((account != self._blank(), account))
        statement = sa.select(
            *keys,
            sa.func.sum(located.c.records),
            sa.func.count(),
            sa.func.count(named.distinct()),
            sa.func.sum(located.c[BUILDINGS_COLUMN]),
            *parts,
            *more,
        ).group_by(*keys, *more)
        return self._compile(statement.where(account != self._blank()) if by_account else statement)

    def _located(self, blanks: bool, codes: Mapping[str, Collection[str]] | None) -> "sa.Subquery":
        """Return one row for each location, and for each peril if codes are given."""
        import sqlalchemy as sa

        rows = self._rows()
        keys = [rows.c[name].label(name) for name in _TEXT_COLUMNS if name != PERILS_COLUMN]
        source: sa.FromClause = rows
        if codes:
            perils = self._perils(codes)
            source = rows.join(perils, perils.c.covered == rows.c[PERILS_COLUMN])
            keys.append(perils.c.peril.label("peril"))
        numbers = [rows.c[name] for name in (*MONEY_COLUMNS, BUILDINGS_COLUMN)]
        together = (
            sa.select(
                *keys,
                sa.func.count().label("records"),
                *(sa.func.max(number).label(number.name) for number in numbers),
            )
            .select_from(source)
            .where(rows.c[LOCATION_COLUMN] != self._blank())
            .group_by(*(key.element for key in keys))
        )
        if not blanks:
            return together.subquery("irp_located")
        alone = (
            sa.select(*keys, sa.literal(1).label("records"), *(number.label(number.name) for number in numbers))
            .select_from(source)
            .where(rows.c[LOCATION_COLUMN] == self._blank())
        )
        return sa.union_all(together, alone).subquery("irp_located")

    def _rows(self) -> "sa.Subquery":
        """Return the user's query with the columns of control totals, each with its OED name."""
        import sqlalchemy as sa

        names = {column.name: column.source_name for column in self.columns}
        source = sa.table(_PLACEHOLDER, *(sa.column(name) for name in names.values())).alias("source")
        dialect = self._dialect

        def text(name: str) -> sa.ColumnElement[Any]:
            if name not in names:
                return self._blank()
            column = source.c[names[name]]
            is_number = dialect.whole_number is not None and names[name] in self.numeric
            return dialect.text(dialect.whole_number(column) if is_number and dialect.whole_number else column)

        def number(name: str) -> sa.ColumnElement[Any]:
            return dialect.number(source.c[names[name]] if name in names else sa.literal(0))

        buildings = sa.func.coalesce(number(BUILDINGS_COLUMN), 1)
        return (
            sa.select(
                *(text(name).label(name) for name in _TEXT_COLUMNS),
                *(sa.func.coalesce(number(name), 0).label(name) for name in MONEY_COLUMNS),
                sa.cast(sa.case((buildings < 1, 1), else_=buildings), sa.BigInteger).label(BUILDINGS_COLUMN),
            )
            .select_from(source)
            .subquery("irp_rows")
        )

    def _perils(self, codes: Mapping[str, Collection[str]]) -> "sa.Subquery":
        """Return a table that says which code is in which LocPerilsCovered."""
        import sqlalchemy as sa

        text = self._dialect.text
        pairs = [
            sa.select(text(sa.literal(covered)).label("covered"), text(sa.literal(code)).label("peril"))
            for code, values in codes.items()
            for covered in sorted(values)
        ]
        blocks = [
            sa.select(sa.union_all(*pairs[start : start + _MOST_UNITED]).subquery(f"irp_block_{start}"))
            for start in range(0, len(pairs), _MOST_UNITED)
        ]
        return sa.union_all(*blocks).subquery("irp_perils")

    def _blank(self) -> "sa.ColumnElement[Any]":
        import sqlalchemy as sa

        return self._dialect.text(sa.literal(""))

    @property
    def _dialect(self) -> TotalsDialect:
        return DIALECTS[self.dialect_name]

    def _compile(self, statement: "sa.Select[Any]") -> str:
        import sqlalchemy as sa

        # The parameter style "named" does not change a per cent sign in a literal.
        dialect = sa.make_url(f"{self.dialect_name}://").get_dialect()(paramstyle="named")  # type: ignore[call-arg]
        compiled = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
        return str(compiled).replace(_PLACEHOLDER, wrap(self.query))


def _codes_of(coverages: Iterable[str]) -> dict[str, set[str]]:
    """Return which values of LocPerilsCovered contain each peril code."""
    codes: dict[str, set[str]] = {}
    for covered in coverages:
        for code in peril_codes(covered):
            codes.setdefault(code, set()).add(covered)
    if len(codes) > _MOST_PERIL_CODES:
        raise ExposureError(
            f"LocPerilsCovered has {len(codes):,} different codes, such as {next(iter(codes))!r}. "
            "Does it contain something other than perils?"
        )
    return codes


def _at_most(codes: Mapping[str, set[str]], size: int) -> Iterator[dict[str, set[str]]]:
    """Yield the codes in parts of at most ``size`` values; a single code may have more."""
    part: dict[str, set[str]] = {}
    for code, values in codes.items():
        if part and sum(map(len, part.values())) + len(values) > size:
            yield part
            part = {}
        part[code] = values
    if part:
        yield part


def _total(row: Sequence[Any], peril: str, account: str = "") -> ControlTotal:
    portfolio, country, currency, records, locations, accounts, buildings, *parts = row
    building, other, contents, interruption = (
        _decimal(whole) + round(_decimal(rest), MONEY_PLACES)
        for whole, rest in zip(parts[::2], parts[1::2], strict=True)
    )
    return ControlTotal(
        portfolio=_decode(portfolio),
        peril=peril,
        country=_decode(country),
        currency=_decode(currency),
        locations=int(locations),
        accounts=int(accounts),
        building_tiv=building,
        other_tiv=other,
        contents_tiv=contents,
        bi_tiv=interruption,
        buildings=int(buildings),
        records=int(records),
        account=account,
    )


def _decode(text: str | bytes) -> str:
    """Return text, which MySQL returns as bytes after a comparison byte by byte."""
    return text.decode() if isinstance(text, bytes) else text


def _decimal(value: Any) -> Decimal:
    return Decimal(0 if value is None else value)


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


def _mysql_whole_number(column: "sa.ColumnElement[Any]") -> "sa.ColumnElement[Any]":
    import sqlalchemy as sa

    return sa.cast(column, sa.Numeric(65, 0))


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
    "mysql": TotalsDialect(_mysql_text, _mysql_number, _mysql_whole_number),
    "mariadb": TotalsDialect(_mysql_text, _mysql_number, _mysql_whole_number),
    "sqlite": TotalsDialect(_sqlite_text, _sqlite_number),
}
