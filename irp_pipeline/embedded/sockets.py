"""The socket of the embedded server: where clients find it, and whether a process listens on it.

Here: the address of the server, with the short link that a long path needs. Not here: the server's processes
(:mod:`irp_pipeline.embedded.processes`).
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from irp_pipeline.embedded.errors import EmbeddedServerError
from irp_pipeline.embedded.place import Place, place_of

if TYPE_CHECKING:
    from sqlalchemy import URL

DATABASE_NAME = "irp"
DATABASE_USER = "postgres"
PORT = 5432  # only a part of the socket's name: the server listens on no network
SOCKET_NAME = f".s.PGSQL.{PORT}"
_SOCKET_PATH_BYTES = 100  # Linux takes 107, macOS 103
_LINK_PARENT = Path("/tmp")  # noqa: S108 - the folder in it is checked before use; TMPDIR differs between processes


def server_url(home: Path) -> URL:
    """Return the URL of the embedded database of this IRP_HOME, whether or not the server runs.

    Returns:
        A ``postgresql+psycopg2`` URL of the database ``irp`` and the user ``postgres``; its host is the folder
        of the socket. There is no password: access to the data folder is enough.
    """
    from sqlalchemy import URL

    place = place_of(home)
    return URL.create(
        "postgresql+psycopg2",
        username=DATABASE_USER,
        database=DATABASE_NAME,
        query={"host": str(client_folder(place)), "port": str(PORT)},
    )


def listens(place: Place) -> bool:
    """Return whether a process has the socket open. It closes as soon as the server's first process ends."""
    if not place.data.is_dir():
        return False
    _ensure_link(place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(os.fsencode(client_folder(place) / SOCKET_NAME))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (BlockingIOError, TimeoutError):  # the queue of connections is full
            return True
    return True


def client_folder(place: Place) -> Path:
    """Return the folder in which clients find the socket: the data folder, or a short link to it."""
    path = str(place.data)
    fits = len(os.fsencode(path)) + 1 + len(SOCKET_NAME) <= _SOCKET_PATH_BYTES
    # A comma ends a host for libpq, a colon for SQLAlchemy; the two read a space in a URL differently.
    if fits and path.isprintable() and not re.search(r"[\s,:]", path):
        return place.data
    digest = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]
    return _link_folder() / digest


def _link_folder() -> Path:
    return _LINK_PARENT / f"irp-postgres-{os.geteuid()}"


def _ensure_link(place: Place) -> None:
    """Make the link for clients if they need one; it is made again after /tmp was cleaned."""
    link = client_folder(place)
    if link == place.data:
        return
    for _ in range(10):
        # Stopping another server may remove the folder between any two of these steps.
        with suppress(FileNotFoundError):
            _check_link_folder(place, link.parent)
            if not link.is_symlink() or link.readlink() != place.data:
                temporary = link.with_name(f"{link.name}.{os.getpid()}.{time.monotonic_ns()}")
                temporary.symlink_to(place.data)
                temporary.replace(link)
            return


def _check_link_folder(place: Place, folder: Path) -> None:
    """Make the folder of the links, or check that nobody else can put a link there."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise EmbeddedServerError(
            f"The path {place.data} is too long for a socket, and the folder {folder}, which would hold a short link "
            "to it, is not yours alone. Remove that folder, or set IRP_HOME to a shorter path."
        )


def remove_link(place: Place) -> None:
    link = client_folder(place)
    if link != place.data:
        with suppress(OSError):  # the folder holds other servers' links
            link.unlink(missing_ok=True)
            link.parent.rmdir()
