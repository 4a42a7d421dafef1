"""Old names of ``helpers.database``."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from irp_pipeline.helpers.database import DatabaseError, execute_scalar, transaction
from irp_pipeline.helpers.db_context import (
    get_current_schema,
    get_schema_from_env,
    init_from_environment,
    reset_schema,
    schema_context,
    set_schema,
)
from irp_pipeline.old_framework import replaced_by

__all__ = [
    "get_current_schema",
    "get_schema_from_env",
    "init_from_environment",
    "reset_schema",
    "schema_context",
    "set_schema",
    "table_exists",
    "test_connection",
    "transaction_context",
    "view_exists",
]

_EXISTS = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = %s AND c.relname = %s AND c.relkind = ANY(%s))
"""


@replaced_by("the command irp doctor")
def test_connection(schema: str | None = None) -> bool:  # noqa: PT028 - not a test
    """Tell whether the database answers, and has the schema."""
    try:
        return bool(execute_scalar("SELECT true", schema=schema))
    except DatabaseError:
        return False


test_connection.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test where it is imported


@replaced_by("SELECT to_regclass('name') IS NOT NULL")
def table_exists(table_name: str, schema: str | None = None) -> bool:
    """Tell whether a schema has a table."""
    return _exists(table_name, schema, ["r", "p"])


@replaced_by("SELECT to_regclass('name') IS NOT NULL")
def view_exists(view_name: str, schema: str | None = None) -> bool:
    """Tell whether a schema has a view."""
    return _exists(view_name, schema, ["v", "m"])


@replaced_by("transaction of irp_pipeline.helpers.database")
def transaction_context(schema: str | None = None) -> AbstractContextManager[Any]:
    """Open a transaction in a schema."""
    return transaction(schema)


def _exists(name: str, schema: str | None, kinds: list[str]) -> bool:
    return bool(execute_scalar(_EXISTS, (schema or get_current_schema(), name, kinds), schema=schema))
