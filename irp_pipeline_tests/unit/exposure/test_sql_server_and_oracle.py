"""SQL Server and Oracle as sources: tried against SQLAlchemy's dialects and the drivers, not against a server.

No machine of the tests has these servers. So a stand-in takes the place of the driver (of pyodbc) or of its connection
(of oracledb), records what it is told, and delivers rows as the driver would; everything above it is real. Whether the
servers do what their documentation says is not tried here.
"""

import datetime as dt
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import oracledb
import pyarrow.parquet as pq
import pytest

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.extract import Extract, extract
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.parameters import Values
from irp_pipeline.exposure.readers.sources import QuerySource
from irp_pipeline.exposure.readers.totals import extract_totals
from irp_pipeline.exposure.totals.comparison import compare_totals, whole_totals
from irp_pipeline_tests.support.driver_stand_ins import DATETIMEOFFSET, Connection, Server, pyodbc_stand_in

SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL SNAPSHOT"
READ_ONLY = "SET TRANSACTION READ ONLY"
SECRET = "hunter;2}"
QUERY = "SELECT * FROM dbo.location WHERE city LIKE 'Z%'"


@pytest.fixture
def sql_server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A stand-in for SQL Server, whose database allows SNAPSHOT."""
    server = Server(answers={"ProductVersion": "16.0.1000.6", "snapshot_isolation_state": 1, "schema_name()": "dbo"})
    server.answers |= {"test max support": "test max support", "fn_listextendedproperty": 0}
    server.answers |= {"sys.system_views": "dm_exec_sessions", "dm_exec_sessions": "READ COMMITTED"}
    monkeypatch.setitem(sys.modules, "pyodbc", pyodbc_stand_in(server))
    monkeypatch.setenv("IRP_SOURCE_BOOK_URL", "mssql+pyodbc://ada:hunter%3B2%7D@db.example.com:1433/Exposure")
    return server


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A stand-in for the connections of Oracle's driver, which is the real one otherwise."""
    server = Server(answers={"FROM DUAL": "1.1", "current_schema": "ADA"})

    def connect(*arguments: Any, **options: Any) -> Connection:
        server.connected.append((arguments, options))
        return Connection(server)

    monkeypatch.setattr(oracledb, "connect", connect)
    monkeypatch.setenv("IRP_SOURCE_BOOK_URL", "oracle://ada:hunter%3B2%7D@db.example.com:1521/?service_name=BOOK")
    return server


def run(folder: Path, query: str = QUERY, values: Values | None = None, *, with_totals: bool = False) -> Extract:
    source = QuerySource("book", query, values or {})
    return extract(source, OedTable.LOCATION, folder / "x.parquet", with_totals=with_totals)


def fill(server: Server, columns: Sequence[tuple[str, Any]], *rows: Sequence[Any]) -> None:
    server.columns, server.rows = columns, lambda: iter(rows)


def many(rows: int) -> Callable[[], Iterator[Sequence[Any]]]:
    return lambda: (("1", f"A{number // 10}", str(number), 1.5) for number in range(rows))


