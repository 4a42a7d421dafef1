"""Where the database and the files are: the one door for configuration.

Here: every environment variable of this project that is not about schemas, with its default and its errors. Not here:
connecting (:mod:`irp_pipeline.helpers.database`), and the embedded server itself (:mod:`irp_pipeline.embedded`).

The environment is read when something is asked, never at import, and never from a file. An empty variable counts as
unset. What can be set:

=========================  ===========================================================================================
``IRP_HOME``               the folder of cycles and of the embedded server; default: the nearest ``.irp`` in the
                           working folder or above, else a new one in the working folder
``IRP_DATABASE_URL``       ``postgresql://user:password@host:5432/database``, with any parameter of libpq after ``?``
``DB_SERVER``              host, or folder of the socket; it needs ``DB_NAME``
``DB_PORT``                port of that server (5432)
``DB_NAME``                name of the database
``DB_USER``                role in the database (the user of the operating system, as for psql)
``DB_PASSWORD``            password of that role (none)
``IRP_CONNECT_TIMEOUT``    how long to wait for a connection, in seconds (10)
``IRP_POOL_SIZE``          how many connections a process keeps open (5)
``IRP_EXTENSIONS_SCHEMA``  a second schema in the search path, for PostgreSQL extensions (none)
``IRP_SOURCE_<NAME>_URL``  address of a database that portfolios come from, as SQLAlchemy writes it (none)
``IRP_DAGSTER_DATABASE_URL``
                           the database of Dagster's own records, like ``IRP_DATABASE_URL``; default: on the same
                           server, named as the other with ``_dagster`` behind it
``IRP_EXECUTOR``           where the steps of a run are carried out: ``in_process`` (default) or ``multiprocess``
``IRP_JOB_SLOTS``          how many jobs a risk engine runs on this machine at once (the number of processors)
``IRP_JOB_HOURS``          how long one of them may run (24)
``IRP_JOB_DISK_GB``        how large its folder may become, in gigabytes (50)
``IRP_JOB_PROCESSES``      how many processes its kernel has; figures depend on it in their last digits (1)
``IRP_JOB_ENV``            names of variables that jobs get besides the usual ones, with commas between them (none)
``NUMBA_CACHE_DIR``        where Oasis LMF keeps its compiled code (a folder for each Python environment in
                           ``~/.cache/irp-pipeline/compiled``)
``IRP_UI_HOSTS``           names under which ``irp ui`` answers besides ``localhost``, such as those of a proxy in front
                           of it, with commas between them (none)
``IRP_TIME_ZONE``          the time zone of schedules, such as ``Europe/London`` (``UTC``)
``IRP_WEBHOOK_URL``        where failed runs are announced, as JSON by POST; default: only in the log
=========================  ===========================================================================================

``IRP_DATABASE_URL`` wins over the ``DB_*`` variables; without either the embedded server is used.
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from irp_pipeline import embedded
from irp_pipeline.errors import IrpError

if TYPE_CHECKING:
    from sqlalchemy import URL

DRIVER = "postgresql+psycopg2"

_URL_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg")
_HOME_NAME = ".irp"
_SECRETS = frozenset({"DB_PASSWORD", "IRP_DATABASE_URL", "IRP_DAGSTER_DATABASE_URL", "IRP_WEBHOOK_URL"})


class SettingsError(IrpError):
    """An environment variable is missing or wrong; the message names it and says what to do."""


class _Variables(BaseSettings):
    model_config = SettingsConfigDict(case_sensitive=True, env_ignore_empty=True, extra="ignore")

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("it is not UTF-8") from None
        return value


class _Home(_Variables):
    folder: str | None = Field(None, validation_alias="IRP_HOME")


class _Url(_Variables):
    url: SecretStr | None = Field(None, validation_alias="IRP_DATABASE_URL")


class _Server(_Variables):
    host: str | None = Field(None, validation_alias="DB_SERVER")
    port: int | None = Field(None, validation_alias="DB_PORT", ge=1, le=65535)
    database: str | None = Field(None, validation_alias="DB_NAME")
    user: str | None = Field(None, validation_alias="DB_USER")
    password: SecretStr | None = Field(None, validation_alias="DB_PASSWORD")


class _Connections(_Variables):
    connect_timeout: int = Field(10, validation_alias="IRP_CONNECT_TIMEOUT", ge=1, le=3600)
    pool_size: int = Field(5, validation_alias="IRP_POOL_SIZE", ge=1, le=1000)
    extensions_schema: str | None = Field(None, validation_alias="IRP_EXTENSIONS_SCHEMA")


class _Jobs(_Variables):
    slots: int = Field(default_factory=lambda: len(os.sched_getaffinity(0)), validation_alias="IRP_JOB_SLOTS", ge=1)
    hours: float = Field(24, validation_alias="IRP_JOB_HOURS", gt=0)
    disk_gigabytes: float = Field(50, validation_alias="IRP_JOB_DISK_GB", gt=0)
    processes: int = Field(1, validation_alias="IRP_JOB_PROCESSES", ge=1, le=1024)
    environment: str | None = Field(None, validation_alias="IRP_JOB_ENV")

    @field_validator("environment")
    @classmethod
    def _is_list_of_names(cls, names: str | None) -> str | None:
        for name in _items(names):
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} is not the name of a variable; write NAME,NAME without values")
        return names


class _Dagster(_Variables):
    url: SecretStr | None = Field(None, validation_alias="IRP_DAGSTER_DATABASE_URL")
    executor: Literal["in_process", "multiprocess"] = Field("in_process", validation_alias="IRP_EXECUTOR")
    time_zone: str = Field("UTC", validation_alias="IRP_TIME_ZONE")
    webhook_url: SecretStr | None = Field(None, validation_alias="IRP_WEBHOOK_URL")

    @field_validator("time_zone")
    @classmethod
    def _is_time_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("there is no such time zone; write it as in Europe/London") from None
        return name


class _Ui(_Variables):
    hosts: str | None = Field(None, validation_alias="IRP_UI_HOSTS")

    @field_validator("hosts")
    @classmethod
    def _is_list_of_hosts(cls, hosts: str | None) -> str | None:
        for host in _items(hosts):
            if not re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?", host):
                raise ValueError(f"{host!r} is not the name of a host; write irp.example.com or irp.example.com:8443")
        return hosts


_AnyVariables = TypeVar("_AnyVariables", bound=_Variables)


@dataclass(frozen=True)
class DatabaseDescription:
    """Which database is used, without password: what may be shown to anybody.

    ``source`` is what :func:`database_source` says. ``host`` is a name, an address or the folder of a socket.
    """

    source: str
    host: str
    port: int
    database: str
    user: str

    def __str__(self) -> str:
        return f"database {self.database} as {self.user} on {self.host}, port {self.port} ({self.source})"


def irp_home() -> Path:
    """Say which folder holds the cycles and the embedded server. Makes nothing: that is :func:`make_irp_home`.

    A ``.irp`` folder above the working folder counts only if it belongs to the caller, to root or to the owner of
    the folder around it. Otherwise anybody could put one into ``/tmp`` and give others his database.

    Returns:
        An absolute path; the folder need not exist.

    Raises:
        SettingsError: ``IRP_HOME`` cannot be read; the working folder is gone, or holds another user's ``.irp``.
    """
    configured = _read(_Home).folder
    if configured is not None:
        try:
            return Path(os.path.abspath(Path(configured).expanduser()))  # noqa: PTH100 - without ".." in it
        except RuntimeError as error:
            raise SettingsError(f"IRP_HOME is {configured!r}: {error}. Set it to the path of a folder.") from None
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise SettingsError("The working folder no longer exists. Go to another one, or set IRP_HOME.") from None
    for folder in (here, *here.parents):
        if _is_trusted_home(folder / _HOME_NAME):
            return folder / _HOME_NAME
    if (here / _HOME_NAME).exists():
        raise SettingsError(
            f"{here / _HOME_NAME} is not a folder, or another user put it there. Set IRP_HOME to a folder of your "
            "own, or to this one if you trust it."
        )
    return here / _HOME_NAME


def make_irp_home() -> Path:
    """Make the folder of :func:`irp_home` if need be: only its owner can enter it, and git ignores it.

    One that others can enter is closed to them, with all that is in it.

    Returns:
        Its absolute path.

    Raises:
        SettingsError: as :func:`irp_home`; it cannot be made, or belongs to another user.
    """
    home = irp_home()
    try:
        return embedded.make_home(home)
    except embedded.EmbeddedServerError as error:
        raise SettingsError(f"The folder {home} cannot be used as IRP_HOME. {error}") from error


def cycle_dir(schema: str, cycle: str) -> Path:
    """Say which folder holds the files of a cycle: ``IRP_HOME/cycles/<schema>/<cycle>``. Makes nothing.

    Whoever puts something into it calls :func:`make_irp_home` first.

    Args:
        schema: the PostgreSQL schema of the cycle.
        cycle: the cycle's name.

    Raises:
        SettingsError: one of the two is not the name of one folder, such as ``..`` or ``a/b``.
    """
    for what, name in (("schema", schema), ("cycle", cycle)):
        if name in {"", ".", ".."} or not name.isprintable() or "/" in name or "\\" in name:
            raise SettingsError(
                f"The {what} {name!r} cannot be the name of a folder, and its files have no place. "
                f"Use a {what} name of letters, digits, '_', '-' and '.'."
            )
    return irp_home() / "cycles" / schema / cycle


def database_source() -> str:
    """Say what names the database: ``IRP_DATABASE_URL``, ``DB_*`` or ``embedded``. Neither connects nor starts."""
    if _read(_Url).url is not None:
        return "IRP_DATABASE_URL"
    if any(os.environ.get(str(field.validation_alias)) for field in _Server.model_fields.values()):
        return "DB_*"
    return "embedded"


def database_url() -> URL:
    """Give the database to connect to; the embedded server is started if it is the one.

    Returns:
        A SQLAlchemy URL that names the driver psycopg2, whatever driver the variable named. ``str()`` of it hides
        the password; ``render_as_string(hide_password=False)`` does not.

    Raises:
        SettingsError: a variable is missing or wrong.
        EmbeddedServerError: the embedded server cannot be started.
    """
    if database_source() == "embedded":
        return embedded.ensure_running(irp_home())
    return _named_url()


def describe_database() -> DatabaseDescription:
    """Say which database :func:`database_url` would give, without password. Neither connects nor starts.

    Raises:
        SettingsError: a variable is missing or wrong.
    """
    source = database_source()
    url = embedded.server_url(irp_home()) if source == "embedded" else _named_url()
    return DatabaseDescription(
        source=source,
        host=url.host or _query_value(url, "host") or "the local socket",
        port=url.port or _whole_number(_query_value(url, "port")) or 5432,
        database=url.database or "",
        user=url.username or os.environ.get("PGUSER") or user_of_system(),
    )


def connect_timeout_seconds() -> int:
    """Say how long to wait for a connection, in whole seconds: ``IRP_CONNECT_TIMEOUT``, default 10.

    Raises:
        SettingsError: it is no whole number from 1 to 3600.
    """
    return _read(_Connections).connect_timeout


def pool_size() -> int:
    """Say how many connections a process keeps open: ``IRP_POOL_SIZE``, default 5.

    Raises:
        SettingsError: it is no whole number from 1 to 1000.
    """
    return _read(_Connections).pool_size


def extensions_schema() -> str | None:
    """Name the schema that holds PostgreSQL extensions, if there is one: ``IRP_EXTENSIONS_SCHEMA``."""
    return _read(_Connections).extensions_schema


def dagster_database_url() -> URL:
    """Give the database of Dagster's own records: ``IRP_DAGSTER_DATABASE_URL``, or one beside the pipeline's.

    The embedded server is started if it is the one; the database itself is made by
    :mod:`irp_pipeline.orchestration.storage`.

    Raises:
        SettingsError: a variable is missing or wrong.
        EmbeddedServerError: the embedded server cannot be started.
    """
    named = _read(_Dagster).url
    if named is not None:
        return _url_of_text("IRP_DAGSTER_DATABASE_URL", named.get_secret_value().strip())
    url = database_url()
    return url.set(database=f"{url.database}_dagster")


def executor() -> Literal["in_process", "multiprocess"]:
    """Say where the steps of a run are carried out: ``IRP_EXECUTOR``, default ``in_process``.

    Raises:
        SettingsError: it is neither ``in_process`` nor ``multiprocess``.
    """
    return _read(_Dagster).executor


def models_folder() -> Path:
    """Say where models are looked for that are not in the folder of the workbook: ``IRP_HOME/models``."""
    return irp_home() / "models"


def job_slots() -> int:
    """Say how many jobs a risk engine runs on this machine at once: ``IRP_JOB_SLOTS``, default its processors.

    Raises:
        SettingsError: it is no whole number above 0.
    """
    return _read(_Jobs).slots


def job_seconds() -> float:
    """Say how long a job may run, in seconds: ``IRP_JOB_HOURS``, default 24 hours.

    Raises:
        SettingsError: it is no number above 0.
    """
    return _read(_Jobs).hours * 3600


def job_disk_bytes() -> float:
    """Say how large the folder of a job may become, in bytes: ``IRP_JOB_DISK_GB``, default 50 gigabytes.

    Raises:
        SettingsError: it is no number above 0.
    """
    return _read(_Jobs).disk_gigabytes * 1e9


def job_environment_names() -> list[str]:
    """Name the variables that jobs get besides the usual ones: ``IRP_JOB_ENV``, default none.

    Raises:
        SettingsError: it is not a list of names.
    """
    return _items(_read(_Jobs).environment)


def ui_hosts() -> list[str]:
    """Name the hosts, some with a port, as which the UI answers besides this machine's own: ``IRP_UI_HOSTS``.

    Raises:
        SettingsError: it is not a list of hosts.
    """
    return _items(_read(_Ui).hosts)


def job_processes() -> int:
    """Say how many processes the kernel of a job has: ``IRP_JOB_PROCESSES``, default 1.

    Figures depend on it in their last digits.

    Raises:
        SettingsError: it is no whole number from 1 to 1,024.
    """
    return _read(_Jobs).processes


def time_zone() -> str:
    """Name the time zone of schedules: ``IRP_TIME_ZONE``, default ``UTC``.

    Raises:
        SettingsError: there is no such time zone.
    """
    return _read(_Dagster).time_zone


def webhook_url() -> str | None:
    """Give the address that failed runs are announced to, which may hold a secret: ``IRP_WEBHOOK_URL``."""
    url = _read(_Dagster).webhook_url
    return url.get_secret_value() if url is not None else None


def problems() -> list[str]:
    """Say what is wrong with the variables that are set, each with what to do; neither connects nor starts anything."""
    found = []
    for variables in (_Home, _Url, _Server, _Connections, _Jobs, _Dagster):
        try:
            _read(variables)
        except SettingsError as error:
            found.append(str(error))
    if found:
        return found
    checks: tuple[Callable[[], object], ...] = (irp_home, describe_database, _check_dagster_url, _check_webhook)
    for check in checks:
        try:
            check()
        except SettingsError as error:
            found.append(str(error))
    return found


def _check_dagster_url() -> None:
    named = _read(_Dagster).url
    if named is not None:
        _url_of_text("IRP_DAGSTER_DATABASE_URL", named.get_secret_value().strip())


def _check_webhook() -> None:
    url = webhook_url()
    if url is not None and not url.startswith(("http://", "https://")):
        raise SettingsError("IRP_WEBHOOK_URL must begin with http:// or https://. Correct it, or unset it.")


def _read(variables: type[_AnyVariables]) -> _AnyVariables:
    try:
        return variables()
    except ValidationError as error:
        problems = [_problem(str(detail["loc"][0]), detail["msg"]) for detail in error.errors(include_input=False)]
        # The chained error would show the values, passwords included.
        raise SettingsError(" ".join(problems)) from None


def _problem(variable: str, message: str) -> str:
    is_secret = variable in _SECRETS
    value = "set" if is_secret else repr(os.environ.get(variable))
    return f"{variable} is {value}, but is not usable: {message}. Correct it, or unset it for the default."


def _is_trusted_home(folder: Path) -> bool:
    try:
        if not folder.is_dir():
            return False
        return folder.stat().st_uid in {os.geteuid(), 0, folder.parent.stat().st_uid}
    except OSError:
        return False


def _named_url() -> URL:
    """Give the URL that the environment names."""
    url = _read(_Url).url
    return (
        _url_of_server(_read(_Server))
        if url is None
        else _url_of_text("IRP_DATABASE_URL", url.get_secret_value().strip())
    )


def _url_of_text(variable: str, text: str) -> URL:
    """Read the address in a variable. No error repeats a part of it in which a password could be."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    scheme, separator, _ = text.partition("://")
    if not separator or scheme.lower() not in _URL_SCHEMES:
        found = f" It begins with {scheme}://." if separator and re.fullmatch(r"[\w+.-]{1,40}", scheme) else ""
        raise SettingsError(
            f"{variable} is not the address of a PostgreSQL database."
            f"{found} Write postgresql://user:password@host:5432/database."
        )
    try:
        url = make_url(text).set(drivername=DRIVER)
    except (ArgumentError, ValueError):
        url = None
    # A second "@" may be one of the password; what follows the first would be taken for the host, and be shown.
    if url is None or text.count("@") > 1 or (url.port is not None and not 0 < url.port < 65536):
        raise SettingsError(
            f"{variable} cannot be read: the part after the user is not host:port/database. A password with "
            "characters such as @ : / ? # % must have them percent-encoded (@ as %40); or set DB_SERVER, DB_NAME, "
            "DB_USER and DB_PASSWORD instead, which take any password as it is."
        )
    # libpq takes these behind the "?" as well, where nothing would hide the password.
    if user := _query_value(url, "user"):
        url = url.set(username=user).difference_update_query(["user"])
    if password := _query_value(url, "password"):
        url = url.set(password=password).difference_update_query(["password"])
    if not url.database:
        raise SettingsError(f"{variable} names no database. Write its name after the host: ...@host:5432/name.")
    return url


