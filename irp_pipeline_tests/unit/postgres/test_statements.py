"""Reading statements: what is a placeholder, what is only text, and where a row of values begins and ends.

That the server reads them the same way is shown in ``integration/test_database.py``.
"""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irp_pipeline.postgres import statements
from irp_pipeline.postgres.statements import parse, read_commands, row_template, with_returned_id

# What only quotes text: nothing inside of these is a placeholder.
QUOTED = [
    "'%s'",
    "'100%'",
    "'it''s %s'",
    "'back\\'",
    "E'it\\'s %s'",
    "e'\\\\'",
    "E'a'\n  '\\'%s'",
    "N'%s'",
    "U&'\\0061%s'",
    "B'101'",
    '"%s"',
    '"a ""%s"""',
    'U&"%s"',
    "$$%s '$$",
    "$tag$ $$ %s ' $tag$",
    "$été$%s$été$",
    "-- %s it's\n",
    "-- %s\r",
    "/* %s ' */",
    "/* /* %s */ '%s */",
    "'multi\nline %s'",
]
PLAIN = ["SELECT", "a.b", "$1", "x$y", "5 % 3", "f(1)", "::jsonb", ":name", "->>", "@?", "%(name)s", "%d", "%%", ";"]


@pytest.mark.parametrize("quoted", QUOTED)
def test_nothing_in_quotes_or_comments_is_a_placeholder(quoted):
    statement = parse(f"SELECT {quoted} AS x, %s")
    assert statement.placeholders == 1
    assert statement.text.count("%s") - statement.text.count("%%s") == 1
    assert statement.text % "V" == f"SELECT {quoted} AS x, V"


@given(st.lists(st.sampled_from([*QUOTED, *PLAIN, "%s"]), max_size=12))
def test_placeholders_are_found_among_anything(pieces):
    statement = parse(" ".join(pieces))
    assert statement.placeholders == pieces.count("%s")
    assert statement.text % tuple("V" * pieces.count("%s")) == " ".join("V" if p == "%s" else p for p in pieces)
    assert len(statement.bare) == len(statement.source)
    assert statement.bare.count("%s") == pieces.count("%s")


@given(st.text("'\"$%s/*-eE\\\n;a "))
def test_no_text_is_an_error_and_what_the_driver_makes_of_it_is_the_text(source):
    statement = parse(source)
    marks = tuple(f"<{number}>" for number in range(statement.placeholders))
    rendered = statement.text % marks
    for mark in marks:
        rendered = rendered.replace(mark, "%s", 1)
    assert rendered == source
    assert len(statement.bare) == len(source)


@pytest.mark.parametrize(
    ("source", "placeholders"),
    [
        ("SELECT %s::jsonb ->> 'a%s'", 1),
        ("SELECT * FROM t WHERE name LIKE 'Q%' AND id = %s", 1),
        ("SELECT a%s", 1),
        ("SELECT 10 % s", 0),
        ("SELECT 10%5", 0),
        ("SELECT type'%s', %s", 1),
        ("SELECT ename'\\', %s'", 1),
        ("SELECT E'\\', %s'", 0),
        ("SELECT 'a'%s'b'", 1),
        ("SELECT '%s", 0),
        ('SELECT "%s', 0),
        ("SELECT /* %s", 0),
        ("SELECT $1$ %s", 1),
        ("SELECT a$b$ %s $b$", 1),
        ("", 0),
    ],
)
def test_placeholders_of_odd_statements(source, placeholders):
    assert parse(source).placeholders == placeholders


# --- RETURNING ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("INSERT INTO t (a) VALUES (%s)", "INSERT INTO t (a) VALUES (%s) RETURNING id"),
        ("INSERT INTO t (a) VALUES (%s);", "INSERT INTO t (a) VALUES (%s) RETURNING id"),
        ("INSERT INTO t (a) VALUES (%s) ; \n ;", "INSERT INTO t (a) VALUES (%s) RETURNING id"),
        ("INSERT INTO t (a) VALUES (%s) -- done", "INSERT INTO t (a) VALUES (%s) RETURNING id"),
        ("INSERT INTO t (a) VALUES (';') /* x */ ; -- y", "INSERT INTO t (a) VALUES (';') RETURNING id"),
        ("INSERT INTO t (a) VALUES ('returning')", "INSERT INTO t (a) VALUES ('returning') RETURNING id"),
        ('INSERT INTO t ("returning") VALUES (1)', 'INSERT INTO t ("returning") VALUES (1) RETURNING id'),
        ("INSERT INTO t (a) VALUES (1) -- RETURNING b", "INSERT INTO t (a) VALUES (1) RETURNING id"),
        (
            "WITH d AS (DELETE FROM u RETURNING a) INSERT INTO t SELECT a FROM d",
            "WITH d AS (DELETE FROM u RETURNING a) INSERT INTO t SELECT a FROM d RETURNING id",
        ),
        ("INSERT INTO t (a) VALUES (%s) returning a, b;", "INSERT INTO t (a) VALUES (%s) returning a, b;"),
        ("INSERT INTO t (a) VALUES ((1))\nRETURNING a", "INSERT INTO t (a) VALUES ((1))\nRETURNING a"),
    ],
)
def test_an_insert_returns_the_id_unless_it_says_otherwise(source, expected):
    assert with_returned_id(source).source == expected


