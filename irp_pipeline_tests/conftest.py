"""What the whole suite stands on: one PostgreSQL, and a schema for each test module.

The server is the one that the environment names, else an embedded one in a temporary ``IRP_HOME``, which all
pytest-xdist workers share and which stops with the tests.

Oasis LMF runs uncompiled: compiling takes minutes and changes no figure of the small models here, which run no faster
compiled. The module with the mark ``engine`` runs compiled, by ``make test-engine``.
"""

import os
import shutil
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from irp_pipeline_tests.support.processes import pass_on_signals

# How long an example takes says more about the machine than about the code. CI judges a change by the same examples
# each time; everywhere else new ones are tried on every run.
settings.register_profile(
    "irp", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("irp")

pytest_plugins = [
    "irp_pipeline.testing",
    "irp_pipeline_tests.support.command",
    "irp_pipeline_tests.support.made_up_cycle",
    "irp_pipeline_tests.support.quarters",
    "irp_pipeline_tests.support.s3_server",
    "irp_pipeline_tests.support.small_engine",
]

_own_home = pytest.StashKey[Path]()
_OWN_HOME = "IRP_TESTS_HOME"
"""Tells the pytest-xdist workers which ``IRP_HOME`` is the tests' own."""


def pytest_configure(config: pytest.Config) -> None:
    os.environ.pop("DB_SCHEMA", None)
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    pass_on_signals()
    if not hasattr(config, "workerinput") and "IRP_HOME" not in os.environ:
        home = Path(tempfile.mkdtemp(prefix="irp-tests-"))
        os.environ["IRP_HOME"] = os.environ[_OWN_HOME] = str(home)
        config.stash[_own_home] = home


def pytest_unconfigure(config: pytest.Config) -> None:
    home = config.stash.get(_own_home, None)
    if home is None:
        return
    from irp_pipeline import embedded
    from irp_pipeline.helpers.database import dispose_engine

    dispose_engine()
    embedded.stop(home)
    del os.environ["IRP_HOME"], os.environ[_OWN_HOME]
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def unsynced_server() -> None:
    """Let the tests' own server not wait for the disk: its data need not outlive a crash of the machine.

    A server of somebody else, or of another ``IRP_HOME``, is left as it is.
    """
    from irp_pipeline import embedded
    from irp_pipeline.settings import database_source

    home = os.environ.get(_OWN_HOME)
    if home is None or database_source() != "embedded":
        return
    import psycopg2

    url = embedded.ensure_running(Path(home)).set(drivername="postgresql")
    with closing(psycopg2.connect(url.render_as_string(hide_password=False))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("ALTER SYSTEM SET fsync = off")
            cursor.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def test_schema(unsynced_server: None, test_schema: str) -> str:
    return test_schema
