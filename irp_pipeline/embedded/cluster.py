"""The cluster (PostgreSQL's word for a data folder) and the database in it.

Here: making both, and refusing a folder that is something else. Not here: the server that runs on it
(:mod:`irp_pipeline.embedded.server`), and schemas or tables.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from irp_pipeline.embedded.account import Account, name_from_within, run
from irp_pipeline.embedded.errors import REMEDY, EmbeddedServerError
from irp_pipeline.embedded.place import Place, end_of_log, open_private
from irp_pipeline.embedded.programs import POSTGRES_VERSION
from irp_pipeline.embedded.sockets import DATABASE_NAME, DATABASE_USER, PORT, client_folder
from irp_pipeline.files import sync_folder


def is_made(place: Place) -> bool:
    """Return whether the cluster exists; refuse a folder that is something else, or of another version."""
    try:
        version = (place.data / "PG_VERSION").read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        if place.data.is_dir() and any(place.data.iterdir()):
            raise EmbeddedServerError(
                f"{place.data} exists but is not a PostgreSQL cluster. Move it away and try again."
            ) from None
        return False
    if version != str(POSTGRES_VERSION):
        raise EmbeddedServerError(
            f"{place.data} was made by PostgreSQL {version}, and PostgreSQL {POSTGRES_VERSION} cannot read it. Move it "
            "away to start with an empty one, or restore a dump of it into a new one."
        )
    return True


def make_cluster(place: Place, programs: Path, account: Account | None) -> None:
    """Make the cluster under another name, then rename it, so that an interrupted start leaves no half-made one."""
    for interrupted in place.folder.glob("data.new-*"):
        shutil.rmtree(interrupted, ignore_errors=True)
    place.has_database.unlink(missing_ok=True)
    new = Path(tempfile.mkdtemp(prefix="data.new-", dir=place.folder))
    try:
        if account is not None:
            os.chown(new, account.uid, account.gid, follow_symlinks=False)
        _run_initdb(place, programs, account, new)
        new.rename(place.data)
        sync_folder(place.folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _run_initdb(place: Place, programs: Path, account: Account | None, new: Path) -> None:
    made = run(
        [
            programs / "initdb",
            f"--pgdata={name_from_within(new, account)}",
            f"--username={DATABASE_USER}",
            "--auth-local=trust",  # only the owner and root can enter the folder
            "--auth-host=reject",
            "--no-instructions",
            # The same order and the same letters on every machine, without the system's collations.
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--set=max_connections=200",
            "--set=cluster_name=irp",
            # systemd removes the POSIX shared memory of a user who logs out, and containers have little of it.
            "--set=dynamic_shared_memory_type=mmap",
            "--set=min_dynamic_shared_memory=64MB",
        ],
        account,
        new,
        environment={"TZ": "UTC"},  # becomes the cluster's time zone
    )
    if made.returncode != 0:
        said = (made.stdout + made.stderr).decode(errors="replace").strip().splitlines()
        raise EmbeddedServerError(
            f"The embedded PostgreSQL could not be set up in {place.folder}. The last output of initdb:\n"
            + "\n".join(f"    {line}" for line in said[-10:])
            + f"\n{REMEDY}"
        )


def make_database(place: Place) -> None:
    """Make the database if it is missing; the caller holds the lock, but another client may still be faster."""
    import psycopg2
    import psycopg2.errors

    try:
        with closing(
            psycopg2.connect(
                host=str(client_folder(place)),
                port=PORT,
                user=DATABASE_USER,
                dbname="postgres",
                connect_timeout=30,
            )
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE_NAME])
                if cursor.fetchone() is None:
                    with suppress(psycopg2.errors.DuplicateDatabase, psycopg2.errors.UniqueViolation):
                        cursor.execute(f'CREATE DATABASE "{DATABASE_NAME}" TEMPLATE template0')
    except psycopg2.Error as error:
        raise EmbeddedServerError(
            f"The embedded PostgreSQL in {place.data} runs, but the database {DATABASE_NAME} could not be made: "
            f"{str(error).strip()}.\n{end_of_log(place, 0)}"
        ) from error
    os.close(open_private(place, place.has_database, os.O_WRONLY))
