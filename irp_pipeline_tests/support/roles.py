"""Databases with the roles of the documentation: its SQL is run as it stands there.

Roles belong to the whole server, so their names and those of the databases get an ending of their own here.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg2
import pytest
from sqlalchemy import URL

from irp_pipeline import settings
from irp_pipeline.helpers.database import DatabaseError, dispose_engine, drop_schema
from irp_pipeline.postgres import schemas
from irp_pipeline_tests.support.blocks import ROOT, blocks_under

PASSWORD = "made-up"
ENDING = f"_{os.getpid()}"
DATABASES = ("irp", "irp_dagster")
ROLES = ("irp_owner", "irp_app", "irp_read")
"""Of ``docs/deployment.md``."""
MORE_ROLES = ("irp_migrate", "irp_approvers", "anna")
"""Of ``docs/sign_off.md``."""
_NAME = re.compile(rf"\b(?:{'|'.join((*DATABASES, *ROLES, *MORE_ROLES))})\b")

As = Callable[[str], None]


def named(text: str) -> str:
    """Return a text with the names that roles and databases have here."""
    return _NAME.sub(
        lambda found: found[0].replace("irp", f"irp{ENDING}", 1) if "irp" in found[0] else found[0] + ENDING, text
    )


def sql_of(page: str, heading: str) -> list[str]:
    """Return the blocks of SQL under a heading of a page, with the names that are used here."""
    return [named(block.text) for block in blocks_under(ROOT / "docs" / page, heading) if block.language == "sql"]


def run(url: URL, sql: str) -> None:
    """Run statements, each in a transaction of its own."""
    with closing(
        psycopg2.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))
    ) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in filter(str.strip, sql.split(";")):
                cursor.execute(statement)


@contextmanager
def database_with_roles(*, sign_off: bool) -> Iterator[URL]:
    """Yield a database with the roles of the page of deployment, and perhaps those of the page of sign-off."""
    admin = settings.database_url()
    database = admin.set(database=named("irp"))

    def give_passwords(*roles: str) -> None:
        for role in roles:
            run(admin, f"ALTER ROLE {named(role)} PASSWORD '{PASSWORD}'")

    try:
        as_administrator, as_owner = sql_of("deployment.md", "Roles and rights")
        run(admin, as_administrator)
        give_passwords(*ROLES)
        run(database.set(username=named("irp_owner"), password=PASSWORD), as_owner)
        if sign_off:
            as_administrator, as_migrator = sql_of("sign_off.md", "Separate roles")
            run(admin, as_administrator)
            give_passwords("irp_migrate", "anna")
            run(database.set(username=named("irp_migrate"), password=PASSWORD), as_migrator)
        yield database
    finally:
        dispose_engine()
        for name in DATABASES:
            run(admin, f"DROP DATABASE IF EXISTS {named(name)} WITH (FORCE)")
        for role in (*MORE_ROLES, *ROLES):
            run(admin, f"DROP ROLE IF EXISTS {named(role)}")


@contextmanager
def acting_in(database: URL, owner: str) -> Iterator[As]:
    """Yield a function after which everything works as a role; at the end drop the schemas as ``owner``."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("IRP_DAGSTER_DATABASE_URL", raising=False)

        def act(role: str) -> None:
            url = database.set(username=named(role), password=PASSWORD)
            environment.setenv("IRP_DATABASE_URL", url.render_as_string(hide_password=False))
            dispose_engine()

        yield act
        act(owner)
        for schema in schemas.list_initialised_schemas():
            drop_schema(schema, force=True)
        dispose_engine()
    dispose_engine()


@contextmanager
def refused(why: str = "permission denied|must be owner") -> Iterator[None]:
    """Expect that the database refuses."""
    with pytest.raises(DatabaseError, match=f"(?i){why}"):
        yield
