"""What ``irp doctor`` checks once the packages are installed: settings, server, schema and rights, Dagster.

Each check is a small function that yields findings. Add a new one to one of two lists: ``SERVER_CHECKS``, whose checks
get their own connection, or ``SCHEMA_CHECKS``, whose checks also get the name of an existing schema. No check loads
Dagster, since that takes seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irp_pipeline.errors import IrpError

if TYPE_CHECKING:
    from psycopg2.extensions import connection as DriverConnection  # noqa: N812
    from sqlalchemy import URL, Connection


_STORE_SECONDS = 20.0


class State(StrEnum):
    """What a finding means."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        subject: what was checked.
        state: ok; worth knowing; or wrong, which makes the exit status 1.
        found: what the check found.
        remedy: what to do about it, if anything.
    """

    subject: str
    state: State
    found: str
    remedy: str | None = None


# --- settings -----------------------------------------------------------------------------------------------------


def check_settings() -> Iterator[CheckResult]:
    """Check every environment variable of the settings."""
    from irp_pipeline import settings

    problems = settings.problems()
    for problem in problems:
        yield CheckResult("Settings", State.WRONG, problem)
    if not problems:
        yield CheckResult("Settings", State.OK, "every variable that is set can be used")


def check_messages() -> Iterator[CheckResult]:
    """Check the services that get messages, without sending one; nothing of their URLs is shown."""
    from irp_pipeline import settings
    from irp_pipeline.helpers.messages import Event, find_services

    try:
        found = find_services()
    except settings.SettingsError:  # reported already, as a setting
        return
    except IrpError as error:
        yield CheckResult("Messages", State.WRONG, str(error))
        return
    if found is None:
        return
    for problem in found.problems:
        yield CheckResult("Messages", State.WRONG, problem)
    for service in found.usable:
        told = ", ".join(event for event in Event if event in service.events)
        yield CheckResult("Messages", State.OK, f"{service.name} is told of: {told}")


def check_files() -> Iterator[CheckResult]:
    """Check that the files of cycles can be reached, if they are not in ``IRP_HOME``."""
    from irp_pipeline import store

    try:
        if not store.is_elsewhere():
            return
    except IrpError:  # reported already, as a setting
        return
    found = store.reach(_STORE_SECONDS)
    if found.problem is None:
        yield CheckResult("Files", State.OK, f"{found.address}: answers; copies of what is read are in IRP_HOME")
    else:
        yield CheckResult("Files", State.WRONG, found.problem)


def check_dagster_home() -> Iterator[CheckResult]:
    """Check the folder that ``DAGSTER_HOME`` names, and its ``dagster.yaml``."""
    named = os.environ.get("DAGSTER_HOME")
    if not named:
        return
    remedy = "Correct DAGSTER_HOME, or unset it to use the instance in IRP_HOME"
    home = Path(named)
    if not home.is_absolute():
        yield CheckResult("DAGSTER_HOME", State.WRONG, f"{named!r} is not an absolute path", remedy)
    elif not home.is_dir():
        yield CheckResult("DAGSTER_HOME", State.WRONG, f"{home} is not a folder", remedy)
    else:
        yield _dagster_yaml(home / "dagster.yaml")


def _dagster_yaml(file: Path) -> CheckResult:
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return CheckResult(
            "DAGSTER_HOME",
            State.NOTE,
            f"{file} is not there: Dagster keeps its records in files of that folder",
            "To use the queue and the records of irp-pipeline, copy its dagster.yaml there, or unset DAGSTER_HOME",
        )
    except (OSError, ValueError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        return CheckResult("DAGSTER_HOME", State.WRONG, f"{file} cannot be read: {said}", "Correct the file")
    if content is not None and not isinstance(content, dict):
        return CheckResult(
            "DAGSTER_HOME", State.WRONG, f"{file} holds no settings of the form 'name: value'", "Correct it"
        )
    return CheckResult("DAGSTER_HOME", State.OK, str(file.parent))


# --- the server ---------------------------------------------------------------------------------------------------


def check_writing(connection: Connection) -> Iterator[CheckResult]:
    """Check that the role may write at all: not on a standby, nor with a read-only role."""
    read_only, is_standby, role = connection.exec_driver_sql(
        "SELECT current_setting('transaction_read_only'), pg_is_in_recovery(), current_user"
    ).one()
    if is_standby:
        yield CheckResult(
            "Writing", State.WRONG, "the server is a standby, which can only be read", "Name the primary server"
        )
    elif read_only == "on":
        yield CheckResult(
            "Writing",
            State.WRONG,
            f"the role {role!r} can only read: default_transaction_read_only is on",
            f'Use another role, or run as an administrator: ALTER ROLE "{role}" RESET default_transaction_read_only',
        )


def check_queue_rights(connection: Connection) -> Iterator[CheckResult]:
    """Check that the role may hand jobs over and run them, if the tables of the queue are there."""
    role, exists, may_use = connection.exec_driver_sql(
        """
        SELECT current_user, n.oid IS NOT NULL, has_schema_privilege(n.oid, 'USAGE')
          FROM (VALUES (1)) one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'irp_queue'
        """
    ).one()
    if not exists:
        return
    lacking = _missing_queue_rights(connection) if may_use else ["USAGE on the schema"]
    if lacking:
        yield CheckResult(
            "Queue",
            State.WRONG,
            f"the role {role!r} lacks rights in the schema 'irp_queue', where jobs wait: {'; '.join(lacking)}",
            f'Run as its owner: GRANT USAGE ON SCHEMA irp_queue TO "{role}"; GRANT SELECT, INSERT, UPDATE, DELETE ON '
            f'ALL TABLES IN SCHEMA irp_queue TO "{role}"; GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA irp_queue '
            f'TO "{role}"',
        )
    else:
        yield CheckResult("Queue", State.OK, f"the role {role!r} may hand jobs over and run them")


def _missing_queue_rights(connection: Connection) -> list[str]:
    rows = connection.exec_driver_sql(
        """
        SELECT c.relname, string_agg(wanted.name, ', ' ORDER BY wanted.place)
          FROM pg_catalog.pg_namespace n
          JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'S')
         CROSS JOIN (VALUES (1, 'SELECT'), (2, 'INSERT'), (3, 'UPDATE'), (4, 'DELETE'), (5, 'USAGE'))
                    wanted (place, name)
         WHERE n.nspname = 'irp_queue' AND (c.relname <> 'irp_queue_version' OR wanted.name = 'SELECT')
           AND CASE WHEN c.relkind = 'S' AND wanted.name IN ('USAGE', 'SELECT')
                    THEN NOT has_sequence_privilege(c.oid, wanted.name)
                    WHEN c.relkind <> 'S' AND wanted.name <> 'USAGE'
                    THEN NOT has_table_privilege(c.oid, wanted.name)
                    ELSE false END
         GROUP BY c.relname ORDER BY c.relname
        """
    ).all()
    return [f"{rights} on {name}" for name, rights in rows]


SERVER_CHECKS: tuple[Callable[[Connection], Iterator[CheckResult]], ...] = (check_writing, check_queue_rights)


# --- a schema -----------------------------------------------------------------------------------------------------


def check_schema_rights(connection: Connection, schema: str) -> Iterator[CheckResult]:
    """Check that the role may use the schema and its tables, or make the schema if it is missing."""
    role, may_create_schemas, exists, may_use, may_create = connection.exec_driver_sql(
        """
        SELECT current_user, has_database_privilege(current_database(), 'CREATE'), n.oid IS NOT NULL,
               has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE')
          FROM (VALUES (1)) one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = %s
        """,
        (schema,),
    ).one()
    if not exists:
        if not may_create_schemas:
            yield CheckResult(
                "Rights",
                State.WRONG,
                f"the schema {schema!r} does not exist, and the role {role!r} may make none in this database",
                f'Run as an administrator: GRANT CREATE ON DATABASE … TO "{role}"',
            )
        return
    if not may_use:
        yield CheckResult(
            "Rights",
            State.WRONG,
            f"the role {role!r} may not use the schema {schema!r}",
            f'Run as its owner: GRANT USAGE, CREATE ON SCHEMA "{schema}" TO "{role}"',
        )
        return
    missing = _missing_rights(connection, schema)
    if missing:
        yield CheckResult(
            "Rights",
            State.WRONG,
            f"the role {role!r} lacks rights on tables of the schema {schema!r}: {missing}",
            f'Run as their owner: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "{schema}" TO "{role}"',
        )
    elif not may_create:
        yield CheckResult(
            "Rights",
            State.NOTE,
            f"the role {role!r} may work in the schema {schema!r}, and may not upgrade its tables (no CREATE)",
            "Let the schema's owner run irp db upgrade",
        )
    else:
        yield CheckResult(
            "Rights", State.OK, f"the role {role!r} may work in the schema {schema!r} and upgrade its tables"
        )


def _missing_rights(connection: Connection, schema: str) -> str:
    rows = connection.exec_driver_sql(
        """
        SELECT c.relname, string_agg(wanted.name, ', ' ORDER BY wanted.place)
          FROM pg_catalog.pg_namespace n
          JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p') AND c.relname LIKE 'irp\\_%%'
         CROSS JOIN (VALUES (1, 'SELECT'), (2, 'INSERT'), (3, 'UPDATE'), (4, 'DELETE')) wanted (place, name)
         WHERE n.nspname = %s AND (c.relname <> 'irp_schema_version' OR wanted.name = 'SELECT')
           AND NOT has_table_privilege(c.oid, wanted.name)
         GROUP BY c.relname ORDER BY c.relname
        """,
        (schema,),
    ).all()
    return "; ".join(f"{rights} on {table}" for table, rights in rows)


SCHEMA_CHECKS: tuple[Callable[[Connection, str], Iterator[CheckResult]], ...] = (check_schema_rights,)


# --- Dagster's database -------------------------------------------------------------------------------------------

_RECORDS = "Dagster's records"
_RECORDS_REMEDY = "Correct IRP_DAGSTER_DATABASE_URL, which may name the database of the pipeline itself"


def check_dagster_database() -> Iterator[CheckResult]:
    """Check that the database with Dagster's records exists or can be made, and can be written."""
    import psycopg2

    from irp_pipeline import settings
    from irp_pipeline.errors import IrpError

    try:
        url = settings.dagster_database_url()
    except IrpError as error:
        yield CheckResult(_RECORDS, State.WRONG, str(error))
        return
    shown = f"database {url.database} on {url.host or url.query.get('host') or 'the local socket'}"
    try:
        with closing(_connect(url)) as connection:
            yield _records_rights(connection, shown)
    except psycopg2.OperationalError as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        can_be_made = _can_be_made(url) if "does not exist" in said else None
        if can_be_made:
            yield CheckResult(_RECORDS, State.OK, f"{shown}, made by the first run that needs it")
        elif can_be_made is False:
            yield CheckResult(
                _RECORDS,
                State.WRONG,
                f"{shown} does not exist, and the role may make no databases (CREATEDB)",
                "Have it made, or name another one in IRP_DAGSTER_DATABASE_URL, which may be that of the pipeline",
            )
        else:
            yield CheckResult(_RECORDS, State.WRONG, f"no connection to {shown}: {said}", _RECORDS_REMEDY)
    except psycopg2.Error as error:
        yield CheckResult(_RECORDS, State.WRONG, f"{shown}: {str(error).splitlines()[0]}", _RECORDS_REMEDY)


