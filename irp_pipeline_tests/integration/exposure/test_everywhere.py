"""The same portfolio from every kind of source: equal tables and totals, equal files for a job, equal losses."""

import csv
import os
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.extract import Extract, extract
from irp_pipeline.exposure.oed import ColumnType, OedTable, oed_columns
from irp_pipeline.exposure.portfolio import folder_hash, portfolio_file, portfolio_files, write_portfolio_file
from irp_pipeline.exposure.readers.sources import FileSource, QuerySource, Source
from irp_pipeline.exposure.readers.totals import extract_totals, source_totals
from irp_pipeline.exposure.totals.comparison import compare_totals, whole_totals
from irp_pipeline.exposure.totals.control_total import ControlTotals
from irp_pipeline.exposure.validate import needs_of_perspectives, validate
from irp_pipeline.settings import database_url
from irp_pipeline_tests.support.oasis_jobs import run_job

NAME = f"exposure_everywhere_{os.getpid()}"
MARIADB = os.environ.get("IRP_TEST_MARIADB_URL", "mysql+pymysql://root@127.0.0.1:3306")
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[sa.Engine]:
    engine = sa.create_engine(
        database_url(), isolation_level="AUTOCOMMIT", connect_args={"options": f"-csearch_path={NAME}"}
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f'CREATE SCHEMA "{NAME}"')
        yield engine
        connection.exec_driver_sql(f'DROP SCHEMA "{NAME}" CASCADE')
    engine.dispose()


@pytest.fixture(scope="module")
def mariadb() -> Iterator[sa.Engine]:
    pytest.importorskip("pymysql", reason="PyMySQL is not installed")
    server = sa.create_engine(MARIADB, isolation_level="AUTOCOMMIT")
    try:
        connection = server.connect()
    except sa.exc.OperationalError as error:
        pytest.skip(f"no MariaDB to test with: {error.orig}")
    with connection:
        connection.exec_driver_sql(f"CREATE DATABASE {NAME}")
        engine = sa.create_engine(f"{MARIADB}/{NAME}", isolation_level="AUTOCOMMIT")
        yield engine
        engine.dispose()
        connection.exec_driver_sql(f"DROP DATABASE {NAME}")
    server.dispose()


