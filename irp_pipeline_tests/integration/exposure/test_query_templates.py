"""Queries with named parameters on real databases: values are bound, whatever they contain."""

import datetime as dt
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.extract import Extract, extract
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers import databases, postgres
from irp_pipeline.exposure.readers.parameters import Values, mark
from irp_pipeline.exposure.readers.sources import QuerySource
from irp_pipeline.exposure.readers.totals import extract_totals
from irp_pipeline.exposure.totals.comparison import compare_totals, whole_totals
from irp_pipeline.settings import database_url

NAME = f"query_templates_{os.getpid()}"
MARIADB = os.environ.get("IRP_TEST_MARIADB_URL", "mysql+pymysql://root@127.0.0.1:3306")
DATABASES = ["postgresql", "mariadb", "sqlite", "duckdb"]
NASTY = [
    "it's",
    'say "x"',
    "a:b :name ::text",
    "100% %s %(x)s %%",
    "back\\slash\\' \\",
    "'; DROP TABLE book; --",
    "$1 ? {0} \n /* -- */ #",
    "Zürich 東京",
    " ",
]
LINES = [*NASTY, "COM"]


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, sa.URL]]:
    """The databases, each with the same table ``book``; one that is not there is left out."""
    folder = tmp_path_factory.mktemp("databases")
    postgresql = database_url().update_query_dict({"options": f"-csearch_path={NAME}"})
    found = {
        "postgresql": postgresql,
        "sqlite": sa.make_url(f"sqlite:///{folder}/book.sqlite"),
        "duckdb": sa.make_url(f"duckdb:///{folder}/book.duckdb"),
    }
    servers = []
    for server, make in (
        (sa.create_engine(database_url(), isolation_level="AUTOCOMMIT"), "SCHEMA"),
        (sa.create_engine(MARIADB, isolation_level="AUTOCOMMIT"), "DATABASE"),
    ):
        try:
            with server.connect() as connection:
                connection.exec_driver_sql(f"CREATE {make} {NAME}")
        except sa.exc.OperationalError:
            if make == "SCHEMA":
                raise
            continue  # a machine without MariaDB: the tests that need it are skipped, with this as the reason
        servers.append((server, f"DROP {make} {NAME}" + (" CASCADE" if make == "SCHEMA" else "")))
        if make == "DATABASE":
            found["mariadb"] = sa.make_url(f"{MARIADB}/{NAME}")
    for url in found.values():
        engine = sa.create_engine(url)
        book = sa.Table(
            "book",
            sa.MetaData(),
            sa.Column("locnumber", sa.Integer, autoincrement=False),
            sa.Column("accnumber", sa.Text),
            sa.Column("buildingtiv", sa.Double),
            sa.Column("locinceptiondate", sa.Date),
            sa.Column("active", sa.Boolean),
            mysql_charset="utf8mb4",
        )
        with engine.begin() as connection:
            book.create(connection)
            for number, line in enumerate(LINES):
                inception = dt.date(2024, 1, 1) + dt.timedelta(days=number)
                row = {"accnumber": line, "buildingtiv": 100.5 * number, "active": number % 2 == 0}
                connection.execute(book.insert(), {"locnumber": number, "locinceptiondate": inception, **row})
        engine.dispose()
    yield found
    for server, statement in servers:
        with server.connect() as connection:
            connection.exec_driver_sql(statement)
        server.dispose()


