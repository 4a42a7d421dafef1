"""Checking all variables that are set at once.

Here: going through all variables for ``irp doctor``. Not here: the check of one variable
(:mod:`irp_pipeline.settings.variables`), and whether the database answers.
"""

from __future__ import annotations

from collections.abc import Callable

from irp_pipeline.settings.database import describe_database, url_of_text
from irp_pipeline.settings.folders import irp_home
from irp_pipeline.settings.platform import oasis_platform
from irp_pipeline.settings.variables import (
    Connections,
    Dagster,
    Files,
    Home,
    Jobs,
    Messages,
    OasisPlatform,
    Server,
    SettingsError,
    Ui,
    Url,
    celery_broker,
    executor,
    read,
)


def problems() -> list[str]:
    """Return what is wrong with the variables that are set, and what to do; connects to nothing and starts nothing."""
    found = []
    for variables in (Home, Files, Url, Server, Connections, Jobs, Dagster, OasisPlatform, Ui, Messages):
        try:
            read(variables)
        except SettingsError as error:
            found.append(str(error))
    if found:
        return found
    checks: tuple[Callable[[], object], ...] = (
        irp_home,
        describe_database,
        oasis_platform,
        _check_dagster_url,
        _check_broker,
    )
    for check in checks:
        try:
            check()
        except SettingsError as error:
            found.append(str(error))
    return found


def _check_dagster_url() -> None:
    named = read(Dagster).url
    if named is not None:
        url_of_text("IRP_DAGSTER_DATABASE_URL", named.get_secret_value().strip())


def _check_broker() -> None:
    if executor() == "celery":
        celery_broker()
