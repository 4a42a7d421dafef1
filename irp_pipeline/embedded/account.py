"""The system user that the embedded server runs as, and how to run a program as another user.

Here: choosing or making that user, and running programs as that user. Not here: which programs the user can reach
(:mod:`irp_pipeline.embedded.programs`).
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from irp_pipeline.embedded.errors import EmbeddedServerError
from irp_pipeline.embedded.place import Place

_SERVER_ACCOUNT = "irp_postgres"


@dataclass(frozen=True)
class Account:
    """The system user that the server runs as."""

    name: str
    uid: int
    gid: int


def account_for(place: Place) -> Account | None:
    """Return the user that the server must run as; None means the current user."""
    uid = os.geteuid()
    if uid != 0:
        try:
            pwd.getpwuid(uid)
        except KeyError:
            raise EmbeddedServerError(
                f"The user number {uid} cannot set up PostgreSQL, since it has no name on this machine. Give it a name "
                f"(useradd --uid {uid} NAME), or set IRP_DATABASE_URL to a running PostgreSQL server."
            ) from None
        return None
    if place.data.exists():
        owner = place.data.stat()
        if owner.st_uid == 0:
            raise EmbeddedServerError(
                f"{place.data} belongs to root, but PostgreSQL refuses to run as root. Give it back to its former "
                f"owner, such as: chown -R {_SERVER_ACCOUNT} {place.data}"
            )
        return Account(f"user {owner.st_uid}", owner.st_uid, owner.st_gid)
    with suppress(KeyError):
        owner_of_home = pwd.getpwuid(place.home.stat().st_uid)
        if owner_of_home.pw_uid != 0:
            return Account(owner_of_home.pw_name, owner_of_home.pw_uid, owner_of_home.pw_gid)
    return _own_account()


def _own_account() -> Account:
    """Find or make the system user that root's server runs as: without home, shell or password."""
    deadline = time.monotonic() + 10.0
    reason = "useradd is not installed"
    while True:
        with suppress(KeyError):
            entry = pwd.getpwnam(_SERVER_ACCOUNT)
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
        command = shutil.which("useradd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        if command is None or time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"PostgreSQL refuses to run as root, and the system user {_SERVER_ACCOUNT} cannot be made: {reason}. "
                "Make that user, work as an ordinary user, or set IRP_DATABASE_URL to a running PostgreSQL server."
            )
        options = ("--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")
        made = subprocess.run(  # noqa: S603
            [command, *options, "--shell", "/usr/sbin/nologin", _SERVER_ACCOUNT],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        reason = made.stderr.decode(errors="replace").strip()
        if made.returncode != 0:  # another process is making the user, or holds the lock of the user database
            time.sleep(0.1)


def name_from_within(folder: Path, account: Account | None) -> str:
    """Return a path of a folder for a program that starts in it, even as a user who cannot reach the folder."""
    inside = Path("/proc/self/cwd")
    return str(inside) if account is not None and inside.exists() else str(folder)


def run(
    command: Sequence[str | Path],
    account: Account | None,
    folder: Path,
    log: int = subprocess.PIPE,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run one of the server's programs in its own session, so that Ctrl-C or a closed terminal does not reach it.

    It gets nothing from the caller's environment: no PGPORT, no library path, no secret that would stay in the
    server for its lifetime.
    """
    return subprocess.run(  # noqa: S603
        command,
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
        cwd=folder,
        env={"PATH": os.defpath, "LC_ALL": "C", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
        check=False,
    )