def _records_rights(connection: DriverConnection, shown: str) -> CheckResult:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT current_user, current_schema(), has_schema_privilege(current_schema(), 'CREATE'),
                   current_setting('transaction_read_only'), to_regclass('runs')::oid
            """
        )
        role, schema, may_create, read_only, runs = cursor.fetchone() or (None, None, None, None, None)
        may_write = True
        if runs is not None:
            cursor.execute(
                "SELECT bool_and(has_table_privilege(%s::oid, name)) FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE',"
                " 'DELETE']) name",
                (runs,),
            )
            may_write = cursor.fetchone() == (True,)
    if schema is None:
        return CheckResult(
            _RECORDS,
            State.WRONG,
            f"{shown}: the search path of the role {role!r} names no schema that exists",
            f'Run as an administrator: ALTER ROLE "{role}" RESET search_path; or make the schema that it names',
        )
    if read_only == "on":
        return CheckResult(
            _RECORDS, State.WRONG, f"{shown}: the role {role!r} can only read", "Use a role that may write"
        )
    if runs is None and not may_create:
        return CheckResult(
            _RECORDS,
            State.WRONG,
            f"{shown}: Dagster's tables are not there, and the role {role!r} may make none in the schema {schema!r}",
            f'Run as an administrator: GRANT CREATE ON SCHEMA "{schema}" TO "{role}"',
        )
    if not may_write:
        return CheckResult(
            _RECORDS,
            State.WRONG,
            f"{shown}: the role {role!r} may not read and write Dagster's tables in the schema {schema!r}",
            f'Run as their owner: GRANT ALL ON ALL TABLES IN SCHEMA "{schema}" TO "{role}"',
        )
    return CheckResult(_RECORDS, State.OK, f"{shown}, as {role}")


def _can_be_made(url: URL) -> bool | None:
    """Tell whether the role may make the database; None if the database exists, or it is unknown."""
    import psycopg2

    from irp_pipeline import settings

    try:
        with closing(_connect(settings.database_url())) as connection, connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT rolcreatedb OR rolsuper, EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = %s)
                  FROM pg_catalog.pg_roles WHERE rolname = current_user
                """,
                (url.database,),
            )
            may_create, exists = cursor.fetchone() or (False, False)
    except psycopg2.Error:
        return None
    return None if exists else bool(may_create)


def _connect(url: URL) -> DriverConnection:
    import psycopg2

    from irp_pipeline import settings

    arguments: dict[str, Any] = url.translate_connect_args(username="user", database="dbname") | dict(url.query)
    connection: DriverConnection = psycopg2.connect(**arguments, connect_timeout=settings.connect_timeout_seconds())
    return connection
