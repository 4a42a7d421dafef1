"""The PostgreSQL schema that the caller works in: the names that notebooks and steps import.

The code is in :mod:`irp_pipeline.postgres.context`, below everything that runs a statement.
"""

from irp_pipeline.postgres.context import (
    DEFAULT_SCHEMA,
    SchemaContext,
    carry_schema,
    check_schema_name,
    get_current_schema,
    get_schema_from_env,
    init_from_environment,
    reset_schema,
    schema_context,
    set_schema,
)

__all__ = [
    "DEFAULT_SCHEMA",
    "SchemaContext",
    "carry_schema",
    "check_schema_name",
    "get_current_schema",
    "get_schema_from_env",
    "init_from_environment",
    "reset_schema",
    "schema_context",
    "set_schema",
]