# --- rows ---------------------------------------------------------------------------------------------------------


def test_an_insert_is_taken_apart_around_its_row():
    template = row_template(
        "INSERT INTO t (a, b) VALUES (%s, upper(%s) || '100%') ON CONFLICT (a) DO UPDATE SET b = '%s' RETURNING a"
    )
    assert template is not None
    assert template.head == "INSERT INTO t (a, b) VALUES "
    assert template.row == "(%s, upper(%s) || '100%%')"
    assert template.tail == " ON CONFLICT (a) DO UPDATE SET b = '%s' RETURNING a"
    assert template.columns == ("a", "b")


@pytest.mark.parametrize(
    ("source", "columns"),
    [
        ("INSERT INTO t (a, b) VALUES (%s, %s)", ("a", "b")),
        ("INSERT INTO t (a, b, c) VALUES (%s, now(), %s)", ("a", "c")),
        ("INSERT INTO t (a, b) VALUES (coalesce(%s, %s), (%s)::jsonb)", ("a", "a", "b")),
        ("INSERT INTO t (a, b) VALUES (ARRAY[%s, 1], %s)", ("a", "b")),
        ("INSERT INTO t(Name,\n \"Mixed\", \"a,b\", \"q\"\"q\", \"(\")VALUES(%s,%s,%s,%s,%s)",
         ("name", "Mixed", "a,b", 'q"q', "(")),
        ("INSERT INTO t (a, /* not (b) */ c, d -- end\n) VALUES (%s, %s, %s)", ("a", "c", "d")),
        ("INSERT INTO \"my values (\" AS x (\"values (\") VALUES (%s)", ("values (",)),
        ("INSERT INTO s.t (a) OVERRIDING SYSTEM VALUE VALUES (%s)", ("a",)),
        ("WITH x AS (SELECT 1) INSERT INTO t (a) VALUES (%s)", ("a",)),
        ("INSERT INTO t VALUES (%s, %s)", ()),
    ],
)  # fmt: skip
def test_each_placeholder_of_a_row_knows_its_column(source, columns):
    template = row_template(source)
    assert template is not None
    assert template.columns == columns


@pytest.mark.parametrize(
    "source",
    [
        "SELECT 1",
        "UPDATE t SET a = %s",
        "INSERT INTO t DEFAULT VALUES",
        "INSERT INTO t (a) VALUES (%s), (%s)",
        "INSERT INTO t (a) VALUES (%s) , (1)",
        "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = %s",
        "INSERT INTO t (a) VALUES (%s",
        "INSERT INTO t (a) SELECT %s",
        "-- VALUES (%s)",
    ],
)
def test_what_has_not_one_row_with_every_placeholder_is_not_taken_apart(source):
    assert row_template(source) is None


# --- what a statement does to its session and transaction ----------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "SET search_path TO other",
        "  /* first */ set role somebody",
        "SELECT 1; SET TIME ZONE 'Asia/Tokyo'",
        "SET SCHEMA 'other'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SELECT set_config('search_path', 'other', false)",
        "SELECT pg_catalog.SET_CONFIG('Search_Path', %s, false)",
        "SELECT set_config('role', ', true)', false)",
        "SELECT set_config('lock_timeout', '5', true), set_config('role', 'other', %s)",
        "DO $$ BEGIN EXECUTE 'SET search_path TO other'; END $$",
        "CALL anything()",
        "PREPARE x AS SELECT 1",
        "LISTEN x",
        "DECLARE x CURSOR WITH HOLD FOR SELECT 1",
    ],
)
def test_a_statement_that_may_change_its_session_is_known(source):
    assert parse(source).changes_session
    assert parse(source).sets_session is not source.startswith(("DO", "CALL"))