@pytest.fixture(params=DATABASES)
def database(request, urls: dict[str, sa.URL], monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name not in urls:
        pytest.skip(f"no {name} to test with")
    monkeypatch.setenv("IRP_SOURCE_BOOK_URL", urls[name].render_as_string(hide_password=False))
    return name


def run(folder: Path, query: str, values: Values) -> Extract:
    return extract(QuerySource("book", query, values), OedTable.LOCATION, folder / "x.parquet", with_totals=True)


def accounts(result: Extract) -> list[str]:
    return pq.read_table(result.path).column("AccNumber").to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("line", NASTY)
def test_a_text_is_bound_whatever_it_contains(tmp_path, database, line) -> None:
    result = run(tmp_path, "SELECT * FROM book WHERE accnumber = :line AND accnumber LIKE '%'", {"line": line})
    assert accounts(result) == [line]
    assert compare_totals(result.source_totals or (), extract_totals(result.path)) == []


def test_dates_numbers_truth_values_and_lists_have_their_types(tmp_path, database) -> None:
    query = """
        -- :no parameter, nor is ':no'
        SELECT locnumber, accnumber, buildingtiv, ' :no %s' AS locuserdef1, :rate * 2 AS locuserdef2 FROM book
         WHERE locinceptiondate >= :since AND buildingtiv > :above AND locnumber < :count AND active = :active
           AND accnumber IN (:lines) AND locnumber IN :numbers AND locnumber < :count
    """
    values: Values = {
        "since": dt.date(2024, 1, 2),
        "above": 100.25,
        "rate": 0.25,
        "count": 9,
        "active": True,
        "lines": tuple(LINES),
        "numbers": (2, 4, 7, 10**12),
        "unused": "x",
    }
    result = run(tmp_path, query, values)
    table = pq.read_table(result.path)
    assert table.column("LocNumber").to_pylist() == ["2", "4"]
    assert set(table.column("LocUserDef1").to_pylist()) == {" :no %s"}
    assert {float(text) for text in table.column("LocUserDef2").to_pylist()} == {0.5}
    assert compare_totals(result.source_totals or (), extract_totals(result.path)) == []


def test_a_parameter_that_is_not_known_is_named(tmp_path, database) -> None:
    with pytest.raises(ExposureError, match=r"^the query on book: :day is no parameter; there are :line"):
        run(tmp_path, "SELECT * FROM book WHERE locinceptiondate = :day", {"line": "x"})


def test_a_table_with_a_name_in_brackets_is_read(tmp_path, database) -> None:
    assert run(tmp_path, "[book]", {"unused": 1}).rows == len(LINES)


def test_a_query_with_parameters_changes_nothing_either(tmp_path, database) -> None:
    with pytest.raises(ExposureError):
        run(tmp_path, "WITH x AS (SELECT 1) DELETE FROM book WHERE accnumber = :line", {"line": "COM"})
    assert run(tmp_path, "book", {}).rows == len(LINES)


@pytest.mark.parametrize("database", ["postgresql", "duckdb"], indirect=True)
def test_a_cast_beside_a_parameter_is_a_cast(tmp_path, database) -> None:
    query = "SELECT * FROM book WHERE locinceptiondate = :day::date AND accnumber::text = 'it''s'"
    assert run(tmp_path, query, {"day": "2024-01-01"}).rows == 1


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_an_address_that_begins_with_mariadb_is_read_with_its_totals(tmp_path, database, urls, monkeypatch) -> None:
    url = urls[database].set(drivername="mariadb")
    monkeypatch.setenv("IRP_SOURCE_BOOK_URL", url.render_as_string(hide_password=False))
    result = run(tmp_path, "SELECT * FROM book WHERE accnumber = :line", {"line": "COM"})
    assert compare_totals(result.source_totals or (), extract_totals(result.path)) == []


@pytest.mark.parametrize("database", ["mariadb", "duckdb"], indirect=True)
def test_nothing_can_be_written_in_the_transaction_in_which_a_database_is_read(database, urls) -> None:
    with (
        databases.open_query("book", urls[database], "SELECT * FROM book", OedTable.LOCATION) as reader,
        pytest.raises(sa.exc.DBAPIError, match=r"READ ONLY|read-only"),
    ):
        reader._connection.exec_driver_sql("DELETE FROM book")


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_rows_and_totals_of_mariadb_are_of_one_moment_and_come_in_batches(database, urls) -> None:
    writer = sa.create_engine(urls[database], isolation_level="AUTOCOMMIT")
    with writer.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE moving (locnumber INT, buildingtiv DOUBLE)")
        numbers = [{"number": number} for number in range(25_000)]
        connection.execute(sa.text("INSERT INTO moving VALUES (:number, 1)"), numbers)
        query = "SELECT * FROM moving"
        with databases.open_query("book", urls[database], query, OedTable.LOCATION) as reader:
            sizes = []
            for batch in reader.batches():
                sizes.append(batch.num_rows)
                connection.exec_driver_sql("UPDATE moving SET buildingtiv = 2 WHERE locnumber < 100")
            (total,) = whole_totals(reader.totals())
    writer.dispose()
    assert sizes == [10_000, 10_000, 5_000]
    assert (total.locations, total.building_tiv) == (25_000, Decimal(25_000))


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_rows_of_postgresql_come_in_batches_with_parameters_too(database, urls) -> None:
    query = "SELECT i AS locnumber, repeat(:text, 100) AS remark FROM generate_series(1, :rows) AS i"
    values: Values = {"rows": 300_000, "text": "x"}
    marked = mark(query, values, "postgresql", "the query")
    with postgres.open_query("book", urls[database], marked, OedTable.LOCATION, values) as reader:
        sizes = [batch.num_rows for batch in reader.batches()]
    assert sum(sizes) == 300_000
    assert len(sizes) > 1
