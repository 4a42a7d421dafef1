"""Finding the named parameters of a query: only where SQL can have one; and names of tables."""

import pytest
from sqlalchemy import make_url

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.readers.parameters import code_of, mark, names_in, pieces, without_semicolon
from irp_pipeline.exposure.readers.table_names import is_table_name, query_of_table

EVERYWHERE = ["", "postgresql", "mysql", "mariadb", "sqlite", "mssql", "oracle", "duckdb", "snowflake"]


@pytest.mark.parametrize("backend", EVERYWHERE)
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("SELECT * FROM t WHERE d >= :exposure_date", ["exposure_date"]),
        ("SELECT * FROM t WHERE a=:A AND b IN(:b_2,:a)", ["a", "b_2"]),
        ("SELECT 'a:b', ' :no', 'it''s :no' FROM t WHERE x = :yes", ["yes"]),
        ('SELECT t.":no", ":no ""too"" :no" FROM t WHERE x = :yes', ["yes"]),
        ("SELECT 1 -- not :no\n, :yes /* nor :no\n ' :no */ , :too", ["yes", "too"]),
        ("SELECT :yes::date, '1'::text, x::no", ["yes"]),
        ("SELECT TIME '10:30:00', a[1:n], x := 1, '12':no", []),
        ("SELECT \\:no, x[1 \\:n]", []),
        ("SELECT :1, ':', : no, :yes -- '", ["yes"]),
        ("SELECT 'never closed :no", []),
        ("SELECT /* never closed :no", []),
    ],
)
def test_a_colon_is_a_parameter_only_where_sql_can_have_one(backend, query, names) -> None:
    assert list(names_in(query, backend)) == names


@pytest.mark.parametrize(
    ("backend", "query", "names"),
    [
        ("postgresql", r"SELECT E'it\'s :no', '\', :yes, $$ :no $$, $a$ $$ :no $a$, $1", ["yes"]),
        ("postgresql", "SELECT /* /* :no */ :no */ :yes", ["yes"]),
        ("postgresql", "SELECT ARRAY[:yes, :too] || a['x':no]", ["yes", "too"]),
        ("mysql", "SELECT 'it\\'s :no', \"a\\\" :no\", `:no` # :no\n, :yes", ["yes"]),
        ("mysql", "SELECT /* /* :no */ :yes", ["yes"]),
        ("mariadb", r"SELECT '\\', :yes", ["yes"]),
        ("sqlite", r"SELECT '\', :yes, [a :no]", ["yes"]),
        ("mssql", "SELECT [a]] :no], N'ö :no', :yes", ["yes"]),
        ("mssql", r"SELECT 'C:\', :yes", ["yes"]),
        ("oracle", "SELECT q'[it's :no]', nq'{ ' :no}', Q'!' :no!', :yes FROM v$session", ["yes"]),
        ("snowflake", r"SELECT 'a\' :no', src:no, $$ :no $$, :yes", ["yes"]),
    ],
)
def test_each_database_has_its_own_quotes_and_comments(backend, query, names) -> None:
    assert list(names_in(query, backend)) == names


def test_a_marked_query_falls_apart_at_its_parameters() -> None:
    marked = mark("SELECT '%:a', :A, a[1 \\: n] WHERE b = :b::date", {"a", "b"}, "postgresql", "the query")
    assert pieces(marked) == ["SELECT '%:a', ", "a", ", a[1 : n] WHERE b = ", "b", "::date"]


def test_unknown_parameters_are_listed_with_those_that_there_are() -> None:
    expected = r"^the query: :day, :x are no parameters; there are :currency, :exposure_date \(write \\: for a colon"
    with pytest.raises(ExposureError, match=expected):
        mark("SELECT :day, :x, :currency", {"exposure_date", "currency"}, "sqlite", "the query")
    with pytest.raises(ExposureError, match="NUL"):
        mark("SELECT '\0x\0'", {"x"}, "sqlite", "the query")


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("SELECT 1;", "SELECT 1"),
        ("SELECT ';' ; ;\n-- the end;\n", "SELECT ';'"),
        ("SELECT 1 -- no end;", "SELECT 1 -- no end;"),
        ("SELECT 1; SELECT 2", "SELECT 1; SELECT 2"),
    ],
)
def test_only_a_semicolon_at_the_end_is_left_out(query, left) -> None:
    assert without_semicolon(query, "postgresql") == left


def test_the_code_of_a_query_has_the_length_of_the_query() -> None:
    query = "SELECT 'a' /* b */, \"c\" -- d\n, :e::text"
    assert code_of(query) == "SELECT ???        , ???     \n, :e::text"


@pytest.mark.parametrize(
    ("backend", "name", "query"),
    [
        ("postgresql", "Exposure.location", "Exposure.location"),
        ("postgresql", '"Exposure 2024"."a""b%"', '"Exposure 2024"."a""b%"'),
        ("mssql", "Book.dbo.locations", "Book.dbo.locations"),
        ("mssql", "Book..locations", "Book..locations"),
        ("mssql", "[Book 2024].dbo.[a]]b]", "[Book 2024].dbo.[a]]b]"),
        ("mssql", '"my ]table"', "[my ]]table]"),
        ("oracle", "EXPOSURE.v$location", "EXPOSURE.v$location"),
        ("oracle", "exposure.[a]", 'exposure."a"'),
        ("oracle", '"My ""Table""; DROP"', '"My ""Table""; DROP"'),
        ("mysql", "[my table].`a``b%s`", "`my table`.`a``b%s`"),
        ("duckdb", "[my table]", '"my table"'),
    ],
)
def test_the_name_of_a_table_is_quoted_as_its_database_does(backend, name, query) -> None:
    assert is_table_name(name)
    assert query_of_table(name, make_url(f"{backend}://host/db")) == f"SELECT * FROM {query}"


@pytest.mark.parametrize(
    "text",
    ["", "a.b.c.d", "a b", "a.", ".a", "a..b.c.d", "[a", "[]", "a]", "SELECT 1", "a;b", "1a", "a-b", "[a] b", "a...b"],
)
def test_what_is_no_name_of_a_table(text) -> None:
    assert not is_table_name(text)
