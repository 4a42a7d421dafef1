"""The environment variables: their names, defaults and checks.

Here: reading the variables, and a function for each setting that takes only one. Not here: settings that combine
several, which are where the files (:mod:`irp_pipeline.settings.folders`) and the database
(:mod:`irp_pipeline.settings.database`) are.
"""

from __future__ import annotations

import os
import re
from typing import Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from irp_pipeline.errors import IrpError
from irp_pipeline.settings.addresses import checked_address

_SECRETS = frozenset(
    {
        "DB_PASSWORD",
        "IRP_CELERY_BROKER",
        "IRP_DAGSTER_DATABASE_URL",
        "IRP_DATABASE_URL",
        "IRP_FILES_URL",
        "IRP_MESSAGES",
        "IRP_OASIS_PLATFORM_CLIENT_SECRET",
        "IRP_OASIS_PLATFORM_PASSWORD",
        "IRP_OASIS_PLATFORM_URL",
        "IRP_UI_URL",
    }
)


Executor = Literal["in_process", "multiprocess", "celery", "k8s"]
"""Where the steps of a run can be executed."""


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


class Home(_Variables):
    folder: str | None = Field(None, validation_alias="IRP_HOME")


class Files(_Variables):
    url: str | None = Field(None, validation_alias="IRP_FILES_URL")

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        return None if url is None else checked_address(url)


class Url(_Variables):
    url: SecretStr | None = Field(None, validation_alias="IRP_DATABASE_URL")


class Server(_Variables):
    host: str | None = Field(None, validation_alias="DB_SERVER")
    port: int | None = Field(None, validation_alias="DB_PORT", ge=1, le=65535)
    database: str | None = Field(None, validation_alias="DB_NAME")
    user: str | None = Field(None, validation_alias="DB_USER")
    password: SecretStr | None = Field(None, validation_alias="DB_PASSWORD")


class Connections(_Variables):
    connect_timeout: int = Field(10, validation_alias="IRP_CONNECT_TIMEOUT", ge=1, le=3600)
    pool_size: int = Field(5, validation_alias="IRP_POOL_SIZE", ge=1, le=1000)
    extensions_schema: str | None = Field(None, validation_alias="IRP_EXTENSIONS_SCHEMA")


class Jobs(_Variables):
    slots: int = Field(default_factory=lambda: len(os.sched_getaffinity(0)), validation_alias="IRP_JOB_SLOTS", ge=0)
    hours: float = Field(24, validation_alias="IRP_JOB_HOURS", gt=0)
    disk_gigabytes: float = Field(50, validation_alias="IRP_JOB_DISK_GB", gt=0)
    memory_gigabytes: float | None = Field(None, validation_alias="IRP_JOB_MEMORY_GB", gt=0)
    processes: int | None = Field(None, validation_alias="IRP_JOB_PROCESSES", ge=1, le=1024)
    environment: str | None = Field(None, validation_alias="IRP_JOB_ENV")

    @field_validator("environment")
    @classmethod
    def _is_list_of_names(cls, names: str | None) -> str | None:
        for name in _items(names):
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} is not the name of a variable; write names without values, as NAME,NAME")
        return names


def _checked_address(address: str | None, example: str, without_password: str) -> str | None:
    """Return an address without ``/`` at its end.

    Args:
        address: an ``http`` or ``https`` address, or nothing.
        example: of such an address, for the error.
        without_password: the error if it holds a user or a password.
    """
    if address is None:
        return None
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"it must be an address such as {example}")
    if parts.username is not None or parts.password is not None:
        raise ValueError(without_password)
    return address.rstrip("/")


class OasisPlatform(_Variables):
    url: str | None = Field(None, validation_alias="IRP_OASIS_PLATFORM_URL")
    user: str | None = Field(None, validation_alias="IRP_OASIS_PLATFORM_USER")
    password: SecretStr | None = Field(None, validation_alias="IRP_OASIS_PLATFORM_PASSWORD")
    client_id: str | None = Field(None, validation_alias="IRP_OASIS_PLATFORM_CLIENT_ID")
    client_secret: SecretStr | None = Field(None, validation_alias="IRP_OASIS_PLATFORM_CLIENT_SECRET")
    token_url: str | None = Field(None, validation_alias="IRP_OASIS_PLATFORM_TOKEN_URL")

    @field_validator("url", "token_url")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        return _checked_address(
            address,
            "https://oasis.example.com/api",
            "it must not hold a password; use the variables for user and password",
        )