@pytest.fixture
def databases(
    tmp_path: Path, postgresql: sa.Engine, mariadb: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> dict[str, sa.Engine]:
    """The databases by name, each named in the environment as a source."""
    sqlite = sa.create_engine(f"sqlite:///{tmp_path}/expo.sqlite", isolation_level="AUTOCOMMIT")
    with sqlite.connect() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 1")  # makes the file
    engines = {"postgresql": postgresql, "mariadb": mariadb, "sqlite": sqlite}
    for name, engine in engines.items():
        url = engine.url
        if name == "postgresql":
            url = url.update_query_dict({"options": f"-csearch_path={NAME}"})
        monkeypatch.setenv(f"IRP_SOURCE_{name.upper()}_URL", url.render_as_string(hide_password=False))
    return engines


identifiers = st.sampled_from(
    ["1", "01", "007", "10000000002", "100000000000001", "9223372036854775807", "A-1", "Å 1", "it's", 'say "x"', "1e5"]
)
amounts = st.decimals(0, 10**9, places=2).map(float)
blank_or = st.none() | st.text("abcdeé %:,;\n", min_size=1, max_size=8).map(lambda text: f"x{text}x")


@st.composite
def locations(draw: st.DrawFn) -> Rows:
    """Valid locations, some of them in several rows because of several tags."""
    rows: Rows = []
    numbers = draw(st.lists(st.tuples(identifiers, identifiers, identifiers), min_size=1, max_size=5, unique=True))
    for portfolio, account, number in numbers:
        location = {
            "PortNumber": portfolio,
            "AccNumber": account,
            "LocNumber": number,
            "StreetAddress": draw(blank_or),
            "PostalCode": draw(st.sampled_from([None, "01234", "SW1"])),
            "CountryCode": draw(st.sampled_from(["GB", "NA"])),
            "LocCurrency": draw(st.sampled_from(["GBP", "EUR"])),
            "LocPerilsCovered": draw(st.sampled_from(["WW1", "WTC;WSS", "WSS;WTC"])),
            "Latitude": draw(st.floats(-90, 90)),
            "BuildingTIV": draw(amounts),
            "ContentsTIV": draw(st.none() | amounts),
            "NumberOfBuildings": draw(st.none() | st.integers(0, 50)),
            "LocInceptionDate": draw(st.sampled_from([None, "2024-01-31"])),
        }
        tags = draw(st.lists(identifiers, max_size=3, unique=True))
        rows += [{**location, "CondTag": tag} for tag in (tags or (None,))]
    return rows


@st.composite
def accounts(draw: st.DrawFn) -> Rows:
    """Layers of policies, some with conditions."""
    return [
        {
            "PortNumber": portfolio,
            "AccNumber": account,
            "PolNumber": draw(identifiers),
            "LayerNumber": layer,
            "LayerParticipation": draw(st.floats(0, 1)),
            "LayerLimit": draw(amounts),
            "CondTag": draw(st.none() | identifiers),
            "CondNumber": draw(st.none() | identifiers),
        }
        for portfolio, account in draw(st.lists(st.tuples(identifiers, identifiers), min_size=1, max_size=3))
        for layer in range(1, draw(st.integers(1, 3)) + 1)
    ]


@st.composite
def treaty_scopes(draw: st.DrawFn) -> Rows:
    return [
        {
            "ReinsNumber": number,
            "PortNumber": draw(st.none() | identifiers),
            "AccNumber": draw(st.none() | identifiers),
            "LocNumber": draw(st.none() | identifiers),
            "CededPercent": draw(st.floats(0, 1)),
        }
        for number in range(1, draw(st.integers(1, 4)) + 1)
    ]


def sources(folder: Path, engines: dict[str, sa.Engine], table: OedTable, rows: Rows) -> dict[str, Source]:
    """Put the rows into every kind of source."""
    names = list(rows[0])
    types = {column.name: column.type for column in oed_columns(table, names, "test")}
    with (folder / f"{table}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([names, *([row[name] for name in names] for row in rows)])
    kinds = {ColumnType.TEXT: pa.string(), ColumnType.NUMBER: pa.float64()}
    schema = pa.schema([(name, kinds.get(types[name], pa.int64())) for name in names])
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{table}.parquet")
    found: dict[str, Source] = {kind: FileSource(folder / f"{table}.{kind}") for kind in ("csv", "parquet")}
    for name, engine in engines.items():
        fill(engine, table, names, types, rows)
        columns = ", ".join(column.lower() for column in names)
        found[name] = QuerySource(name, f"SELECT {columns} FROM {table}_rows ORDER BY position")
    return found


def fill(engine: sa.Engine, table: OedTable, names: list[str], types: dict[str, ColumnType], rows: Rows) -> None:
    kinds = {ColumnType.TEXT: sa.Text(), ColumnType.NUMBER: sa.Double()}
    target = sa.Table(
        f"{table}_rows",
        sa.MetaData(),
        sa.Column("position", sa.Integer),
        *(sa.Column(name.lower(), kinds.get(types[name], sa.BigInteger())) for name in names),
        mysql_charset="utf8mb4",
    )
    values = [
        {"position": position, **{name.lower(): row[name] for name in names}} for position, row in enumerate(rows)
    ]
    with engine.connect() as connection:
        target.drop(connection, checkfirst=True)
        target.create(connection)
        connection.execute(target.insert(), values)


def table_of(result: Extract) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(result.path).to_pylist()
    return rows


def assert_equal_everywhere(folder: Path, engines: dict[str, sa.Engine], table: OedTable, rows: Rows) -> ControlTotals:
    is_location = table is OedTable.LOCATION
    totals = ControlTotals()
    files: dict[str, bytes] = {}
    for kind, source in sources(folder, engines, table, rows).items():
        result = extract(source, table, folder / "extract.parquet", with_totals=is_location)
        assert table_of(result) == rows, kind
        if is_location:
            totals = extract_totals(result.path)
            assert compare_totals(result.source_totals or (), totals) == [], kind
            assert (result.source_totals or ControlTotals()).by_account is not None
        write_portfolio_file(result.path, folder / "for_job.csv")
        files[kind] = (folder / "for_job.csv").read_bytes()
    assert set(files.values()) == {files["csv"]}  # to the byte: what a job computes with does not tell its source
    return totals


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=locations())
@example(
    rows=[
        {"PortNumber": "1", "AccNumber": "1", "LocNumber": "1", "StreetAddress": None, "PostalCode": None}
        | {"CountryCode": "GB", "LocCurrency": "GBP", "LocPerilsCovered": "WW1", "Latitude": -0.0}
        | {"BuildingTIV": -0.0, "ContentsTIV": None, "NumberOfBuildings": None, "LocInceptionDate": None}
        | {"CondTag": None}
    ]
)
def test_locations_arrive_equal_from_every_source_with_equal_totals(tmp_path, databases, rows) -> None:
    totals = assert_equal_everywhere(tmp_path, databases, OedTable.LOCATION, rows)
    by_hand = {(row["PortNumber"], row["AccNumber"], row["LocNumber"]): row for row in rows}
    whole = whole_totals(totals)
    assert sum(total.locations for total in whole) == len(by_hand)
    assert sum(total.records for total in whole) == len(rows)
    assert sum(total.buildings for total in whole) == sum(row["NumberOfBuildings"] or 1 for row in by_hand.values())
    by_hand_tiv = sum(
        Decimal(str(row["BuildingTIV"])) + Decimal(str(row["ContentsTIV"] or 0)) for row in by_hand.values()
    )
    assert abs(sum((total.tiv for total in whole), Decimal(0)) - by_hand_tiv) < Decimal("1e-6")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=accounts(), scopes=treaty_scopes())
