"""The database for notebooks and steps: statements, transactions, and making and dropping a schema.

:mod:`irp_pipeline.postgres.running` runs the statements, in the schema of :mod:`irp_pipeline.helpers.db_context`.
Making and dropping a schema are here, since steps and jobs may be at work in it. Cycles, stages and steps have their
own modules.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from irp_pipeline.helpers.db_context import DEFAULT_SCHEMA, check_schema_name, get_current_schema
from irp_pipeline.postgres import connections
from irp_pipeline.postgres.connections import dispose_engine
from irp_pipeline.postgres.context import schema_argument
from irp_pipeline.postgres.cursors import LoneCursor, SchemaCursor
from irp_pipeline.postgres.errors import DatabaseError

if TYPE_CHECKING:
    import sqlalchemy as sa

    Cursor = SchemaCursor | LoneCursor

from irp_pipeline.postgres.running import (
    bulk_insert,
    execute_command,
    execute_insert,
    execute_query,
    execute_scalar,
    fetch_all,
    fetch_one,
    find_or_insert,
    transaction,
)

__all__ = [
    "DatabaseError",
    "bulk_insert",
    "dispose_engine",
    "drop_schema",
    "execute_command",
    "execute_insert",
    "execute_query",
    "execute_scalar",
    "fetch_all",
    "fetch_one",
    "find_or_insert",
    "get_engine",
    "init_database",
    "transaction",
]


def get_engine(schema: str | None = None) -> sa.Engine:
    """Return the process's only SQLAlchemy engine, as :func:`irp_pipeline.postgres.connections.get_engine` does.

    Args:
        schema: of the old framework: an engine has no schema, so anything but that of the context is refused.

    Raises:
        DatabaseError: another schema than that of the context.
        SettingsError: the environment names no usable database.
        EmbeddedServerError: the embedded server does not start.
    """
    if schema is not None and schema != get_current_schema():
        raise DatabaseError(
            "An engine has no schema: each statement runs in that of its sender. Use `with "
            f"schema_context({schema!r}):` around the statements, and get_engine() without an argument"
        )
    return connections.get_engine()


def init_database(schema: str | None = None, sql_file_name: str | None = None, *, force: bool = False) -> bool:
    """Make the schema, if it is missing, and upgrade its tables to this version of the package.

    Safe to repeat, and safe to call from any number of processes and threads at once; never destructive. It is one
    transaction: an interrupted run leaves the schema as it was.

    Args:
        schema: the schema to make; None means that of the context.
        sql_file_name: of the old framework, and ignored: migrations make the tables.
        force: first end the steps and jobs that are at work in a schema of an earlier version.

    Raises:
        DatabaseError: the server refuses or is away; the schema contains irp_* tables that this package did not make,
            or a newer version made; or tables must change while steps or jobs are at work in them.
        EngineError: with ``force``, a risk engine cannot be reached to end its jobs.

    Returns:
        True: whatever keeps it from being made is an error.
    """
    from irp_pipeline.helpers import ending
    from irp_pipeline.postgres import schemas
    from irp_pipeline.queue.schema import upgrade_queue

    if sql_file_name is not None:
        warnings.warn(
            "init_database ignores sql_file_name: migrations make the tables", DeprecationWarning, stacklevel=2
        )
    name = check_schema_name(schema) if schema is not None else get_current_schema()

    def guard(connection: sa.Connection, schema: str, version: str) -> None:
        ending.refuse_in_schema(connection, schema, version, "upgraded")

    if force and schemas.current_version(name) not in {None, schemas.latest_version()}:
        ending.end_schema(name, "its schema is to be upgraded")
    schemas.upgrade(name, guard=guard)
    upgrade_queue()
    return True


def drop_schema(schema: str, force: bool = False) -> bool:
    """Drop a schema with everything in it.

    Args:
        schema: the schema to drop.
        force: needed for ``public``; also ends the steps and jobs that are at work in the schema.

    Returns:
        Whether there was such a schema.

    Raises:
        DatabaseError: without ``force``: ``public``, or steps or jobs are at work in the schema; the server refuses.
        EngineError: with ``force``, a risk engine cannot be reached to end its jobs.
        ValueError: not a schema name.
    """
    from irp_pipeline.helpers import ending
    from irp_pipeline.postgres import schemas

    check_schema_name(schema)
    if schema == DEFAULT_SCHEMA and not force:
        raise DatabaseError(
            f"Dropping the schema {DEFAULT_SCHEMA!r} would delete the production records: say force=True"
        )
    if force:
        ending.end_schema(schema, "its schema is to be dropped")

    def guard(connection: sa.Connection, schema: str, version: str) -> None:
        ending.refuse_in_schema(connection, schema, version, "dropped")

    return schemas.drop(schema, guard)


# --- functions of the old single module that have moved -----------------------------------------------------------

_MOVED = {
    "archive_cycle": "cycle",
    "create_cycle": "cycle",
    "create_step_run": "step",
    "delete_archived_cycles": "cycle",
    "get_active_cycle": "cycle",
    "get_cycle_by_name": "cycle",
    "get_cycle_progress": "cycle",
    "get_last_step_run": "step",
    "get_or_create_stage": "stage",
    "get_or_create_step": "step",
    "get_step_history": "cycle",
    "get_step_info": "step",
    "update_step_run": "step",
}


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    forward = _forward(name)
    globals()[name] = forward
    return forward


def __dir__() -> list[str]:
    return sorted({*globals(), *_MOVED})


def _forward(name: str) -> Callable[..., Any]:
    """Return the old function ``name``: the one that replaced it, with a last argument ``schema``."""
    home = f"irp_pipeline.helpers.{_MOVED[name]}"
    function = getattr(importlib.import_module(home), name)
    signature = inspect.signature(function)
    with_schema = signature.replace(
        parameters=[
            # Old scripts pass the schema as the next positional argument; later parameters are keyword-only.
            *(p for p in signature.parameters.values() if p.kind is not inspect.Parameter.KEYWORD_ONLY),
            inspect.Parameter("schema", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation="str | None"),
        ]
    )

    @functools.wraps(function)
    def forward(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(
            f"{name} has moved: use `from {home} import {name}`, with `schema_context(...)` instead of `schema=`",
            DeprecationWarning,
            stacklevel=2,
        )
        arguments = with_schema.bind(*args, **kwargs).arguments
        schema = arguments.pop("schema", None)
        with schema_argument(schema):
            return function(**arguments)

    forward.__signature__ = with_schema  # type: ignore[attr-defined]
    forward.__module__ = __name__  # where pickle finds it, for a pool of processes
    return forward
