"""A pytest plugin: each test module works in its own PostgreSQL schema.

Name it in a ``conftest.py`` with ``pytest_plugins = ["irp_pipeline.testing"]``, or on the command line with
``-p irp_pipeline.testing``. A test that asks for ``test_schema`` then works in an initialised schema:

    def test_create_cycle(test_schema):
        assert create_cycle("Q1-2024") > 0

The schema is dropped after the module's last test, unless pytest runs with ``--preserve-schema``.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from irp_pipeline.helpers.database import init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.postgres import schemas

_STEM_CHARACTERS = 40


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--preserve-schema``."""
    parser.getgroup("irp_pipeline").addoption(
        "--preserve-schema",
        action="store_true",
        help="leave the schemas of the tests in the database, so that you can look at them afterwards",
    )


def schema_for(path: Path, worker: str | None = None) -> str:
    """Return the name of a test module's schema.

    Args:
        path: the test file. The schema's name starts with the file's name and ends with a digest of the whole path, so
            that two files with the same name, or two checkouts on one server, get different schemas.
        worker: name of a pytest-xdist worker, if the tests are spread over several.

    Returns:
        A schema name of at most 63 bytes, such as ``test_cycle_1f0c9a2b`` or ``test_cycle_1f0c9a2b_gw1``.
    """
    stem = re.sub(r"[^a-z0-9_]", "_", path.stem.lower())[:_STEM_CHARACTERS]
    if stem.startswith("pg_"):  # reserved by PostgreSQL
        stem = f"test_{stem}"
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    return f"{stem}_{digest}" + (f"_{worker}" if worker else "")


@pytest.fixture(scope="module")
def test_schema(request: pytest.FixtureRequest) -> Iterator[str]:
    """Make an empty, initialised schema for the test module and work in it until the module ends.

    Yields:
        Its name.
    """
    schema = schema_for(request.path, os.environ.get("PYTEST_XDIST_WORKER"))
    schemas.drop(schema)
    init_database(schema)
    with schema_context(schema):
        yield schema
    if request.config.getoption("--preserve-schema", default=False):
        return
    schemas.drop(schema)