class Dagster(_Variables):
    url: SecretStr | None = Field(None, validation_alias="IRP_DAGSTER_DATABASE_URL")
    executor: Executor = Field("in_process", validation_alias="IRP_EXECUTOR")
    celery_broker: SecretStr | None = Field(None, validation_alias="IRP_CELERY_BROKER")
    celery_queue: str = Field("irp", validation_alias="IRP_CELERY_QUEUE", pattern=r"^[A-Za-z0-9._-]{1,100}$")
    time_zone: str = Field("UTC", validation_alias="IRP_TIME_ZONE")

    @field_validator("celery_broker")
    @classmethod
    def _is_broker(cls, address: SecretStr | None) -> SecretStr | None:
        if address is not None and not re.match(r"(amqp|amqps|pyamqp|redis|rediss)://[^/]", address.get_secret_value()):
            raise ValueError(
                "write the address of RabbitMQ or Redis, as amqp://user:password@host:5672/vhost or "
                "redis://:password@host:6379/0"
            )
        return address

    @field_validator("time_zone")
    @classmethod
    def _is_time_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("there is no such time zone; write it like Europe/London") from None
        return name


class Messages(_Variables):
    services: SecretStr | None = Field(None, validation_alias="IRP_MESSAGES")


class Ui(_Variables):
    hosts: str | None = Field(None, validation_alias="IRP_UI_HOSTS")
    url: str | None = Field(None, validation_alias="IRP_UI_URL")

    @field_validator("hosts")
    @classmethod
    def _is_list_of_hosts(cls, hosts: str | None) -> str | None:
        for host in _items(hosts):
            if not re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?", host):
                raise ValueError(f"{host!r} is not the name of a host; write irp.example.com or irp.example.com:8443")
        return hosts

    @field_validator("url")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        return _checked_address(
            address, "https://irp.example.com", "it must not hold a password, since messages show it"
        )


_AnyVariables = TypeVar("_AnyVariables", bound=_Variables)


def files_url() -> str | None:
    """Say where the files of cycles are, if they are not in ``IRP_HOME``: ``IRP_FILES_URL``.

    Returns:
        ``file:///folder``, or the address of an object store such as ``s3://bucket/prefix``; without ``/`` at its end
        and without credentials. None: below ``IRP_HOME``.

    Raises:
        SettingsError: it is not such an address, or holds a password.
    """
    # Asked very often, and unset for most.
    return read(Files).url if os.environ.get("IRP_FILES_URL") else None


def connect_timeout_seconds() -> int:
    """Return how long to wait for a connection, in whole seconds: ``IRP_CONNECT_TIMEOUT``, default 10.

    Raises:
        SettingsError: it is not a whole number from 1 to 3600.
    """
    return read(Connections).connect_timeout


def pool_size() -> int:
    """Return how many connections a process keeps open: ``IRP_POOL_SIZE``, default 5.

    Raises:
        SettingsError: it is not a whole number from 1 to 1000.
    """
    return read(Connections).pool_size


def extensions_schema() -> str | None:
    """Return the schema that holds PostgreSQL extensions, if there is one: ``IRP_EXTENSIONS_SCHEMA``."""
    return read(Connections).extensions_schema


def executor() -> Executor:
    """Return where the steps of a run are executed: ``IRP_EXECUTOR``, default ``in_process``.

    Raises:
        SettingsError: it is none of ``in_process``, ``multiprocess``, ``celery`` and ``k8s``.
    """
    return read(Dagster).executor


def celery_broker() -> str:
    """Return the address of the broker for Celery, which may contain a password: ``IRP_CELERY_BROKER``.

    Raises:
        SettingsError: it is not set, or is not the address of RabbitMQ or Redis.
    """
    address = read(Dagster).celery_broker
    if address is None:
        raise SettingsError(
            "IRP_CELERY_BROKER is not set. Set it to the address of RabbitMQ or Redis, as "
            "amqp://user:password@host:5672/vhost or redis://:password@host:6379/0, for runs and workers alike"
        )
    return address.get_secret_value()


