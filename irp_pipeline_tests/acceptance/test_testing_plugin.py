"""The pytest plugin as another project uses it: real inner test runs on the real database."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline.helpers.database import drop_schema, execute_scalar, fetch_all
from irp_pipeline.helpers.db_context import check_schema_name
from irp_pipeline.testing import schema_for

# What each inner test calls to tell the outer one about itself.
NOTES = """
    import json, os
    from irp_pipeline.helpers.database import fetch_all
    from irp_pipeline.helpers.db_context import get_current_schema

    def note(test, **more):
        with open(os.environ["NOTES"], "a") as file:
            file.write(json.dumps({"test": test, "schema": get_current_schema(), **more}) + "\\n")

    def cycles():
        return [row["cycle_name"] for row in fetch_all("SELECT cycle_name FROM irp_cycle ORDER BY id")]
"""
CYCLES_OF_A_MODULE = """
    from irp_pipeline.helpers.cycle import create_cycle
    from notes import cycles, note

    def test_begins_empty(test_schema):
        note(f"{__file__}: begins", given=test_schema, before=cycles())
        create_cycle("Q1-2024")

    def test_finds_what_the_test_before_it_left(test_schema):
        note(f"{__file__}: goes on", before=cycles())
"""


@dataclass(frozen=True)
class Run:
    """What an inner test run came to."""

    status: int
    output: str
    notes: list[dict[str, Any]]

    def noted(self, test: str) -> dict[str, Any]:
        """Return what the one inner test whose name ends so has noted."""
        (found,) = [note for note in self.notes if note["test"].endswith(test)]
        return found


def run_pytest(project: Path, files: dict[str, str], *arguments: str, **environment: str) -> Run:
    """Run pytest in a process of its own, in a project of these files."""
    for name, content in {"pytest.ini": "[pytest]\n", "notes.py": NOTES, **files}.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(textwrap.dedent(content))
    notes = project / "notes.jsonl"
    notes.write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", *arguments],
        cwd=project,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "NOTES": str(notes),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return Run(done.returncode, done.stdout, [json.loads(line) for line in notes.read_text().splitlines()])


def existing(schemas: set[str]) -> set[str]:
    """Return those of the schemas that are in the database."""
    rows = fetch_all("SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = ANY(%s)", ([*schemas],))
    return {row["nspname"] for row in rows}


@pytest.fixture(scope="module")
def run_of_modules(tmp_path_factory: pytest.TempPathFactory, test_schema: str) -> Run:
    """One run of a project with modules of every kind."""
    return run_pytest(
        tmp_path_factory.mktemp("project"),
        {
            "pytest.ini": "[pytest]\naddopts = -p irp_pipeline.testing --import-mode=importlib\npythonpath = .\n",
            "one/test_cycles.py": CYCLES_OF_A_MODULE,
            "two/test_cycles.py": CYCLES_OF_A_MODULE,
            "test_after_others.py": """
                from notes import note

                def test_without_the_fixture():
                    note("without")
            """,
            "test_before_all.py": """
                import pytest
                from notes import cycles, note
                from irp_pipeline.helpers.cycle import create_cycle
                from irp_pipeline.helpers.db_context import set_schema

                @pytest.fixture(scope="module")
                def broken(test_schema):
                    create_cycle("Q1-2024")
                    raise RuntimeError("setup failed")

                def test_error(broken):
                    pass

                def test_failure(test_schema):
                    note("failure", given=test_schema, before=cycles())
                    set_schema("elsewhere")
                    raise AssertionError
            """,
        },
        DB_SCHEMA="of_the_environment",
    )


class TestModules:
    def test_pass_and_fail_as_they_should(self, run_of_modules):
        assert run_of_modules.status == 1
        assert "5 passed" in run_of_modules.output
        assert "1 failed" in run_of_modules.output
        assert "1 error" in run_of_modules.output

    def test_have_schemas_named_after_their_files(self, run_of_modules):
        assert run_of_modules.noted("one/test_cycles.py: begins")["schema"].startswith("test_cycles_")
        assert run_of_modules.noted("failure")["given"].startswith("test_before_all_")

    def test_have_schemas_of_their_own_even_with_files_of_one_name(self, run_of_modules):
        assert len({note["schema"] for note in run_of_modules.notes if "test_cycles" in note["test"]}) == 2

    def test_are_given_the_schema_that_they_work_in(self, run_of_modules):
        begins = run_of_modules.noted("one/test_cycles.py: begins")
        assert begins["given"] == begins["schema"]

    def test_begin_empty_and_keep_what_their_tests_leave(self, run_of_modules):
        for module in "one", "two":
            assert run_of_modules.noted(f"{module}/test_cycles.py: begins")["before"] == []
            assert run_of_modules.noted(f"{module}/test_cycles.py: goes on")["before"] == ["Q1-2024"]

    def test_without_the_fixture_are_in_the_schema_that_the_environment_names(self, run_of_modules):
        assert run_of_modules.noted("without")["schema"] == "of_the_environment"

    def test_leave_no_schema_behind_whether_they_pass_or_fail(self, run_of_modules, test_schema):
        schemas = {note.get("given", note["schema"]) for note in run_of_modules.notes} - {"of_the_environment"}
        assert len(schemas) == 3
        assert not existing(schemas)


class TestPreserveSchema:
    @pytest.fixture
    def project(self, tmp_path: Path, test_schema: str) -> Iterator[Path]:
        yield tmp_path
        drop_schema(schema_for(tmp_path / "test_kept.py"))

    def test_keeps_the_schema_until_the_next_run(self, project):
        files = {"conftest.py": 'pytest_plugins = ["irp_pipeline.testing"]\n', "test_kept.py": CYCLES_OF_A_MODULE}
        schema = schema_for(project / "test_kept.py")

        kept = run_pytest(project, files, "--preserve-schema")
        assert kept.status == 0, kept.output
        assert kept.noted("begins")["schema"] == schema
        assert execute_scalar("SELECT cycle_name FROM irp_cycle", schema=schema) == "Q1-2024"

        again = run_pytest(project, files)
        assert again.status == 0, again.output
        assert again.noted("begins")["schema"] == schema
        assert again.noted("begins")["before"] == []
        assert not existing({schema})


class TestWorkers:
    def test_each_have_a_schema_for_a_module_that_they_share(self, tmp_path, test_schema):
        module = """
            import os, pytest
            from notes import cycles, note
            from irp_pipeline.helpers.cycle import create_cycle

            @pytest.mark.parametrize("number", range(6))
            def test_cycle(test_schema, number):
                create_cycle(f"cycle-{number}")
                note(str(number), given=test_schema, worker=os.environ["PYTEST_XDIST_WORKER"], cycles=cycles())
        """
        files = {"pytest.ini": "[pytest]\npythonpath = .\n", "test_shared.py": module}
        run = run_pytest(tmp_path, files, "-p", "irp_pipeline.testing", "-p", "xdist", "-n", "2")
        assert run.status == 0, run.output
        assert {note["worker"] for note in run.notes} == {"gw0", "gw1"}
        for worker in "gw0", "gw1":
            notes = [note for note in run.notes if note["worker"] == worker]
            assert {note["given"] for note in notes} == {schema_for(tmp_path / "test_shared.py", worker)}
            assert len(notes[-1]["cycles"]) == len(notes)
        assert not existing({note["given"] for note in run.notes})


class TestSchemaName:
    @pytest.mark.parametrize(
        "file",
        ["test_" + "long_" * 40 + ".py", "pg_test.py", "Prüfung_test.py", "test-a.b.py", "1_test.py", '"_test.py'],
    )
    def test_is_one_whatever_the_file_is_called(self, tmp_path, file):
        for worker in None, "gw123":
            assert check_schema_name(schema_for(tmp_path / file, worker))

    def test_differs_between_folders_and_workers_and_not_between_runs(self, tmp_path):
        file = tmp_path / "test_cycles.py"
        others = {schema_for(tmp_path / "b" / "test_cycles.py"), schema_for(file, "gw0"), schema_for(file, "gw1")}
        assert len({schema_for(file), *others}) == 4
        assert schema_for(file) == schema_for(tmp_path / "b" / ".." / "test_cycles.py")


# A project that was written for the old modules, with a fixture and an option of its own.
OLD_PROJECT = {
    "workspace/helpers/__init__.py": "raise RuntimeError('the old package was imported')",
    "workspace/tests/conftest.py": """
        import sys
        from pathlib import Path

        import pytest
        from sqlalchemy import text

        sys.path.insert(0, str(Path(__file__).parent.parent))

        from helpers.database import get_engine, init_database

        def pytest_addoption(parser):
            parser.addoption("--preserve-schema", action="store_true", default=False)

        def drop(name):
            with get_engine().connect() as connection:
                connection.execute(text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))
                connection.commit()

        @pytest.fixture(scope="module")
        def test_schema(request):
            from helpers.db_context import set_schema

            name = Path(request.fspath).stem
            drop(name)
            init_database(schema=name)
            set_schema(name)
            yield name
            if not request.config.getoption("--preserve-schema"):
                drop(name)
            set_schema("public")
    """,
    "workspace/tests/test_irp_old_way.py": """
        from helpers.cycle import create_cycle, get_cycle_by_name
        from helpers.stage import get_or_create_stage
        from helpers.step import create_step_run, get_last_step_run, get_or_create_step, update_step_run
        from notes import note

        def test_workflow(test_schema):
            cycle_id = create_cycle("Q1-2024")
            step_id = get_or_create_step(get_or_create_stage(cycle_id, 1, "Setup"), 1, "Read")
            run_id, run_num = create_step_run(step_id, "tester")
            assert run_num == 1
            assert update_step_run(run_id, "COMPLETED")
            assert get_last_step_run(step_id)["status"] == "COMPLETED"
            assert get_cycle_by_name("Q1-2024")["id"] == cycle_id
            note("old way", given=test_schema)
    """,
    "workspace/tests/test_irp_old_way_too.py": """
        from helpers.database import execute_query
        from notes import note

        def test_begins_empty(test_schema):
            assert execute_query("SELECT * FROM irp_cycle").empty
            note("old way too", given=test_schema)

        def test_may_name_its_schema(test_schema):
            assert execute_query("SELECT * FROM irp_cycle", schema=test_schema).empty
    """,
    "pytest.ini": "[pytest]\npythonpath = .\n",
}


class TestOldProject:
    @pytest.fixture(autouse=True)
    def schemas(self, test_schema: str) -> Iterator[set[str]]:
        schemas = {"test_irp_old_way", "test_irp_old_way_too"}
        yield schemas
        for schema in schemas:
            drop_schema(schema)

    def test_works_unchanged(self, tmp_path, schemas):
        run = run_pytest(tmp_path, OLD_PROJECT, "-p", "irp_pipeline.compat", "workspace/tests")
        assert run.status == 0, run.output
        assert "3 passed" in run.output
        assert {note["given"] for note in run.notes} == {note["schema"] for note in run.notes} == schemas
        assert not existing(schemas)

    def test_works_with_our_fixture_in_place_of_its_own(self, tmp_path):
        files = {**OLD_PROJECT, "workspace/tests/conftest.py": ""}
        run = run_pytest(tmp_path, files, "-p", "irp_pipeline.compat", "-p", "irp_pipeline.testing", "workspace/tests")
        assert run.status == 0, run.output
        assert run.noted("old way")["schema"] == schema_for(tmp_path / "workspace" / "tests" / "test_irp_old_way.py")