@pytest.mark.parametrize(
    "source",
    [
        "SELECT 1",
        "UPDATE t SET a = %s WHERE id = 1",
        "INSERT INTO t (a) VALUES ('; SET x') ON CONFLICT DO NOTHING",
        "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1",
        "SELECT temperature, attempt FROM t -- ; reset",
        "ALTER TABLE t ALTER a SET DEFAULT 1",
        "SET LOCAL lock_timeout = 5",
        "SELECT set_config('lock_timeout', %s, TRUE) FROM t WHERE id = %s FOR UPDATE",
        "SET CONSTRAINTS ALL DEFERRED",
        "SET TRANSACTION READ ONLY",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = x AS 'SELECT 1'",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END",
        "SELECT CASE WHEN true THEN 1 END",
        "INSERT INTO t (a) VALUES ('; COMMIT')",
        "INSERT INTO temp (a) VALUES (1)",
        "INSERT INTO temp SELECT 1",
        "SELECT 1 -- ; COMMIT",
    ],
)
def test_a_common_statement_leaves_its_session_and_transaction_as_they_are(source):
    statement = parse(source)
    assert not statement.changes_session
    assert not statement.controls_transaction
    assert not statement.makes_temporary


@pytest.mark.parametrize(
    "source",
    ["BEGIN", "START TRANSACTION", "COMMIT", "END;", "ROLLBACK", "ABORT", "PREPARE TRANSACTION 'x'", "-- x\n  commit",
     "INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2)", "SELECT 1;/* x */rollback",
     "SELECT ';'; SAVEPOINT a",
     "INSERT INTO t VALUES ('" + "x" * 5000 + "'); /* ; */ COMMIT"],
)  # fmt: skip
def test_a_statement_that_begins_or_ends_a_transaction_is_known(source):
    assert parse(source).controls_transaction
    assert read_commands(source).controls_transaction
    assert not parse(source).is_savepoint


@pytest.mark.parametrize(
    "source", ["SAVEPOINT a", "RELEASE SAVEPOINT a", "rollback to a", "ROLLBACK WORK TO SAVEPOINT a;"]
)
def test_a_savepoint_is_known(source):
    assert parse(source).controls_transaction
    assert parse(source).is_savepoint


def test_a_discard_is_known():
    assert parse("/* all */ DISCARD ALL;").is_discard
    assert not parse("DISCARD ALL; SELECT 1").is_discard


@pytest.mark.parametrize(
    ("source", "stays"),
    [
        ("CREATE TEMP TABLE irp_cycle (id int)", True),
        ("CREATE LOCAL TEMPORARY TABLE irp_cycle (id int)", True),
        ("CREATE OR REPLACE TEMP VIEW irp_cycle AS SELECT 1", True),
        ("SELECT 1 AS a INTO TEMP irp_cycle", True),
        ("CREATE TABLE pg_temp.irp_cycle (id int)", True),
        ("CREATE TEMP TABLE a (id int) ON COMMIT DROP; CREATE TEMP TABLE b (id int)", True),
        ("CREATE TEMP TABLE a ON COMMIT DROP AS SELECT 1", False),
        ("CREATE TEMP TABLE a (id int) ON COMMIT DROP; CREATE TEMP TABLE b (id int) ON COMMIT DROP", False),
    ],
)
def test_a_temporary_table_is_known(source, stays):
    assert parse(source).makes_temporary
    assert parse(source).leaves_temporary is stays


# --- size ---------------------------------------------------------------------------------------------------------


def test_a_large_literal_is_read_without_much_memory_and_not_kept():
    source = "SELECT '" + "it''s % " * 250_000 + "', %s"
    tracemalloc.start()
    try:
        assert parse(source).placeholders == 1
        assert tracemalloc.get_traced_memory()[1] < 20 * len(source)
        assert tracemalloc.get_traced_memory()[0] < len(source)
    finally:
        tracemalloc.stop()


def test_a_common_statement_is_read_once():
    assert parse("SELECT %s") is parse("SELECT %s")
    assert row_template("INSERT INTO t (a) VALUES (%s)") is row_template("INSERT INTO t (a) VALUES (%s)")


def test_an_unfinished_literal_does_not_take_long():
    for opening in ("'", '"', "E'", "/*", "$$", "$a$"):
        assert parse("SELECT %s, " + opening + "''\"\"%s\\" * 20_000).placeholders >= 1
    assert statements.parse("'" + "''" * 200_001).placeholders == 0
