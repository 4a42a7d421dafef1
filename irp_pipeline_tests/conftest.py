"""What the whole suite stands on: one PostgreSQL, and a schema for each test module.

The server is the one that the environment names, else an embedded one in a temporary ``IRP_HOME``, which all
pytest-xdist workers share and which stops with the tests.

Oasis LMF runs uncompiled: compiling takes minutes and changes no figure of the small models here. The module with the
mark ``engine`` runs compiled, by ``make test-engine``.
"""

import os
import shutil
import tempfile
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
    "irp_pipeline_tests.support.quarters",
    "irp_pipeline_tests.support.s3_server",
    "irp_pipeline_tests.support.small_engine",
]

_own_home = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    os.environ.pop("DB_SCHEMA", None)
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    pass_on_signals()
    if not hasattr(config, "workerinput") and "IRP_HOME" not in os.environ:
        home = Path(tempfile.mkdtemp(prefix="irp-tests-"))
        os.environ["IRP_HOME"] = str(home)
        config.stash[_own_home] = home


def pytest_unconfigure(config: pytest.Config) -> None:
    home = config.stash.get(_own_home, None)
    if home is None:
        return
    from irp_pipeline import embedded
    from irp_pipeline.helpers.database import dispose_engine

    dispose_engine()
    embedded.stop(home)
    del os.environ["IRP_HOME"]
    shutil.rmtree(home)