def test_the_types_of_sql_server_are_brought_to_those_of_oed(tmp_path, sql_server) -> None:
    moment = struct.pack("<6hI2h", 2024, 6, 30, 2, 0, 0, 0, 2, 0)
    fill(
        sql_server,
        [
            ("PortNumber", str),  # char(10)
            ("accnumber", int),  # bigint
            ("LOCNUMBER", Decimal),  # decimal(38, 0)
            ("LocName", str),  # uniqueidentifier
            ("City", str),  # nvarchar
            ("PostalCode", float),  # float
            ("BuildingTIV", Decimal),  # money
            ("ContentsTIV", float),
            ("IsTenant", bool),  # bit
            ("NumberOfStoreys", int),  # tinyint
            ("LocInceptionDate", dt.datetime),  # datetime
            ("LocExpiryDate", dt.date),
            ("CompletionDate", DATETIMEOFFSET),
            ("remark", bytearray),  # varbinary
        ],
        (
            *("0001      ", 2**62 + 1, Decimal(10**30 + 1), "6F9619FF-8B86-D011-B42D-00C04FC964FF", "Zürich 東京 "),
            *(1234.0, Decimal("12345678901.1000"), 0.1, True, 3, dt.datetime(2024, 1, 31)),  # noqa: DTZ001
            *(dt.date(2024, 12, 31), moment, b"\xff\x00"),
        ),
        ("0002", None, None, None, "", *[None] * 9),
    )
    table = pq.read_table(run(tmp_path).path)
    assert table.to_pylist() == [
        {
            "PortNumber": "0001",
            "AccNumber": str(2**62 + 1),
            "LocNumber": str(10**30 + 1),
            "LocName": "6F9619FF-8B86-D011-B42D-00C04FC964FF",
            "City": "Zürich 東京",
            "PostalCode": "1234",
            "BuildingTIV": 12345678901.1,
            "ContentsTIV": 0.1,
            "IsTenant": 1,
            "NumberOfStoreys": 3,
            "LocInceptionDate": "2024-01-31",
            "LocExpiryDate": "2024-12-31",
            "CompletionDate": "2024-06-30",
            "remark": "ff00",
        },
        dict.fromkeys(name for name in table.column_names) | {"PortNumber": "0002", "City": ""},
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Decimal("1.50"), "1.50 has a fraction, so it is not an identifier"),
        (1e17, "so large that another number could be meant"),
        (True, "True is a boolean, not an identifier"),
        (dt.date(2024, 1, 31), "is a date or time, not an identifier"),
        (dt.datetime(2024, 1, 31, tzinfo=dt.UTC), "is a date or time, not an identifier"),
        (dt.time(10), "is a date or time, not an identifier"),
    ],
)
@pytest.mark.parametrize("kind", ["sql_server", "oracle"])
def test_what_cannot_be_an_identifier_is_named_with_its_record(tmp_path, request, kind, value, message) -> None:
    fill(request.getfixturevalue(kind), [("LOCNUMBER", object)], (None,), (value,))
    with pytest.raises(ExposureError, match=f"^query on book, record 2, column LocNumber: .*{message}"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("kind", "type_code", "size"),
    [("sql_server", float, 24), ("sql_server", float, 7), ("oracle", oracledb.DB_TYPE_BINARY_FLOAT, None)],
)
def test_a_single_precision_float_must_be_exact_as_an_identifier(tmp_path, request, kind, type_code, size) -> None:
    server = request.getfixturevalue(kind)
    server.sizes = {"LOCNUMBER": size} if size else {}
    fill(server, [("LOCNUMBER", type_code)], (16777216.0,))
    assert pq.read_table(run(tmp_path).path).column("LocNumber").to_pylist() == ["16777216"]
    fill(server, [("LOCNUMBER", type_code)], (16777216.0,), (16777218.0,))
    with pytest.raises(ExposureError, match=r"record 2, column LocNumber: 16777218\.0 is a floating-point number"):
        run(tmp_path)


def test_sql_server_shows_one_moment_and_nothing_is_committed(tmp_path, sql_server) -> None:
    fill(sql_server, [("LocNumber", str), ("BuildingTIV", float)], ("1", 2.5))
    result = run(tmp_path, with_totals=True)
    assert result.reading == "mssql, one moment by SNAPSHOT"
    asked = next(item for item in sql_server.told if "snapshot_isolation_state" in item)
    assert sql_server.after(asked)[:2] == ["ROLLBACK", SNAPSHOT]
    # The rows are read a second time for the totals, in the same transaction. (The level is set before it.)
    assert sql_server.after(SNAPSHOT)[:4] == ["ROLLBACK", QUERY, QUERY, "ROLLBACK"]
    assert "COMMIT" not in sql_server.told
    assert compare_totals(result.source_totals or (), extract_totals(result.path)) == []


