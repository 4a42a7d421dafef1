"""Extracting from PostgreSQL: its types, one snapshot, nothing changed, bounded memory."""

import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.extract import Extract, extract
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.sources import FileSource, QuerySource
from irp_pipeline.exposure.readers.totals import extract_totals, source_totals
from irp_pipeline.exposure.totals.comparison import compare_totals
from irp_pipeline.settings import database_url

SCHEMA = f"exposure_source_{os.getpid()}"
LOCATIONS = """
    SELECT (1 + i % 3)::text AS portnumber, 'A' || lpad((i / 10)::text, 7, '0') AS accnumber,
           lpad((i % 10)::text, 3, '0') AS locnumber, 'US' AS countrycode,
           lpad((i % 99999)::text, 5, '0') AS postalcode, i || ' Main Street' AS streetaddress,
           25 + i % 20 + 0.25 AS latitude, -90 - i % 30 - 0.5 AS longitude,
           1050 + i % 30 AS occupancycode, (ARRAY['WTC', 'WTC;WSS', 'AA1'])[1 + i % 3] AS locperilscovered,
           (i % 100000) * 1.01::float8 AS buildingtiv, (i % 1000)::numeric / 100 AS contentstiv, 'USD' AS loccurrency,
           NULL::float8 AS loclimit6all
    FROM generate_series(1, {rows}) AS i
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[sa.Engine]:
    """The server, with an empty schema of this module's own first in the search path."""
    engine = sa.create_engine(
        database_url(), isolation_level="AUTOCOMMIT", connect_args={"options": f"-csearch_path={SCHEMA}"}
    )
    with engine.connect() as connection:
        connection.execute(sa.text(f'CREATE SCHEMA "{SCHEMA}"'))
        yield engine
        connection.execute(sa.text(f'DROP SCHEMA "{SCHEMA}" CASCADE'))
    engine.dispose()