def test_layers_and_treaties_arrive_equal_from_every_source(tmp_path, databases, layers, scopes) -> None:
    assert_equal_everywhere(tmp_path, databases, OedTable.ACCOUNT, layers)
    assert_equal_everywhere(tmp_path, databases, OedTable.RI_SCOPE, scopes)


Portfolio = dict[OedTable, Rows]


@st.composite
def portfolios(draw: st.DrawFn) -> Portfolio:
    """A portfolio that can be run: conditions by tags, layers that do not overlap, and a quota share of one account."""
    places = draw(locations())
    tags: dict[tuple[str, str], dict[str, None]] = {}
    for row in places:
        row |= {"CountryCode": "GB", "LocCurrency": "GBP", "LocPerilsCovered": "WTC", "OccupancyCode": 1050}
        row |= {"BuildingTIV": draw(st.sampled_from([1000.0, 250000.25])), "OtherTIV": 0.0, "ConstructionCode": 5000}
        row |= {"ContentsTIV": draw(st.sampled_from([None, 500.5])), "BITIV": 0.0, "LocInceptionDate": None}
        tags.setdefault((row["PortNumber"], row["AccNumber"]), {}).setdefault(row["CondTag"])
    of_first: dict[tuple[str, str, str], Any] = {}
    for row in places:  # all rows of a location have its values
        first = of_first.setdefault((row["PortNumber"], row["AccNumber"], row["LocNumber"]), row)
        row |= {name: first[name] for name in ("BuildingTIV", "ContentsTIV")}
    layers: Rows = []
    for (portfolio, account), of_account in tags.items():
        attachments = [0.0, 400.0][: draw(st.integers(1, 2))]
        for number, attachment in enumerate(attachments, start=1):
            layer = {
                "PortNumber": portfolio, "AccNumber": account, "AccCurrency": "GBP", "PolNumber": "P 1",
                "PolPerilsCovered": "WTC", "LayerNumber": number, "LayerAttachment": attachment, "LayerLimit": 400.0,
                "LayerParticipation": draw(st.sampled_from([1.0, 0.35])),
            }  # fmt: skip
            for priority, tag in enumerate(of_account, start=1):
                condition = {
                    "CondTag": tag, "CondNumber": tag, "CondPriority": priority, "CondPeril": "WTC",
                    "CondDedCode6All": 0, "CondDedType6All": 0, "CondDed6All": 25.0,
                }  # fmt: skip
                layers.append(layer | (condition if tag else dict.fromkeys(condition)))
    portfolio, account = draw(st.sampled_from(sorted(tags)))
    treaty = {
        "ReinsNumber": 1, "ReinsLayerNumber": 1, "ReinsPeril": "WTC", "CededPercent": 0.4, "PlacedPercent": 1.0,
        "ReinsCurrency": "GBP", "InuringPriority": 1, "ReinsType": "QS", "RiskLevel": "ACC",
    }  # fmt: skip
    scope = {"ReinsNumber": 1, "PortNumber": portfolio, "AccNumber": account, "CededPercent": None}
    return {
        OedTable.LOCATION: places, OedTable.ACCOUNT: layers, OedTable.RI_INFO: [treaty], OedTable.RI_SCOPE: [scope],
    }  # fmt: skip


def files_for_jobs(folder: Path, engines: dict[str, sa.Engine], portfolio: Portfolio) -> dict[str, Path]:
    """The files of a portfolio as a job gets them, in a folder for each kind of source."""
    folders: dict[str, Path] = {}
    for table, rows in portfolio.items():
        for kind, source in sources(folder, engines, table, rows).items():
            folders.setdefault(kind, folder / kind).mkdir(exist_ok=True)
            result = extract(source, table, folder / "extract.parquet")
            write_portfolio_file(result.path, portfolio_file(folders[kind], table))
    return folders


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(portfolio=portfolios())
def test_a_job_gets_the_same_bytes_from_every_source(tmp_path, databases, portfolio) -> None:
    folders = files_for_jobs(tmp_path, databases, portfolio)
    assert len(folders) == 5
    assert len({folder_hash(folder) for folder in folders.values()}) == 1
    for table in portfolio:
        assert len({portfolio_file(folder, table).read_bytes() for folder in folders.values()}) == 1
    files = portfolio_files(folders["mariadb"])
    errors = [of for of in validate(files, needs=needs_of_perspectives(["GUL", "IL", "RI"])) if of.severity == "error"]
    assert errors == []


@settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink would run the engine for an hour
)
@given(portfolio=portfolios(), other=st.sampled_from(["parquet", "postgresql", "mariadb", "sqlite"]))
def test_deterministic_losses_are_equal_from_two_sources(tmp_path_factory, databases, portfolio, other) -> None:
    """Real figures of the program of a job; half of all insured values are lost."""
    folder = tmp_path_factory.mktemp("figures")
    folders = files_for_jobs(folder, databases, portfolio)
    analysis: dict[str, Any] = {
        "engine": "oasis_deterministic", "currency": "GBP", "perspectives": ["GUL", "IL", "RI"], "loss_factor": [0.5],
    }  # fmt: skip
    jobs = [run_job(folder / f"job_{kind}", folders[kind], analysis) for kind in ("csv", other)]
    assert [job.error for job in jobs] == [None, None]
    assert jobs[0].figures() == jobs[1].figures()
    tables = [pq.read_table(job.folder / job.outcome["files"]["losses"]) for job in jobs]
    assert tables[0].equals(tables[1])
    values = {
        (row["PortNumber"], row["AccNumber"], row["LocNumber"]): row["BuildingTIV"] + (row["ContentsTIV"] or 0)
        for row in portfolio[OedTable.LOCATION]
    }
    ground_up = jobs[0].figures()["GUL", "LOSS", 0.5]
    assert ground_up == pytest.approx(0.5 * sum(values.values()), abs=0.01 * 2 * len(values))
    assert jobs[0].figures()["IL", "LOSS", 0.5] <= ground_up + 0.01


WHOLE_NUMBERS = {
    "postgresql": {
        "double": "{}::float8",
        "single": "{}::float4",
        "decimal": "{}.00::numeric(30, 2)",
        "whole": "{}::int8",
    },
    "mariadb": {"double": "CAST({} AS DOUBLE)", "decimal": "CAST({} AS DECIMAL(30, 2))", "whole": "{}"},
    "sqlite": {"double": "CAST({} AS REAL)", "whole": "{}"},
}
KINDS = [(name, kind) for name, kinds in WHOLE_NUMBERS.items() for kind in kinds]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_a_number_becomes_the_identifier_that_it_stands_for(tmp_path, databases, name, kind) -> None:
    number = {"double": 100000000000001, "single": 16777216, "decimal": 9223372036854775807}.get(kind, 2**62 + 1)
    expression = WHOLE_NUMBERS[name][kind].format(number)
    query = f"""
        SELECT 1 AS portnumber, {expression} AS accnumber, {expression} AS locnumber, 10.5 AS buildingtiv
        UNION ALL SELECT 1, {expression}, {expression}, 10.5 UNION ALL SELECT 1, {expression}, NULL, 1.5
    """
    result = extract(QuerySource(name, query), OedTable.LOCATION, tmp_path / "x.parquet", with_totals=True)
    table = pq.read_table(result.path)
    assert table.column("LocNumber").to_pylist() == [str(number), str(number), None]
    assert table.column("AccNumber").to_pylist() == [str(number)] * 3
    assert compare_totals(result.source_totals or (), extract_totals(result.path)) == []
    assert [total.locations for total in whole_totals(result.source_totals or ())] == [2]


@pytest.mark.parametrize(
    ("name", "expression", "message"),
    [
        ("postgresql", "1.5::float8", "1.5 has a fraction, so it is not an identifier"),
        ("postgresql", "1.50::numeric", "1.50 has a fraction"),
        ("postgresql", "1e17::float8", "so large that another number could be meant"),
        ("postgresql", "16777218::float4", "so large that another number could be meant"),
        ("postgresql", "true", "True is a boolean, not an identifier"),
        ("postgresql", "DATE '2024-01-31'", "2024-01-31 is a date or time, not an identifier"),
        ("postgresql", "TIMESTAMPTZ '2024-01-31 00:00'", "is a date or time, not an identifier"),
        ("mariadb", "1.5e0", "1.5 has a fraction"),
        ("mariadb", "1.50", "1.50 has a fraction"),
        ("mariadb", "1e17", "so large that another number could be meant"),
        ("mariadb", "DATE '2024-01-31'", "2024-01-31 is a date or time"),
        ("sqlite", "1.5", "1.5 has a fraction"),
        ("sqlite", "1e17", "so large that another number could be meant"),
    ],
)
def test_what_cannot_be_an_identifier_is_named_with_its_record(tmp_path, databases, name, expression, message) -> None:
    query = f"SELECT NULL AS locnumber UNION ALL SELECT {expression}"
    with pytest.raises(ExposureError, match=f"^query on {name}, record 2, column LocNumber: .*{message}"):
        extract(QuerySource(name, query), OedTable.LOCATION, tmp_path / "x.parquet")


