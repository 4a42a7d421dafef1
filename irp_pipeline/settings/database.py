"""Which database is used: the one that the environment names, or the embedded one.

Here: its address, whichever variables give it, and which parts of it may be shown. Not here: connecting
(:mod:`irp_pipeline.postgres.connections`).
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from irp_pipeline import embedded
from irp_pipeline.settings.folders import irp_home
from irp_pipeline.settings.variables import Dagster, Server, SettingsError, Url, read

if TYPE_CHECKING:
    from sqlalchemy import URL

DRIVER = "postgresql+psycopg2"
_URL_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg")


@dataclass(frozen=True)
class DatabaseDescription:
    """Which database is used, without the password, so that anybody may see it.

    ``source`` comes from :func:`database_source`. ``host`` is a name, an address or the folder of a socket.
    """

    source: str
    host: str
    port: int
    database: str
    user: str

    def __str__(self) -> str:
        return f"database {self.database} as {self.user} on {self.host}, port {self.port} ({self.source})"


def database_source() -> str:
    """Return what names the database: ``IRP_DATABASE_URL``, ``DB_*`` or ``embedded``. Does not connect or start it."""
    if read(Url).url is not None:
        return "IRP_DATABASE_URL"
    if any(os.environ.get(str(field.validation_alias)) for field in Server.model_fields.values()):
        return "DB_*"
    return "embedded"


def database_url() -> URL:
    """Return the database to connect to; start the embedded server if it is used.

    Returns:
        A SQLAlchemy URL that names the driver psycopg2, whatever driver the variable names. Its ``str()`` hides
        the password; ``render_as_string(hide_password=False)`` does not.

    Raises:
        SettingsError: a variable is missing or wrong.
        EmbeddedServerError: the embedded server cannot be started.
    """
    if database_source() == "embedded":
        return embedded.ensure_running(irp_home())
    return _named_url()


def describe_database() -> DatabaseDescription:
    """Describe the database of :func:`database_url`, without the password. Does not connect or start it.

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


def dagster_database_url() -> URL:
    """Return the database of Dagster's own records: ``IRP_DAGSTER_DATABASE_URL``, or one beside the pipeline's.

    Starts the embedded server if it is used. :mod:`irp_pipeline.orchestration.storage` makes the database itself.

    Raises:
        SettingsError: a variable is missing or wrong.
        EmbeddedServerError: the embedded server cannot be started.
    """
    named = read(Dagster).url
    if named is not None:
        return url_of_text("IRP_DAGSTER_DATABASE_URL", named.get_secret_value().strip())
    url = database_url()
    return url.set(database=f"{url.database}_dagster")


def user_of_system() -> str:
    """Return the operating system's name of the user who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return str(os.geteuid())


def _named_url() -> URL:
    """Return the URL that the environment names."""
    url = read(Url).url
    return (
        _url_of_server(read(Server)) if url is None else url_of_text("IRP_DATABASE_URL", url.get_secret_value().strip())
    )


def url_of_text(variable: str, text: str) -> URL:
    """Read the address in a variable. No error repeats a part of it that could contain a password."""
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
    # A second "@" may belong to the password. The part after the first "@" would be read as the host and shown.
    if url is None or text.count("@") > 1 or (url.port is not None and not 0 < url.port < 65536):
        raise SettingsError(
            f"{variable} cannot be read: the part after the user is not host:port/database. Percent-encode "
            "characters such as @ : / ? # % in the password (@ as %40), or set DB_SERVER, DB_NAME, "
            "DB_USER and DB_PASSWORD instead, which take any password unchanged."
        )
    # libpq also reads these after the "?", where nothing would hide the password.
    if user := _query_value(url, "user"):
        url = url.set(username=user).difference_update_query(["user"])
    if password := _query_value(url, "password"):
        url = url.set(password=password).difference_update_query(["password"])
    if not url.database:
        raise SettingsError(f"{variable} names no database. Write its name after the host: ...@host:5432/name.")
    return url


def _url_of_server(server: Server) -> URL:
    """Make a URL from DB_SERVER, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD."""
    from sqlalchemy import URL

    missing = [name for name, value in (("DB_SERVER", server.host), ("DB_NAME", server.database)) if not value]
    if missing or server.host is None:
        given = [
            name for name in (str(f.validation_alias) for f in Server.model_fields.values()) if os.environ.get(name)
        ]
        raise SettingsError(
            f"{_listed(given)} {'is' if len(given) == 1 else 'are'} set, but {_listed(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. Set {'it' if len(missing) == 1 else 'them'} too, or "
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
            "Put those into DB_PORT and DB_USER, or a whole URL into IRP_DATABASE_URL."
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


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
