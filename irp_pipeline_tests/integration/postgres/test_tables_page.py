"""The page of the tables shows the tables that the migrations make, column by column."""

import re
from pathlib import Path

from irp_pipeline.helpers.database import fetch_all
from irp_pipeline.helpers.db_context import get_current_schema

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "tables.md"
COLUMNS = """
    SELECT c.relname AS table, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type,
           a.attnotnull AS is_filled, pg_get_expr(d.adbin, d.adrelid) AS default, a.attidentity <> '' AS is_key,
           (SELECT f.confrelid::regclass::text FROM pg_constraint f
             WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.conkey = ARRAY[a.attnum]) AS refers_to
      FROM pg_class c
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE c.relnamespace = %s::regnamespace AND c.relkind = 'r' AND c.relname LIKE 'irp\\_%%'
     ORDER BY c.relname, a.attnum
"""


def test_each_table_is_on_the_page_with_its_columns(test_schema: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    tables: dict[str, list[str]] = {}
    for column in fetch_all(COLUMNS, (f'"{get_current_schema()}"',)):
        tables.setdefault(column["table"], []).append(_row(column))
    shown = dict(re.findall(r"^## `(irp_\w+)`\n\n[^\n]+\n\n((?:\|[^\n]+\n)+)", page, re.MULTILINE))
    assert sorted(shown) == sorted(tables)
    for table, rows in tables.items():
        wanted = "\n".join(
            ["| column | type | filled | default | refers to |", "| --- | --- | --- | --- | --- |", *rows]
        )
        assert shown[table] == f"{wanted}\n", f"{table}: the page should have\n{wanted}"


def _row(column: dict[str, object]) -> str:
    default = "counted up" if column["is_key"] else column["default"]
    cells = (
        f"`{column['column']}`",
        column["type"],
        "always" if column["is_filled"] else "",
        f"`{default}`" if default and default != "counted up" else default or "",
        f"`{column['refers_to']}`" if column["refers_to"] else "",
    )
    return f"| {' | '.join(map(str, cells))} |".replace("  ", " ")