def test_without_snapshot_it_is_told_that_no_moment_is_shown(tmp_path, sql_server) -> None:
    sql_server.answers["snapshot_isolation_state"] = 0
    fill(sql_server, [("LocNumber", str)], ("1",))
    assert "allows no SNAPSHOT" in run(tmp_path).reading
    assert SNAPSHOT not in sql_server.told


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS locnumber DELETE FROM location COMMIT",
        "WITH old AS (SELECT 1 AS x) DELETE FROM location",
        "SELECT * INTO copied FROM location",
        "SELECT 1 AS locnumber EXEC xp_cmdshell 'dir'",
        "SELECT 1 AS locnumber /* */UPDATE location SET x = 1",
        "WITH x AS (SELECT 1 AS y) MERGE INTO location USING x ON 1 = 1 WHEN MATCHED THEN DELETE",
    ],
)
def test_a_statement_of_sql_server_that_changes_something_is_not_sent(tmp_path, sql_server, query) -> None:
    with pytest.raises(ExposureError, match=r"^query on book: contains [A-Z]+, and only a SELECT is run"):
        run(tmp_path, query)
    assert not any("location" in item or "xp_cmdshell" in item for item in sql_server.told)


def test_words_in_names_literals_and_hints_of_sql_server_are_fine(tmp_path, sql_server) -> None:
    fill(sql_server, [("LocNumber", str)], ("1",))
    query = """
        SELECT :update, [update], "delete", 'drop', @@version AS updated, l.set_id FROM location AS l WITH (UPDLOCK)
        INNER MERGE JOIN account AS a ON a.id = l.id -- commit
        OPTION (MERGE JOIN, USE HINT ('FORCE_LEGACY_CARDINALITY_ESTIMATION'))
    """
    assert run(tmp_path, query, {"update": 1}).rows == 1


def test_the_connection_to_sql_server_asks_for_a_readable_copy(tmp_path, sql_server) -> None:
    fill(sql_server, [("LocNumber", str)], ("1",))
    run(tmp_path)
    (((connection_string,), options),) = sql_server.connected
    parts = connection_string.split(";")
    assert parts[:3] == ["DRIVER={ODBC Driver 18 for SQL Server}", "Server=db.example.com,1433", "Database=Exposure"]
    assert "ApplicationIntent=ReadOnly" in parts
    assert options["timeout"] == 10
    assert not options.get("autocommit")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "mssql://host/db?driver=FreeTDS&applicationintent=ReadWrite",
            "DRIVER={FreeTDS};Server=host;Database=db;Trusted_Connection=Yes;applicationintent=ReadWrite",
        ),
        ("mssql+pyodbc://ada:x@warehouse", "dsn=warehouse;UID=ada;PWD=x"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BPWD%3Dx", "DRIVER=X;PWD=x"),
    ],
)
def test_what_the_address_of_sql_server_says_is_not_replaced(tmp_path, sql_server, monkeypatch, url, expected) -> None:
    monkeypatch.setenv("IRP_SOURCE_BOOK_URL", url)
    fill(sql_server, [("LocNumber", str)], ("1",))
    run(tmp_path)
    (((connection_string,), _),) = sql_server.connected
    assert connection_string == expected


def test_parameters_reach_the_driver_of_sql_server_beside_the_statement(tmp_path, sql_server) -> None:
    fill(sql_server, [("LocNumber", str)], ("1",))
    query = "SELECT [a:b], ':no', '%s' FROM t WHERE d >= :day AND line IN (:lines) AND old = :old AND x LIKE '%' + :day"
    values: Values = {"day": dt.date(2024, 1, 31), "lines": ("a'; DROP", "%?"), "old": True}
    run(tmp_path, query, values)
    ((statement, bound),) = [item for item in sql_server.told if isinstance(item, tuple)]
    assert statement == (
        "SELECT [a:b], ':no', '%s' FROM t WHERE d >= ? AND line IN (?, ?) AND old = ? AND x LIKE '%' + ?"
    )
    midnight = dt.datetime(2024, 1, 31)  # noqa: DTZ001 - SQLAlchemy makes one of every date, for any type of column
    assert tuple(bound) == (midnight, "a'; DROP", "%?", True, midnight)


