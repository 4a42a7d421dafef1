"""README and docs do what they say: every block of commands or Python is run, page by page.

The tutorial runs first, with Oasis LMF. Pages that say so go on from a copy of where it has losses, so that no page
depends on what another one did. ``irp_pipeline_tests/support/blocks.py`` has the conventions.
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT
from psycopg2.sql import SQL, Identifier
from sqlalchemy import URL

from irp_pipeline import settings
from irp_pipeline.helpers.database import dispose_engine
from irp_pipeline_tests.support.blocks import LANGUAGES, ROOT, Page, Reader, pages
from irp_pipeline_tests.support.old_database import make_old_schema

PAGES = {page.path.relative_to(ROOT).as_posix(): page for page in pages()}
TUTORIAL = "docs/tutorial.md"
FROM_THE_TUTORIAL = "the tutorial's cycle"
FROM_AN_OLD_DATABASE = "a database of the old framework"
NOT_RUN = 20
"""How many blocks cannot be run. Each says why; a new one must have a reason that is as good."""


@dataclass(frozen=True)
class Place:
    """Where a reader works: a folder, and a database for what is not in it."""

    folder: Path
    url: URL

    @property
    def databases(self) -> tuple[str, str]:
        return str(self.url.database), f"{self.url.database}_dagster"

    def empty(self) -> None:
        self.clear()
        self.folder.mkdir()
        self._command("CREATE DATABASE {}", self.databases[0])

    def keep(self) -> None:
        """Keep a copy of all that there is."""
        dispose_engine()
        shutil.copytree(self.folder, self._kept(self.folder), symlinks=True)
        for name in self.databases:
            self._copy(name, f"{name}_kept")

    def bring_back(self) -> None:
        """Make it what was kept."""
        self.clear()
        shutil.copytree(self._kept(self.folder), self.folder, symlinks=True)
        for name in self.databases:
            self._copy(f"{name}_kept", name)

    def clear(self, *, kept: bool = False) -> None:
        dispose_engine()
        os.chdir(ROOT)
        for folder in (self.folder, self._kept(self.folder)) if kept else (self.folder,):
            shutil.rmtree(folder, ignore_errors=True)
        for name in self.databases:
            for database in (name, f"{name}_kept") if kept else (name,):
                self._command("DROP DATABASE IF EXISTS {} WITH (FORCE)", database)

    @staticmethod
    def _kept(folder: Path) -> Path:
        return folder.with_name(f"{folder.name}-kept")

    def _copy(self, source: str, target: str) -> None:
        # A worker of the jobs may not have gone yet.
        self._command("ALTER DATABASE {} ALLOW_CONNECTIONS false", source)
        with self._connected() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (source,))
        self._command("CREATE DATABASE {} TEMPLATE {}", target, source)
        for name in (source, target):
            self._command("ALTER DATABASE {} ALLOW_CONNECTIONS true", name)

    def _command(self, command: str, *names: str) -> None:
        with self._connected() as cursor:
            cursor.execute(SQL(command).format(*map(Identifier, names)))

    @staticmethod
    def _connected() -> "psycopg2.extensions.cursor":
        return _admin().cursor()


_server: list[psycopg2.extensions.connection] = []


def _admin() -> psycopg2.extensions.connection:
    return _server[0]


@pytest.fixture(scope="module")
def place(unsynced_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    server = settings.database_url()
    url = server.set(database=f"docs_{os.getpid()}")
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as environment:
        for name in ("IRP_HOME", "DB_SCHEMA", "IRP_EXECUTOR", "IRP_DAGSTER_DATABASE_URL"):
            environment.delenv(name, raising=False)
        environment.setenv("IRP_DATABASE_URL", url.render_as_string(hide_password=False))
        environment.setenv("DAGSTER_HOME", str(ROOT))
        environment.setenv("JUPYTER_DATA_DIR", str(folder / "jupyter"))
        environment.setenv("IPYTHONDIR", str(folder / "ipython"))
        environment.setenv("NUMBA_DISABLE_JIT", "1")  # jobs are small: compiling Oasis LMF would take far longer
        environment.setenv("PYTEST_ADDOPTS", "-p no:cacheprovider")
        connection = psycopg2.connect(server.set(drivername="postgresql").render_as_string(hide_password=False))
        connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        _server.append(connection)
        place = Place(folder / "work", url)
        yield place
        place.clear(kept=True)
        _server.clear()
        connection.close()
    dispose_engine()


@pytest.fixture(scope="module")
def tutorial(place: Place) -> Page:
    """The tutorial up to where other pages go on, done and kept."""
    page = PAGES[TUTORIAL]
    place.empty()
    os.chdir(place.folder)
    reader = Reader()
    for block in page.blocks[: page.pause]:
        reader.do(block)
    place.keep()
    return page


def test_the_tutorial_goes_from_an_empty_workbook_to_losses(tutorial: Page, place: Place) -> None:
    place.bring_back()
    os.chdir(place.folder)
    reader = Reader()
    for block in tutorial.blocks[tutorial.pause :]:
        reader.do(block)


@pytest.mark.parametrize(
    "name", [name for name, page in PAGES.items() if name != TUTORIAL and any(block.is_run for block in page.blocks)]
)
def test_what_a_page_tells_its_reader_to_do_can_be_done(
    place: Place, request: pytest.FixtureRequest, name: str
) -> None:
    page = PAGES[name]
    if page.begins_with == FROM_THE_TUTORIAL:
        request.getfixturevalue("tutorial")
        place.bring_back()
    else:
        place.empty()
        assert page.begins_with in {"", FROM_AN_OLD_DATABASE}
        if page.begins_with:
            make_old_schema("public")
    os.chdir(place.folder)
    reader = Reader()
    for block in page.blocks:
        reader.do(block)
    for snippet in (block for block in page.blocks if block.is_run and block.language == "python"):
        reader.do(snippet)  # people run a cell again


def test_every_block_says_what_it_is() -> None:
    unknown = [f"{block}: {block.language!r}" for page in PAGES.values() for block in page.blocks
               if block.language not in LANGUAGES | {"table"}]  # fmt: skip
    assert not unknown


def test_a_block_that_is_not_run_says_why_and_there_are_few() -> None:
    not_run = [block for page in PAGES.values() for block in page.blocks if block.word == "not run"]
    assert all(len(block.argument.split()) > 3 for block in not_run)
    assert len(not_run) == NOT_RUN, "\n".join(map(str, not_run))


def test_what_is_said_to_be_tested_elsewhere_is() -> None:
    for page in PAGES.values():
        for block in page.blocks:
            for module in re.findall(r"test_\w+\.py", block.argument if block.word == "not run" else ""):
                assert list((ROOT / "irp_pipeline_tests").rglob(module)), f"{block}: there is no {module}"


def test_make_knows_every_word_of_make_on_the_pages() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name, page in PAGES.items():
        named = set(re.findall(r"(?:`|\$ )make ([a-z][a-z -]*)", page.path.read_text(encoding="utf-8")))
        assert {word for words in named for word in words.split()} <= targets, name