def _url_of_server(server: _Server) -> URL:
    """Put DB_SERVER, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD together."""
    from sqlalchemy import URL

    missing = [name for name, value in (("DB_SERVER", server.host), ("DB_NAME", server.database)) if not value]
    if missing or server.host is None:
        given = [
            name for name in (str(f.validation_alias) for f in _Server.model_fields.values()) if os.environ.get(name)
        ]
        raise SettingsError(
            f"{_listed(given)} {'is' if len(given) == 1 else 'are'} set, but {_listed(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. Set {'it' if len(missing) == 1 else 'them'} as well, or "
            "unset all DB_* variables to use the embedded server."
        )
    password = None if server.password is None else server.password.get_secret_value()
    port = server.port or 5432
    if server.host.startswith("/"):  # the folder of a socket
        return URL.create(
            DRIVER, server.user, password, database=server.database, query={"host": server.host, "port": str(port)}
        )
    host = server.host.strip("[]")
    if not _is_host(host):
        raise SettingsError(
            f"DB_SERVER is {server.host!r}, but must be the name or address of one server, without port or user. "
            "Set DB_PORT and DB_USER to those; for a whole URL there is IRP_DATABASE_URL."
        )
    return URL.create(DRIVER, server.user, password, host, port, server.database)


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return re.fullmatch(r"[^\s/@?#,:]+", host) is not None
    return True


def _query_value(url: URL, name: str) -> str | None:
    value = url.query.get(name)
    return value if isinstance(value, str) or value is None else ",".join(value)


def _items(text: str | None) -> list[str]:
    return [item for part in (text or "").split(",") if (item := part.strip())]


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def user_of_system() -> str:
    """Name who runs this process, as the operating system knows him."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        return str(os.geteuid())


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