def celery_queue() -> str:
    """Return the queue through which runs hand steps to Celery's workers: ``IRP_CELERY_QUEUE``, default ``irp``.

    Raises:
        SettingsError: it is not a name of letters, digits, ``.``, ``_`` and ``-``.
    """
    return read(Dagster).celery_queue


def job_slots() -> int:
    """Return how many jobs this machine runs at once: ``IRP_JOB_SLOTS``, default one per processor.

    With 0, no worker starts by itself here: jobs wait for workers that somebody else starts.

    Raises:
        SettingsError: it is not a whole number from 0.
    """
    return read(Jobs).slots


def job_seconds() -> float:
    """Return how long a job may run, in seconds: ``IRP_JOB_HOURS``, default 24 hours.

    Raises:
        SettingsError: it is not a number above 0.
    """
    return read(Jobs).hours * 3600


def job_disk_bytes() -> float:
    """Return how large the folder of a job may become, in bytes: ``IRP_JOB_DISK_GB``, default 50 gigabytes.

    Raises:
        SettingsError: it is not a number above 0.
    """
    return read(Jobs).disk_gigabytes * 1e9


def job_memory_bytes() -> float | None:
    """Say how much memory the processes of a job may use together, in bytes: ``IRP_JOB_MEMORY_GB``, default no limit.

    Raises:
        SettingsError: it is no number above 0.
    """
    gigabytes = read(Jobs).memory_gigabytes
    return None if gigabytes is None else gigabytes * 1e9


def job_environment_names() -> list[str]:
    """Return the names of variables that jobs get besides the usual ones: ``IRP_JOB_ENV``, default none.

    Raises:
        SettingsError: it is not a list of names.
    """
    return _items(read(Jobs).environment)


def ui_hosts() -> list[str]:
    """Return the host names, some with a port, that the UI answers to besides this machine's: ``IRP_UI_HOSTS``.

    Raises:
        SettingsError: it is not a list of hosts.
    """
    return _items(read(Ui).hosts)


def ui_url() -> str | None:
    """Return the address of the UI, for links to it, without ``/`` at its end: ``IRP_UI_URL``, default none.

    Raises:
        SettingsError: it is not an address of the web, or holds a password.
    """
    return read(Ui).url


def messages() -> str | None:
    """Return who gets messages, which holds secrets: ``IRP_MESSAGES``; None if nobody does.

    Returns:
        URLs of apprise between blanks, or the path of a configuration file of apprise.

    Raises:
        SettingsError: it is not text.
    """
    services = read(Messages).services
    text = services.get_secret_value().strip() if services is not None else ""
    return text or None


def job_processes() -> int | None:
    """Return how many processes a job may use: ``IRP_JOB_PROCESSES``, default None, which means what is free.

    The last digits of figures depend on it.

    Raises:
        SettingsError: it is not a whole number from 1 to 1,024.
    """
    return read(Jobs).processes


def time_zone() -> str:
    """Return the time zone of schedules: ``IRP_TIME_ZONE``, default ``UTC``.

    Raises:
        SettingsError: there is no such time zone.
    """
    return read(Dagster).time_zone


def read(variables: type[_AnyVariables]) -> _AnyVariables:
    """Read variables that belong together; a SettingsError names each wrong one."""
    try:
        return variables()
    except ValidationError as error:
        problems = [_problem(str(detail["loc"][0]), detail["msg"]) for detail in error.errors(include_input=False)]
        # The chained error would show the values, passwords included.
        raise SettingsError(" ".join(problems)) from None


def _problem(variable: str, message: str) -> str:
    is_secret = variable in _SECRETS
    value = "set" if is_secret else repr(os.environ.get(variable))
    return f"{variable} is {value}, which is not usable: {message}. Correct it, or unset it to use the default."


def _items(text: str | None) -> list[str]:
    return [item for part in (text or "").split(",") if (item := part.strip())]