@pytest.fixture(autouse=True)
def source_variable(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> str:
    url = database_url().update_query_dict({"options": f"-csearch_path={SCHEMA}"})
    value = url.render_as_string(hide_password=False)
    monkeypatch.setenv("IRP_SOURCE_EXPO_URL", value)
    return value


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def extract_query(folder: Path, query: str, **options) -> Extract:
    return extract(QuerySource("expo", query), OedTable.LOCATION, folder / "location.parquet", **options)


def row_of(result: Extract) -> dict[str, object]:
    rows: list[dict[str, object]] = pq.read_table(result.path).to_pylist()
    assert len(rows) == 1
    return rows[0]


def test_the_types_of_postgresql_are_brought_to_those_of_oed(tmp_path) -> None:
    result = extract_query(
        tmp_path,
        """
        SELECT '0001'::char(20) AS portnumber, 7::bigint AS accnumber, 3::numeric AS locnumber,
               1234::float8 AS postalcode, 'ä'::varchar(5) AS city, 'a7d9e6f0-0000-0000-0000-000000000000'::uuid
               AS locname,
               12345678901.10::numeric(20, 2) AS buildingtiv, 1.5::real AS othertiv, 7 AS contentstiv,
               ' 8.5 '::text AS bitiv, 'NaN'::float8 AS locded6all, 'NaN'::numeric AS loclimit6all,
               true AS istenant, 2.0::float8 AS numberofstoreys, 1970::numeric AS yearbuilt, '5'::text AS roofcover,
               DATE '2024-01-31' AS locinceptiondate, TIMESTAMP '2024-12-31 00:00' AS locexpirydate,
               TIMESTAMPTZ '2024-06-30 02:00+02' AS completiondate, TIMESTAMP '2024-06-30 10:30' AS locuserdef1,
               '{"a": 1}'::jsonb AS "FlexiLocTerms", false AS locuserdef2, NULL AS locuserdef3, NULL::int AS basement,
               12.30::money AS "my own"
        """,
    )
    assert row_of(result) == {
        "PortNumber": "0001",
        "AccNumber": "7",
        "LocNumber": "3",
        "PostalCode": "1234",
        "City": "ä",
        "LocName": "a7d9e6f0-0000-0000-0000-000000000000",
        "BuildingTIV": 12345678901.10,
        "OtherTIV": 1.5,
        "ContentsTIV": 7.0,
        "BITIV": 8.5,
        "LocDed6All": None,
        "LocLimit6All": None,
        "IsTenant": 1,
        "NumberOfStoreys": 2,
        "YearBuilt": 1970,
        "RoofCover": 5,
        "LocInceptionDate": "2024-01-31",
        "LocExpiryDate": "2024-12-31",
        "CompletionDate": "2024-06-30",
        "LocUserDef1": "2024-06-30 10:30:00",
        "FlexiLocTerms": '{"a": 1}',
        "LocUserDef2": "0",
        "LocUserDef3": None,
        "Basement": None,
        "my own": "$12.30",
    }


def test_a_database_and_a_csv_file_with_the_same_rows_give_the_same_extract(tmp_path, engine) -> None:
    query = LOCATIONS.format(rows=1000)
    from_database = extract_query(tmp_path, query)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(query, execution_options={"no_parameters": True}).all()
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    header = ",".join(from_database.columns)
    (tmp_path / "location.csv").write_text("\n".join([header, *lines]))
    from_file = extract(FileSource(tmp_path / "location.csv"), OedTable.LOCATION, tmp_path / "from_file.parquet")
    assert from_file.sha256 == from_database.sha256


def test_the_totals_that_postgresql_computes_are_those_of_the_extract(tmp_path) -> None:
    result = extract_query(tmp_path, LOCATIONS.format(rows=100_000), with_totals=True)
    assert result.rows == 100_000
    assert result.source_totals is not None
    assert len(result.source_totals) == 3 + 1 + 3
    assert compare_totals(result.source_totals, extract_totals(result.path)) == []


def test_totals_understand_amounts_kept_as_text_and_empty_cells(tmp_path) -> None:
    query = """
        SELECT * FROM (VALUES
            ('1', 'A', 'WTC', 'US', 'USD', ' 10.5 ', 'NaN'::float8), ('1', 'B', 'WTC', 'US', 'USD', '', 1.25),
            ('1', '', 'WTC', 'US', 'USD', NULL, NULL), ('1', NULL, '', '', NULL, '2', 2.5)
        ) AS v(portnumber, accnumber, locperilscovered, countrycode, loccurrency, buildingtiv, bitiv)
    """
    result = extract_query(tmp_path, query, with_totals=True)
    assert compare_totals(result.source_totals or (), extract_totals(result.path)) == []
    (wind,) = [total for total in result.source_totals or () if total.peril == "WTC"]
    assert (wind.locations, wind.accounts, wind.building_tiv, wind.bi_tiv) == (3, 2, Decimal("10.5"), Decimal("1.25"))


def test_rows_and_totals_are_of_one_moment_while_others_write(tmp_path, engine) -> None:
    run(engine, f"CREATE TABLE busy AS {LOCATIONS.format(rows=300_000)}")

    def write_more(rows: int) -> None:
        run(engine, "DELETE FROM busy WHERE locnumber = '005'", "UPDATE busy SET buildingtiv = buildingtiv + 1")

    source = QuerySource("expo", "SELECT * FROM busy")
    result = extract(source, OedTable.LOCATION, tmp_path / "x.parquet", progress=write_more, with_totals=True)
    assert result.rows == 300_000
    assert compare_totals(result.source_totals or (), extract_totals(result.path)) == []
    assert compare_totals(source_totals(source), extract_totals(result.path)) != []


def test_the_same_rows_give_the_same_file(tmp_path, engine) -> None:
    run(engine, f"CREATE TABLE calm AS {LOCATIONS.format(rows=200_000)}")
    assert extract_query(tmp_path, "TABLE calm").sha256 == extract_query(tmp_path, "SELECT * FROM calm").sha256


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM nowhere", 'query on expo: relation "nowhere" does not exist'),
        ("SELECT * FROM", "query on expo: syntax error"),
        ("SELECT 1 AS BuildingTIV, 2 AS buildingtiv", "BuildingTIV occurs twice"),
        ("SELECT 1 AS x; SELECT 2", "query on expo: syntax error"),
        ("WITH gone AS (DELETE FROM busy2 RETURNING *) SELECT * FROM gone", "WITH clause .* must be at the top level"),
        ("SELECT nextval('numbers') AS locnumber", "cannot execute nextval.* in a read-only transaction"),
        ("SELECT 1 AS locnumber WHERE false", "query on expo has no location record at all"),
        ("SELECT 'a lot' AS buildingtiv", "query on expo, record 1, column BuildingTIV: 'a lot' is not a number"),
        ("SELECT 1 / (250000 - i) AS locnumber FROM generate_series(1, 300000) AS i", "division by zero"),
    ],
)
def test_a_bad_query_is_told_in_the_words_of_the_server_and_changes_nothing(tmp_path, engine, query, message) -> None:
    run(
        engine,
        "CREATE TABLE IF NOT EXISTS busy2 AS SELECT 1 AS locnumber",
        "CREATE SEQUENCE IF NOT EXISTS numbers",
    )
    with pytest.raises(ExposureError, match=message):
        extract_query(tmp_path, query, with_totals=True)
    assert list(tmp_path.iterdir()) == []
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT (SELECT count(*) FROM busy2), is_called FROM numbers").one() == (
            1,
            False,
        )


