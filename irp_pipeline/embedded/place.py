"""The folder of one ``IRP_HOME``: where its files are, and who can enter it.

Here: the paths, making the folder and its files private, explaining the system's errors, quoting the server's log.
Not here: which folder is the IRP_HOME (:mod:`irp_pipeline.settings`), the socket
(:mod:`irp_pipeline.embedded.sockets`), and what the files mean to the server.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from irp_pipeline.embedded.errors import REMEDY, EmbeddedServerError
from irp_pipeline.files import narrow, write_atomically


@dataclass(frozen=True)
class Place:
    """The paths of one ``IRP_HOME``."""

    home: Path

    @property
    def lock(self) -> Path:
        return self.home / "postgres.lock"

    @property
    def folder(self) -> Path:
        return self.home / "postgres"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def has_database(self) -> Path:
        return self.folder / "has-database"

    @property
    def postmaster_file(self) -> Path:
        return self.data / "postmaster.pid"


def place_of(home: Path) -> Place:
    """Return the absolute paths of an IRP_HOME."""
    return Place(Path(os.path.abspath(home)))  # noqa: PTH100 - Path.absolute keeps the ".." in it


def make_home(home: Path) -> Path:
    """Make an IRP_HOME folder that only its owner can enter, and that git ignores.

    If others can enter an existing one, everything in it becomes private to its owner, except the server's data, which
    belong to the server's user and are always closed to others.

    Returns:
        The folder's absolute path.

    Raises:
        EmbeddedServerError: it cannot be made, or belongs to another user.
    """
    place = place_of(home)
    with os_errors_explained(place, "make"):
        if not place.home.is_dir():
            place.home.parent.mkdir(parents=True, exist_ok=True)
            place.home.mkdir(mode=0o700, exist_ok=True)
            write_atomically(place.home / ".gitignore", "*\n")
        keep_private(place)
    return place.home


def keep_private(place: Place) -> None:
    """Close the folder to others, if it exists.

    Raises:
        EmbeddedServerError: it belongs to another user. Root may use anybody's folder.
    """
    try:
        status = place.home.stat()
    except FileNotFoundError:
        return
    if os.geteuid() not in {0, status.st_uid}:
        raise EmbeddedServerError(
            f"{place.home} belongs to {_name_of_user(status.st_uid)}, and only its owner may use it. {REMEDY}"
        )
    if status.st_mode & 0o077:
        narrow(place.home, leave=[place.data, *place.folder.glob("data.new-*")])


def _name_of_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the user {uid}"


@contextmanager
def os_errors_explained(place: Place, verb: str) -> Iterator[None]:
    """Turn an error of the system into one that says what to do."""
    try:
        yield
    except PermissionError as error:
        raise EmbeddedServerError(
            f"Cannot {verb} the embedded PostgreSQL in {place.home}: {error}. The folder, or one above it, belongs "
            f"to another user. {REMEDY}"
        ) from error
    except OSError as error:
        raise EmbeddedServerError(
            f"Cannot {verb} the embedded PostgreSQL in {place.home}: {error}. {REMEDY}"
        ) from error


def open_private(place: Place, path: Path, flags: int) -> int:
    """Open or make a file that only its owner can read; files that root makes belong to the owner of IRP_HOME."""
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    if os.geteuid() == 0:
        owner = place.home.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def end_of_log(place: Place, begin: int) -> str:
    """Quote the last lines that the server wrote after a position in its log."""
    with suppress(OSError):
        with place.log.open("rb") as log:
            log.seek(max(begin, place.log.stat().st_size - 8192))
            lines = log.read().decode(errors="replace").strip().splitlines()
        if lines:
            return f"The last lines of {place.log}:\n" + "\n".join(f"    {line}" for line in lines[-10:])
    return f"It wrote nothing to {place.log}."
