"""``irp db``: making, upgrading, adopting and dropping schemas, and their server."""

from dataclasses import asdict
from typing import Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.failures import CommandError
from irp_pipeline.cli.options import (
    AsJson,
    DbSchema,
    SchemaName,
    Yes,
    check_schema,
    make_sure,
    schema_option,
    working_in,
)

Force = Annotated[
    bool, typer.Option("--force", help="First end the steps and jobs that are at work, and wait until they have ended.")
]

app = typer.Typer(no_args_is_help=True, help="Make, upgrade, adopt and drop schemas; find and stop the server.")

_SECRET_PARAMETERS = ("sslpassword",)


@app.command(epilog="Example: irp db init --db-schema test_cycle")
def init(force: Force = False, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Make the schema and its tables.

    Tables of an earlier version are upgraded, unless steps or jobs are at work in them. Nothing is ever deleted, and
    the command is safe to repeat.
    """
    from irp_pipeline.postgres.schemas import current_version

    with working_in(db_schema) as schema:
        _bring_up_to_date(schema, current_version(schema), force, as_json)


@app.command(epilog="Example: irp db upgrade --db-schema test_cycle")
def upgrade(force: Force = False, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Bring an existing schema up to date.

    Its tables are changed to what this version of irp-pipeline needs. Every row is kept. The command refuses while
    steps or jobs are at work.
    """
    from irp_pipeline.postgres.schemas import current_version

    with working_in(db_schema) as schema:
        before = current_version(schema)
        if before is None:
            _refuse_of_old_framework(schema)
            raise CommandError(
                f"There is nothing to upgrade: the schema {schema!r} does not exist in {_database()}, or was never "
                f"initialised. To make it, run: irp db init {schema_option(schema)}"
            )
        _bring_up_to_date(schema, before, force, as_json)


@app.command(epilog="Example: irp db adopt --dry-run")
def adopt(
    copy_to: Annotated[
        str | None,
        typer.Option(
            "--copy-to",
            metavar="SCHEMA",
            help="Leave the old schema as it is, and copy its rows to this one, which is made.",
            callback=check_schema,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done, with counts.")] = False,
    db_schema: DbSchema = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Adopt a schema that the old single-module framework made.

    Its tables become those of irp-pipeline, in one transaction: every row is kept, with its id. What our tables would
    refuse is repaired, and the original value kept. Rows that have no repair are listed; nothing is changed then. The
    command asks first, and is safe to repeat.
    """
    from irp_pipeline.cli.adoption import adopt_schema

    with working_in(db_schema) as schema:
        adopt_schema(schema, copy_to, dry_run, yes, as_json)


@app.command(epilog="Example: irp db stop")
def stop(as_json: AsJson = False) -> None:
    """Stop the embedded PostgreSQL server.

    This is the server of this IRP_HOME. The next command that needs it starts it again.
    """
    from irp_pipeline import embedded, settings

    home = settings.irp_home()
    stopped = embedded.stop(home)
    used = settings.describe_database()
    is_other = used.source != "embedded"
    if is_other and not stopped:
        raise CommandError(f"The server in use is not ours to stop: {used}. No embedded server runs in {home}")
    if as_json:
        output.print_json({"stopped": stopped, "home": str(home)})
        return
    if not stopped:
        output.say(f"No embedded server runs in {home}: nothing to stop.")
        return
    output.say(f"Stopped the embedded server in {home}.")
    if is_other:
        output.print_note(f"The server in use is another one, and not ours to stop: {used}.")


@app.command(epilog='Example: psql "$(irp db url)"')
def url(
    show_password: Annotated[bool, typer.Option("--show-password", help="Write the password into the URL.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the URL of the database.

    It is for psql and other programs, and contains no password. If the database is on the embedded server, that server
    is started.
    """
    from sqlalchemy import URL

    from irp_pipeline import settings

    database = settings.database_url()
    shown = URL.create(
        "postgresql",  # without the driver, which only SQLAlchemy understands
        database.username,
        database.password if show_password else None,
        database.host,
        database.port,
        database.database,
        {name: value for name, value in database.query.items() if show_password or name not in _SECRET_PARAMETERS},
    ).render_as_string(hide_password=False)
    if as_json:
        output.print_json({"url": shown, "source": settings.database_source()})
    else:
        typer.echo(shown)


@app.command("grant-read", epilog="Example: irp db grant-read bi_tool --db-schema public")
def grant_read(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="An existing role of the server.")],
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Let a role read the views of a schema, and no table.

    For people and BI tools. The role must exist. The command is safe to repeat: do so after an upgrade, which may add
    views.
    """
    from irp_pipeline.postgres.rights import grant_read as grant

    with working_in(db_schema) as schema:
        granted = grant(schema, role)
    if as_json:
        output.print_json({"schema": schema, **asdict(granted)})
        return
    output.say(f"The role {role!r} may read these views of the schema {schema!r}: {', '.join(granted.views)}.")
    if granted.tables:
        output.print_note(
            f"It may also read or change tables, by rights that somebody else gave it: {', '.join(granted.tables)}."
        )
    if not granted.can_connect:
        output.print_note(
            f"It may not connect to the database {granted.database!r} yet. As its owner, say GRANT CONNECT ON DATABASE."
        )


@app.command(epilog="Example: irp db drop test_cycle")
def drop(
    schema_name: SchemaName = None,
    db_schema: DbSchema = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also drop public, or a schema that irp did not make; first end the steps and jobs that are at work.",
        ),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Drop a schema with everything in it.

    The command refuses while steps or jobs are at work, and asks before it drops. The schema must be named: there is no
    default.
    """
    from irp_pipeline.helpers.database import drop_schema
    from irp_pipeline.helpers.db_context import DEFAULT_SCHEMA

    if (schema_name is None) == (db_schema is None):
        raise typer.BadParameter("Name one schema, here or with --db-schema.", param_hint="SCHEMA")
    schema = schema_name or db_schema or ""
    if schema == DEFAULT_SCHEMA and not force:
        raise CommandError(f"The schema {schema!r} is the default place of the records. To drop it anyway, say --force")
    contents = _contents(schema, force)
    make_sure(
        f"Drop the schema {schema!r} with {contents}, in {_database()}? This cannot be undone.",
        yes,
        f"Dropping the schema {schema!r}",
    )
    if not drop_schema(schema, force=force):
        raise CommandError(f"There is no schema {schema!r} in {_database()}: nothing to drop")
    if as_json:
        output.print_json({"schema": schema, "dropped": True})
    else:
        output.say(f"Dropped the schema {schema!r} with {contents}.")


def _bring_up_to_date(schema: str, before: str | None, force: bool, as_json: bool) -> None:
    from irp_pipeline.helpers.database import init_database
    from irp_pipeline.postgres.schemas import latest_version

    init_database(schema, force=force)
    after = latest_version()
    if as_json:
        output.print_json({"schema": schema, "version": after, "version_before": before, "changed": before != after})
    elif before == after:
        output.say(f"The schema {schema!r} is up to date already, at version {after}.")
    elif before is None:
        output.say(f"Made the schema {schema!r} at version {after}, in {_database()}.")
    else:
        output.say(f"Upgraded the schema {schema!r} from version {before} to {after}, in {_database()}.")


def _refuse_of_old_framework(schema: str) -> None:
    from irp_pipeline.operations.adoption import is_of_old_framework

    if is_of_old_framework(schema):
        raise CommandError(
            f"The tables in schema {schema!r} are those of the old framework. To take them over, run: irp db adopt "
            f"--dry-run {schema_option(schema)}, then the same without --dry-run"
        )


def _contents(schema: str, force: bool) -> str:
    """Say what dropping a schema deletes; refuse a schema that irp did not make."""
    from irp_pipeline.helpers.cycle import get_cycle_status
    from irp_pipeline.postgres.schemas import current_version

    if current_version(schema) is not None:
        with working_in(schema):
            return f"its {output.counted(len(get_cycle_status()), 'cycle')} and everything else in it"
    if not force:
        raise CommandError(
            f"There is no schema {schema!r} that irp made in {_database()}: nothing to drop. If there is one that "
            "somebody else made, --force drops that"
        )
    return "everything in it, which irp did not make"


def _database() -> str:
    from irp_pipeline import settings

    return str(settings.describe_database())
