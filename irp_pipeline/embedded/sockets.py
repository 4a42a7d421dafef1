"""The socket of the embedded server: where clients find it, and whether somebody listens on it.

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
PORT = 5432  # only part of the socket's name: the server listens on no network
SOCKET_NAME = f".s.PGSQL.{PORT}"
_SOCKET_PATH_BYTES = 100  # Linux takes 107, macOS 103
_LINK_PARENT = Path("/tmp")  # noqa: S108 - checked to be ours before it is used; TMPDIR differs between processes


def server_url(home: Path) -> URL:
    """Give the URL of the embedded database of this IRP_HOME, whether or not the server runs.

    Returns:
        A ``postgresql+psycopg2`` URL of the database ``irp`` and the user ``postgres``; its host is the folder
        of the socket. There is no password: whoever can enter the data folder is that user.
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
    """Say whether a process has the socket open. It is closed the moment the server's first process is gone."""
    if not place.data.is_dir():
        return False
    _ensure_link(place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(os.fsencode(client_folder(place) / SOCKET_NAME))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (BlockingIOError, TimeoutError):  # so many are asking that the queue is full
            return True
    return True


def client_folder(place: Place) -> Path:
    """Say in which folder clients find the socket: the data folder, or a short link to it."""
    path = str(place.data)
    fits = len(os.fsencode(path)) + 1 + len(SOCKET_NAME) <= _SOCKET_PATH_BYTES
    # libpq takes a comma for the end of a host, SQLAlchemy a colon; a space in a URL is not the same to both.
    if fits and path.isprintable() and not re.search(r"[\s,:]", path):
        return place.data
    digest = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]
    return _link_folder() / digest


def _link_folder() -> Path:
    return _LINK_PARENT / f"irp-postgres-{os.geteuid()}"


def _ensure_link(place: Place) -> None:
    """Make the link for clients if they need one; it comes back by itself after /tmp was cleaned."""
    link = client_folder(place)
    if link == place.data:
        return
    for _ in range(10):
        # Another server's stop may take the folder away between any two of these steps.
        with suppress(FileNotFoundError):
            _check_link_folder(place, link.parent)
            if not link.is_symlink() or link.readlink() != place.data:
                temporary = link.with_name(f"{link.name}.{os.getpid()}.{time.monotonic_ns()}")
                temporary.symlink_to(place.data)
                temporary.replace(link)
            return


def _check_link_folder(place: Place, folder: Path) -> None:
    """Make the folder of the links, or see that nobody else can put a link there."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise EmbeddedServerError(
            f"The path of {place.data} is too long for a socket, and {folder}, where a short way to it would "
            "lie, is not a folder that is yours alone. Remove that folder, or set IRP_HOME to a shorter path."
        )


def remove_link(place: Place) -> None:
    link = client_folder(place)
    if link != place.data:
        with suppress(OSError):  # the folder holds other servers' links
            link.unlink(missing_ok=True)
            link.parent.rmdir()