@pytest.mark.parametrize("kind", ["sql_server", "oracle"])
def test_rows_come_in_batches_of_bounded_size(tmp_path, request, kind) -> None:
    server = request.getfixturevalue(kind)
    server.columns = [("PortNumber", str), ("AccNumber", str), ("LocNumber", str), ("BuildingTIV", float)]
    server.rows = many(25_000)
    result = run(tmp_path, with_totals=True)  # the stand-in refuses to give the whole result at once
    assert result.rows == 25_000
    assert max(server.fetched) <= 10_000
    assert [total.locations for total in whole_totals(result.source_totals or ())] == [25_000]


def test_the_message_of_sql_server_is_told_without_the_password(tmp_path, sql_server, monkeypatch) -> None:
    error = sys.modules["pyodbc"].__dict__["Error"]
    sql_server.refusal = error("28000", f"[28000] [Microsoft] Login failed for user 'ada' ({SECRET}).\n(18456)")
    with pytest.raises(ExposureError) as caught:
        run(tmp_path)
    assert str(caught.value) == (
        "cannot reach the source database book (mssql, host db.example.com:1433, database Exposure, user ada): "
        "[28000] [Microsoft] Login failed for user 'ada' (***). (18456)"
    )
    monkeypatch.setenv("IRP_SOURCE_BOOK_URL", "mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BUID%3Da%3BPWD%3D%7Bx%7D")
    sql_server.refusal = error("IM002", "[IM002] [unixODBC] Data source name not found (DRIVER=X;UID=a;PWD={x;y};Z=1)")
    with pytest.raises(ExposureError, match=r"UID=a;PWD=\*\*\*;Z=1\)\. pyodbc needs .* unixodbc.* ODBC Driver 18"):
        run(tmp_path)


def test_a_login_that_may_not_begin_is_told_in_the_words_of_the_server(tmp_path, sql_server) -> None:
    error = sys.modules["pyodbc"].__dict__["ProgrammingError"]
    sql_server.answers["snapshot_isolation_state"] = error("42000", "[42000] The SELECT permission was denied")
    with pytest.raises(ExposureError, match=r"book begins no transaction: \[42000\] The SELECT permission was"):
        run(tmp_path)


def test_a_machine_without_the_odbc_driver_manager_is_told_what_to_install(tmp_path, sql_server, monkeypatch) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "pyodbc":
                raise ImportError("libodbc.so.2: cannot open shared object file: No such file or directory")

    monkeypatch.delitem(sys.modules, "pyodbc")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ExposureError, match=r"libodbc\.so\.2: cannot open .* \(Debian: apt-get install unixodbc\)"):
        run(tmp_path)


# Oracle


def test_the_types_of_oracle_are_brought_to_those_of_oed(tmp_path, oracle) -> None:
    fill(
        oracle,
        [
            ("PORTNUMBER", oracledb.DB_TYPE_CHAR),
            ("ACCNUMBER", oracledb.DB_TYPE_NUMBER),  # NUMBER(19, 0)
            ("LOCNUMBER", oracledb.DB_TYPE_NUMBER),  # NUMBER
            ("CITY", oracledb.DB_TYPE_NVARCHAR),
            ("STREETADDRESS", oracledb.DB_TYPE_VARCHAR),
            ("BUILDINGTIV", oracledb.DB_TYPE_NUMBER),  # NUMBER(20, 2)
            ("CONTENTSTIV", oracledb.DB_TYPE_BINARY_DOUBLE),
            ("NUMBEROFSTOREYS", oracledb.DB_TYPE_NUMBER),
            ("LOCINCEPTIONDATE", oracledb.DB_TYPE_DATE),
            ("LOCUSERDEF1", oracledb.DB_TYPE_CLOB),
            ("REMARK", oracledb.DB_TYPE_NUMBER),
        ],
        (
            *("0001      ", "9223372036854775807", "10000000000000000000000000000001", "Zürich 東京", "1 Main St "),
            *("12345678901.10", 0.1, "3", dt.datetime(2024, 1, 31), "a long text", "0.1"),  # noqa: DTZ001
        ),
        ("0002      ", "9007199254740993", "7", None, None, "1e3", None, None, None, None, None),
    )
    first, second = pq.read_table(run(tmp_path).path).to_pylist()
    assert first == {
        "PortNumber": "0001",
        "AccNumber": "9223372036854775807",
        "LocNumber": "10000000000000000000000000000001",
        "City": "Zürich 東京",
        "StreetAddress": "1 Main St ",
        "BuildingTIV": 12345678901.1,
        "ContentsTIV": 0.1,
        "NumberOfStoreys": 3,
        "LocInceptionDate": "2024-01-31",
        "LocUserDef1": "a long text",
        "remark": "0.1",
    }
    assert (second["AccNumber"], second["LocNumber"], second["BuildingTIV"]) == ("9007199254740993", "7", 1000.0)
    assert second["City"] is None  # Oracle has no empty text


