"""Databases that environment variables name, and queries on them; SQLite stands for those that are not PostgreSQL."""

import sqlite3
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from psycopg2.extensions import parse_dsn
from sqlalchemy import make_url

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.extract import Extract, extract
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers import databases
from irp_pipeline.exposure.readers.postgres import connection_string
from irp_pipeline.exposure.readers.sources import QuerySource, source_names, source_url
from irp_pipeline.exposure.readers.totals import extract_totals, source_totals
from irp_pipeline.exposure.totals.comparison import compare_totals


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SQLite file with locations, under the name of EXPO."""
    file = tmp_path / "expo.sqlite"
    with sqlite3.connect(file) as connection:
        connection.executescript(
            """
            CREATE TABLE location (
                portnumber, accnumber TEXT, LOCNUMBER TEXT, CountryCode TEXT, LocPerilsCovered TEXT, LocCurrency TEXT,
                PostalCode TEXT, BuildingTIV REAL, ContentsTIV, NumberOfStoreys INTEGER, City TEXT, remark
            );
            INSERT INTO location VALUES
                (1, '007', '01', 'US', 'WTC;WSS', 'USD', '01234', 100.10, 10, 2, 'Miami', 1.5),
                (1.0, '007', '02', 'US', 'WTC', 'USD', NULL, 200.20, '20.5', NULL, NULL, NULL),
                ('1', '008', '03', 'US', 'WTC; WSS', 'USD', '', NULL, NULL, 3, '100% Tampa', x'ff00'),
                (2, '007', '01', NULL, NULL, 'EUR', '99', 5, 0, 1, 'a:b', 'text');
            """
        )
    connection.close()
    monkeypatch.setenv("IRP_SOURCE_EXPO_URL", f"sqlite:///{file}")
    return file


def extract_query(folder: Path, query: str = "SELECT * FROM location", name: str = "expo") -> Extract:
    return extract(QuerySource(name, query), OedTable.LOCATION, folder / "location.parquet", with_totals=True)


def test_a_query_arrives_with_the_types_of_oed(tmp_path) -> None:
    result = extract_query(tmp_path)
    table = pq.read_table(result.path)
    assert result.source == "query on expo"
    assert table.schema.names[:3] == ["PortNumber", "AccNumber", "LocNumber"]
    assert table.select(["PortNumber", "PostalCode", "BuildingTIV", "ContentsTIV", "NumberOfStoreys"]).to_pydict() == {
        "PortNumber": ["1", "1", "1", "2"],
        "PostalCode": ["01234", None, "", "99"],
        "BuildingTIV": [100.1, 200.2, None, 5.0],
        "ContentsTIV": [10.0, 20.5, None, 0.0],
        "NumberOfStoreys": [2, None, 3, 1],
    }
    assert table.column("remark").to_pylist() == ["1.5", None, "ff00", "text"]


def test_the_totals_that_sqlite_computes_are_those_of_the_extract(tmp_path) -> None:
    result = extract_query(tmp_path)
    assert result.source_totals is not None
    assert compare_totals(result.source_totals, extract_totals(result.path)) == []
    of_portfolio_1 = {total.peril: total for total in result.source_totals if total.portfolio == "1"}
    assert {peril: (total.locations, total.accounts) for peril, total in of_portfolio_1.items()} == {
        "WTC": (3, 2),
        "WSS": (2, 2),
        "all": (3, 2),
    }
    assert abs(of_portfolio_1["all"].building_tiv - Decimal("300.30")) < Decimal("1e-9")
    assert of_portfolio_1["all"].contents_tiv == Decimal("30.5")
    assert result.source_totals == source_totals(QuerySource("EXPO", "SELECT * FROM location"))


def test_a_database_that_does_not_add_up_by_itself_gives_the_same_totals(tmp_path, monkeypatch) -> None:
    by_database = extract_query(tmp_path).source_totals
    monkeypatch.setattr(databases, "DIALECTS", {})
    here = extract_query(tmp_path).source_totals
    assert by_database is not None
    assert here is not None
    assert compare_totals(by_database, here) == []


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM location;",
        "-- the whole book\nSELECT * FROM location -- all of it",
        "/* all */ WITH everything AS (SELECT * FROM location) SELECT * FROM everything ORDER BY portnumber",
    ],
)
def test_semicolons_comments_and_common_table_expressions_are_fine(tmp_path, query) -> None:
    assert extract_query(tmp_path, query).rows == 4


def test_per_cent_signs_and_colons_in_a_query_mean_themselves(tmp_path) -> None:
    assert extract_query(tmp_path, "SELECT * FROM location WHERE City LIKE '100%' OR City = 'a:b'").rows == 2


def test_dates_and_decimals_of_a_driver_become_text_and_numbers() -> None:
    from irp_pipeline.exposure.readers.conversion import array_of

    values = [Decimal("10.10"), None, 3, 2.0, date(2024, 1, 31), True]
    assert array_of(values).to_pylist() == ["10.10", None, "3", "2", "2024-01-31", "1"]
    assert array_of([2**70, None]).to_pylist() == [str(2**70), None]
    assert array_of([1.7, 2]).to_pylist() == ["1.7", "2"]


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM location",
        "WITH old AS (SELECT 1) DELETE FROM location",
        "SELECT * FROM location; DELETE FROM location",
        "PRAGMA user_version = 5",
    ],
)
def test_a_statement_that_changes_something_is_refused(tmp_path, database, query) -> None:
    before = database.read_bytes()
    with pytest.raises(ExposureError):
        extract_query(tmp_path, query)
    assert database.read_bytes() == before


def test_a_statement_that_changes_something_is_refused_by_a_database_without_derived_tables(
    tmp_path, database, monkeypatch
) -> None:
    monkeypatch.setattr(databases, "DIALECTS", {})
    before = database.read_bytes()
    with pytest.raises(ExposureError, match="readonly"):
        extract_query(tmp_path, "WITH old AS (SELECT 1) DELETE FROM location RETURNING *")
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM nowhere", "query on expo: no such table: nowhere"),
        ("SELECT * FROM", "query on expo: .*syntax error"),
        ("SELECT 1 AS BuildingTIV, 2 AS buildingtiv", "BuildingTIV occurs twice"),
        ("SELECT 1 AS BuildingTIV, 2 AS BuildingTIV", "BuildingTIV occurs twice"),
        ("SELECT * FROM location WHERE 1 = 0", "query on expo has no location record at all"),
        ("SELECT 'a lot' AS BuildingTIV", "query on expo, record 1, column BuildingTIV: 'a lot' is not a number"),
        ("", "must be a SELECT"),
    ],
)
def test_a_bad_query_is_told_in_the_words_of_the_database(tmp_path, query, message) -> None:
    with pytest.raises(ExposureError, match=message):
        extract_query(tmp_path, query)


def test_an_unknown_name_lists_the_variables_that_are_set_without_their_values(monkeypatch) -> None:
    monkeypatch.setenv("IRP_SOURCE_BOOK_URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("IRP_SOURCE_EMPTY_URL", " ")
    assert source_names() == ["BOOK", "EXPO"]
    with pytest.raises(ExposureError) as caught:
        source_url("bok")
    assert "IRP_SOURCE_BOK_URL is not set" in str(caught.value)
    assert "IRP_SOURCE_BOOK_URL, IRP_SOURCE_EXPO_URL" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_variable_that_is_no_url_does_not_show_its_value(monkeypatch) -> None:
    monkeypatch.setenv("IRP_SOURCE_BOOK_URL", "user:secret@host:port/db")
    with pytest.raises(ExposureError, match="IRP_SOURCE_BOOK_URL is not a database URL") as caught:
        source_url("book")
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_the_short_name_of_postgresql_is_understood(monkeypatch) -> None:
    monkeypatch.setenv("IRP_SOURCE_BOOK_URL", "postgres://user@host/db")
    assert source_url("book").get_backend_name() == "postgresql"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:////nowhere/at_all.sqlite", r"SQLite file /nowhere/at_all\.sqlite, which does not exist"),
        ("mssql+pymssql://user:secret@host/db", "needs the Python package pymssql, which is not installed"),
        ("nosuchdatabase://user:secret@host/db", "SQLAlchemy knows no database 'nosuchdatabase'"),
        (
            "postgresql://user:secret@127.0.0.1:1/db",
            r"cannot reach .* book \(postgresql, host 127\.0\.0\.1:1, database db, user user\): .*refused",
        ),
    ],
)
def test_a_database_out_of_reach_is_named_without_its_password(tmp_path, monkeypatch, url, message) -> None:
    monkeypatch.setenv("IRP_SOURCE_BOOK_URL", url)
    with pytest.raises(ExposureError, match=message) as caught:
        extract_query(tmp_path, name="book")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        (
            "postgresql+psycopg2://me:p%40ss%3Aw%2Fo%3Fr%23d%2541%20%27%22%5C%C3%A4@db.example.com:5433/my%20book",
            {
                "user": "me",
                "password": "p@ss:w/o?r#d%41 '\"\\ä",
                "host": "db.example.com",
                "port": "5433",
                "dbname": "my book",
                "connect_timeout": "10",
            },
        ),
        ("postgresql://me@/book?host=/run/my%20sockets", {"host": "/run/my sockets", "dbname": "book"}),
        ("postgresql://me@[::1]/book?connect_timeout=3", {"host": "::1", "connect_timeout": "3"}),
        ("postgresql://me@/book?host=a&host=b&sslmode=require", {"host": "a,b", "sslmode": "require"}),
    ],
)
def test_everything_in_a_postgresql_url_reaches_the_client_library(url, parameters) -> None:
    assert parse_dsn(connection_string(make_url(url))).items() >= parameters.items()