def test_a_connection_lost_on_the_way_leaves_nothing(tmp_path, engine) -> None:
    def cut(rows: int) -> None:
        run(
            engine,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'irp_pipeline' AND query LIKE '%lost on the way%'",
        )

    query = "-- lost on the way\n" + LOCATIONS.format(rows=1_000_000)
    with pytest.raises(ExposureError, match=r"query on expo: .*(closed the connection|terminating)"):
        extract_query(tmp_path, query, progress=cut)
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_does_not_exist_is_named_without_the_password(tmp_path, monkeypatch) -> None:
    url = database_url().set(database="no_such_database", password="secret")
    monkeypatch.setenv("IRP_SOURCE_EXPO_URL", url.render_as_string(hide_password=False))
    with pytest.raises(ExposureError, match=r"cannot reach the source database expo .*no_such_database") as caught:
        extract_query(tmp_path, "SELECT 1 AS locnumber")
    assert "secret" not in str(caught.value)


EXTRACT_AND_TELL_MEMORY = """
import sys
from pathlib import Path
from irp_pipeline.exposure.extract import extract
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.sources import FileSource, QuerySource
from irp_pipeline.exposure.totals.comparison import compare_totals
from irp_pipeline.exposure.readers.totals import extract_totals

kind, text = sys.argv[1:]
source = FileSource(Path(text)) if kind == "file" else QuerySource(kind, text)
result = extract(source, OedTable.LOCATION, Path("memory.parquet"), with_totals=True)
assert compare_totals(result.source_totals, extract_totals(result.path)) == []
status = Path("/proc/self/status").read_text()
print(result.rows, int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""
SQLITE_LOCATIONS = """
    WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < {rows})
    SELECT '1' AS PortNumber, 'A' || (i / 10) AS AccNumber, i AS LocNumber, 'US' AS CountryCode, 'USD' AS LocCurrency,
           i || ' Main Street' AS StreetAddress, i * 1.01 AS BuildingTIV, 'WTC;WSS' AS LocPerilsCovered FROM numbers
"""


@pytest.mark.parametrize("kind", ["expo", "sqlite", "csv", "parquet"])
def test_memory_is_bounded_and_grows_by_what_tells_locations_apart_only(tmp_path, source_variable, kind) -> None:
    (tmp_path / "empty.sqlite").touch()
    environment = {**os.environ, "IRP_SOURCE_SQLITE_URL": f"sqlite:///{tmp_path}/empty.sqlite"}
    query = SQLITE_LOCATIONS if kind == "sqlite" else LOCATIONS

    def peak_megabytes(rows: int) -> int:
        arguments = [kind, query.format(rows=rows)]
        if kind in ("csv", "parquet"):
            arguments = ["file", str(write_file(tmp_path / f"location.{kind}", rows))]
        output = subprocess.check_output(
            [sys.executable, "-c", EXTRACT_AND_TELL_MEMORY, *arguments], cwd=tmp_path, text=True, env=environment
        )
        extracted, megabytes = map(int, output.split())
        assert extracted == rows
        return megabytes

    small, large = peak_megabytes(100_000), peak_megabytes(400_000)
    assert large < 500
    assert large < small + 75  # of 300,000 more locations, which must be told apart


def write_file(file: Path, rows: int) -> Path:
    import pyarrow as pa
    from pyarrow import csv

    numbers = range(rows)
    table = pa.table(
        {
            "PortNumber": ["1"] * rows,
            "AccNumber": [f"A{number // 10:07}" for number in numbers],
            "LocNumber": [f"{number:07}" for number in numbers],
            "StreetAddress": [f"{number} Main Street" for number in numbers],
            "LocPerilsCovered": ["WTC;WSS"] * rows,
            "BuildingTIV": [number + 0.25 for number in numbers],
        }
    )
    if file.suffix == ".csv":
        csv.write_csv(table, file)
    else:
        pq.write_table(table, file, row_group_size=rows)
    return file