def test_oracle_reads_in_a_read_only_transaction_that_is_rolled_back(tmp_path, oracle) -> None:
    fill(oracle, [("LOCNUMBER", oracledb.DB_TYPE_VARCHAR), ("BUILDINGTIV", oracledb.DB_TYPE_NUMBER)], ("1", "2.5"))
    result = run(tmp_path, with_totals=True)
    position = oracle.told.index(READ_ONLY)
    assert oracle.told[position - 1] == "ROLLBACK"  # it is the first statement of its transaction
    assert oracle.after(READ_ONLY)[:3] == [QUERY, QUERY, "ROLLBACK"]
    assert "COMMIT" not in oracle.told
    assert compare_totals(result.source_totals or (), extract_totals(result.path)) == []
    ((_, options),) = oracle.connected
    assert "(SERVICE_NAME=BOOK)" in options["dsn"]
    assert options["tcp_connect_timeout"] == 10


def test_parameters_reach_the_driver_of_oracle_beside_the_statement(tmp_path, oracle) -> None:
    fill(oracle, [("LOCNUMBER", oracledb.DB_TYPE_VARCHAR)], ("1",))
    query = "SELECT q'[it's :no]', '%' FROM t WHERE d >= :date AND line IN (:lines) AND old = :old AND d < :date"
    run(tmp_path, query, {"date": dt.date(2024, 1, 31), "lines": ("a'; DROP", "b"), "old": True})
    ((statement, bound),) = [item for item in oracle.after(READ_ONLY) if isinstance(item, tuple)]
    assert statement == (
        "SELECT q'[it's :no]', '%' FROM t WHERE d >= :irp_date AND line IN (:irp_lines_1, :irp_lines_2) "
        "AND old = :irp_old AND d < :irp_date"
    )
    assert bound == {"irp_date": dt.date(2024, 1, 31), "irp_lines_1": "a'; DROP", "irp_lines_2": "b", "irp_old": 1}
    assert type(bound["irp_old"]) is int


def test_a_table_of_oracle_is_named_in_its_own_quotation_marks(tmp_path, oracle) -> None:
    fill(oracle, [("LOCNUMBER", oracledb.DB_TYPE_VARCHAR)], ("1",))
    run(tmp_path, "exposure.[Location 2024]")
    assert 'SELECT * FROM exposure."Location 2024"' in oracle.told


def test_an_oracle_server_that_is_not_there_is_told_in_one_line_without_the_password(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("IRP_SOURCE_BOOK_URL", "oracle+oracledb://ada:geheim@127.0.0.1:1/?service_name=BOOK")
    with pytest.raises(ExposureError) as caught:
        run(tmp_path)
    message = str(caught.value)
    assert message.startswith(
        "cannot reach the source database book (oracle, host 127.0.0.1:1, database BOOK, user ada): DPY-"
    )
    assert "\n" not in message
    assert "geheim" not in message