@pytest.mark.parametrize("name", ["postgresql", "mariadb", "sqlite"])
def test_text_that_can_be_two_amounts_is_refused(tmp_path, databases, name) -> None:
    query = "SELECT '1' AS locnumber, '1234.5' AS buildingtiv UNION ALL SELECT '2', '850.000'"
    with pytest.raises(ExposureError, match=r"record 2, column BuildingTIV: the text '850\.000' can be 850 or 850,000"):
        extract(QuerySource(name, query), OedTable.LOCATION, tmp_path / "x.parquet")


def test_a_truth_value_is_no_amount(tmp_path, databases) -> None:
    query = "SELECT '1' AS locnumber, true AS buildingtiv"
    with pytest.raises(ExposureError, match="record 1, column BuildingTIV: True is not a number"):
        extract(QuerySource("postgresql", query), OedTable.LOCATION, tmp_path / "x.parquet")


def test_a_single_precision_float_of_mariadb_is_refused_as_an_identifier(tmp_path, databases) -> None:
    query = "SELECT CAST(1234567 AS FLOAT) AS locnumber"
    with pytest.raises(ExposureError, match=r"column LocNumber: is a FLOAT, .* six digits\. Read it as text"):
        extract(QuerySource("mariadb", query), OedTable.LOCATION, tmp_path / "x.parquet")


def test_a_url_of_mysql_without_a_driver_is_read_with_pymysql(tmp_path, databases, mariadb, monkeypatch) -> None:
    monkeypatch.setenv(
        "IRP_SOURCE_PLAIN_URL", mariadb.url.set(drivername="mysql").render_as_string(hide_password=False)
    )
    result = extract(QuerySource("plain", "SELECT '007' AS locnumber"), OedTable.LOCATION, tmp_path / "x.parquet")
    assert result.rows == 1


@pytest.mark.parametrize("kind", ["csv", "parquet", "postgresql", "mariadb", "sqlite"])
def test_a_location_in_several_rows_counts_once_wherever_it_comes_from(tmp_path, databases, kind) -> None:
    row: dict[str, Any] = {"PortNumber": "1", "AccNumber": "A", "LocNumber": "1", "LocPerilsCovered": "WW1"}
    row |= {"BuildingTIV": 1000.0, "ContentsTIV": 500.0, "CondTag": "C1"}
    rows = [row, row | {"CondTag": "C2"}, row | {"LocNumber": "2"}]
    (total,) = whole_totals(source_totals(sources(tmp_path, databases, OedTable.LOCATION, rows)[kind]))
    assert (total.records, total.locations, total.accounts, total.tiv) == (3, 2, 1, Decimal(3000))


def test_the_midnight_of_sqlite_is_no_part_of_a_date(tmp_path, databases) -> None:
    with sqlite3.connect(tmp_path / "expo.sqlite") as connection:
        connection.execute("CREATE TABLE dated (locnumber TEXT, locinceptiondate DATETIME, locexpirydate DATETIME)")
        connection.execute("INSERT INTO dated VALUES ('1', '2024-01-31 00:00:00', '2024-12-31T00:00:00.000')")
        connection.execute("INSERT INTO dated VALUES ('2', '2024-01-31 10:30:00', NULL)")
    connection.close()
    result = extract(QuerySource("sqlite", "SELECT * FROM dated"), OedTable.LOCATION, tmp_path / "x.parquet")
    table = pq.read_table(result.path)
    assert table.column("LocInceptionDate").to_pylist() == ["2024-01-31", "2024-01-31 10:30:00"]
    assert table.column("LocExpiryDate").to_pylist() == ["2024-12-31", None]
    with pytest.raises(ExposureError, match=r"record 2, column LocNumber: 1\.5 has a fraction"):
        extract(
            QuerySource("sqlite", "SELECT 'A' AS locnumber UNION ALL SELECT 1.5"),
            OedTable.LOCATION,
            tmp_path / "y.parquet",
        )
