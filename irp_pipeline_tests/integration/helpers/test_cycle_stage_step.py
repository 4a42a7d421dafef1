"""Cycles, stages, steps and their runs, as a notebook uses them: no call here says which schema it means."""

import datetime as dt
import inspect
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import pandas as pd
import pytest
import sqlalchemy as sa

from irp_pipeline import settings
from irp_pipeline.helpers import cycle, stage, step
from irp_pipeline.helpers.constants import CycleStatus, StepStatus
from irp_pipeline.helpers.cycle import (
    CycleError,
    archive_cycle,
    check_cycle_name,
    create_cycle,
    delete_archived_cycles,
    delete_cycle,
    get_active_cycle,
    get_active_cycle_id,
    get_cycle_by_name,
    get_cycle_progress,
    get_cycle_status,
    get_step_history,
)
from irp_pipeline.helpers.database import (
    DatabaseError,
    drop_schema,
    execute_command,
    execute_query,
    execute_scalar,
    fetch_all,
    get_engine,
    init_database,
    transaction,
)
from irp_pipeline.helpers.db_context import get_current_schema, init_from_environment, schema_context, set_schema
from irp_pipeline.helpers.stage import StageError, get_or_create_stage, get_stage_by_id, list_stages_for_cycle
from irp_pipeline.helpers.step import (
    StepError,
    create_step_run,
    get_last_step_run,
    get_or_create_step,
    get_step_info,
    track_step,
    update_step_run,
)

UNKNOWN_ID = 987_654_321


@pytest.fixture(scope="module")
def other_schema(test_schema: str) -> Iterator[str]:
    name = f"{test_schema}_other"
    init_database(name)
    yield name
    drop_schema(name)


@pytest.fixture(autouse=True)
def nothing_yet(test_schema: str, other_schema: str) -> None:
    """Each test begins without cycles."""
    for schema in (test_schema, other_schema):
        execute_command("DELETE FROM irp_cycle", schema=schema)


@pytest.fixture
def cycle_id() -> int:
    return create_cycle("Q1-2024")


@pytest.fixture
def stage_id(cycle_id: int) -> int:
    return get_or_create_stage(cycle_id, 1, "Setup")


@pytest.fixture
def step_id(stage_id: int) -> int:
    return get_or_create_step(stage_id, 1, "Validate configuration")


def names(cycles: pd.DataFrame) -> list[str]:
    return list(cycles["cycle_name"])


class TestTheRequirementsDocument:
    """Each example of the document that this layer was asked for with."""

    def test_the_schema_is_said_once(self, test_schema):
        set_schema(test_schema)
        cycle_id = create_cycle("Q1-2024")
        with schema_context("public"):
            assert execute_scalar(f'SELECT id FROM "{test_schema}".irp_cycle') == cycle_id

    def test_a_context_says_it_for_a_block(self, other_schema):
        with schema_context(other_schema):
            assert create_cycle("test_cycle_1") > 0
            assert get_cycle_by_name("test_cycle_1")
        assert get_cycle_by_name("test_cycle_1") is None

    def test_a_fixture_says_it_for_a_module(self, test_schema):
        assert get_current_schema() == test_schema
        assert create_cycle("test_cycle_1") > 0

    def test_a_created_cycle_is_found_by_its_name(self):
        cycle_id = create_cycle("test_cycle_1")
        cycle = get_cycle_by_name("test_cycle_1")
        assert cycle is not None
        assert (cycle["id"], cycle["cycle_name"]) == (cycle_id, "test_cycle_1")

    def test_the_full_workflow(self):
        cycle_id = create_cycle("workflow_test")
        stage_id = get_or_create_stage(cycle_id, 1, "Stage 1")
        step_id = get_or_create_step(stage_id, 1, "Step 1")
        run_id, run_num = create_step_run(step_id, "tester")
        assert run_num == 1
        assert update_step_run(run_id, "COMPLETED")
        last_run = get_last_step_run(step_id)
        assert last_run is not None
        assert last_run["status"] == "COMPLETED"

    def test_a_query_works_in_the_context_and_a_schema_argument_wins(self, cycle_id, other_schema):
        query = "SELECT cycle_name FROM irp_cycle"
        assert names(execute_query(query)) == ["Q1-2024"]
        assert names(execute_query(query, schema=other_schema)) == []

    def test_the_environment_names_a_schema(self, other_schema, monkeypatch):
        monkeypatch.setenv("DB_SCHEMA", other_schema)
        with schema_context("public"):  # what is set here ends with the block
            init_from_environment()
            create_cycle("from_the_environment")
        with schema_context(other_schema):
            assert get_cycle_by_name("from_the_environment")

    def test_production_notebooks_work_in_public_without_saying_so(self, production_database, tmp_path):
        notebook = """
from irp_pipeline.helpers.cycle import create_cycle, get_active_cycle
from irp_pipeline.helpers.database import fetch_one, init_database
from irp_pipeline.helpers.db_context import schema_context
init_database()
cycle_id = create_cycle("Q1-2024")
active = get_active_cycle()
assert active["id"] == cycle_id
assert fetch_one("SELECT cycle_name FROM public.irp_cycle") == {"cycle_name": "Q1-2024"}
with schema_context("public"):
    assert get_active_cycle() == active
"""
        ended = subprocess.run(
            [sys.executable, "-c", notebook],
            env={**os.environ, "IRP_DATABASE_URL": production_database},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr

    @pytest.fixture
    def production_database(self, test_schema: str) -> Iterator[str]:
        """The URL of an empty database of its own, so that its ``public`` is nobody else's."""
        name = f"{test_schema}_production"
        with get_engine().connect() as connection:
            connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
            yield settings.database_url().set(database=name).render_as_string(hide_password=False)
            connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))


class TestCreatingACycle:
    def test_makes_it_active(self):
        before = execute_scalar("SELECT clock_timestamp()")
        cycle_id = create_cycle("Q1-2024")
        cycle = get_cycle_by_name("Q1-2024")
        assert cycle is not None
        assert set(cycle) == {"id", "cycle_name", "status", "created_ts", "archived_ts"}
        assert cycle["id"] == cycle_id
        assert cycle["status"] == CycleStatus.ACTIVE
        assert before <= cycle["created_ts"] <= execute_scalar("SELECT clock_timestamp()")
        assert cycle["archived_ts"] is None

    def test_gives_values_of_plain_python(self, cycle_id):
        cycle = get_cycle_by_name("Q1-2024")
        assert cycle is not None
        assert type(cycle_id) is int
        assert [type(value) for value in cycle.values()] == [int, str, str, dt.datetime, type(None)]
        assert cycle["created_ts"].tzinfo is not None

    def test_twice_under_one_name_is_refused(self, cycle_id):
        with pytest.raises(CycleError, match="'Q1-2024' already"):
            create_cycle("Q1-2024")
        assert len(get_cycle_status()) == 1

    def test_under_the_name_of_an_archived_one_is_refused(self, cycle_id):
        archive_cycle(cycle_id)
        with pytest.raises(CycleError, match="already"):
            create_cycle("Q1-2024")

    def test_does_not_tell_capitals_apart(self, cycle_id):
        with pytest.raises(CycleError, match="There is a cycle 'Q1-2024' already; names are not case-sensitive"):
            create_cycle("q1-2024")

    @pytest.mark.parametrize(
        "name", ["Q1-2024", "a", "_", "2024.q1", "-", "a" * 100, ".hidden", "pg_catalog", "public"]
    )
    def test_takes_letters_digits_and_some_signs(self, name):
        create_cycle(name)
        assert get_cycle_by_name(name)

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "a..b", "a" * 101, "a b", "a/b", "Zürich", "Q1\n", "Q1\x00", None, 7]
    )
    def test_takes_no_other_name(self, name):
        with pytest.raises(CycleError) as refused:
            create_cycle(name)
        assert repr(name) in str(refused.value)
        assert len(get_cycle_status()) == 0

    def test_in_a_transaction_that_fails_makes_none(self):
        with suppress(ZeroDivisionError), transaction():
            create_cycle("Q1-2024")
            1 / 0  # noqa: B018
        assert get_cycle_by_name("Q1-2024") is None


class TestTheActiveCycle:
    def test_is_none_at_first(self):
        assert get_active_cycle() is None
        assert get_active_cycle_id() is None

    def test_is_the_youngest_of_those_that_are_active(self):
        ids = [create_cycle(name) for name in ("Q1-2024", "Q2-2024", "Q3-2024")]
        assert get_active_cycle_id() == ids[2]
        archive_cycle(ids[2])
        assert get_active_cycle_id() == ids[1]
        active = get_active_cycle()
        assert active == get_cycle_by_name("Q2-2024")

    def test_is_the_last_one_made_when_several_were_made_at_one_moment(self):
        ids = [create_cycle(f"Q{n}") for n in range(1, 5)]
        execute_command("UPDATE irp_cycle SET created_ts = '2024-01-01 00:00+00'")
        assert get_active_cycle_id() == ids[-1]


class TestArchivingACycle:
    def test_says_when(self, cycle_id):
        assert archive_cycle(cycle_id) is True
        cycle = get_cycle_by_name("Q1-2024")
        assert cycle is not None
        assert cycle["status"] == CycleStatus.ARCHIVED
        assert cycle["archived_ts"] > cycle["created_ts"]

    def test_again_changes_nothing(self, cycle_id):
        archive_cycle(cycle_id)
        before = get_cycle_by_name("Q1-2024")
        assert archive_cycle(cycle_id) is True
        assert get_cycle_by_name("Q1-2024") == before

    def test_leaves_the_others_alone(self, cycle_id):
        create_cycle("Q2-2024")
        archive_cycle(cycle_id)
        assert get_active_cycle() == get_cycle_by_name("Q2-2024")

    def test_that_there_is_not_says_so(self):
        assert archive_cycle(UNKNOWN_ID) is False


class TestDeletingCycles:
    def test_takes_stages_steps_and_runs_along(self, cycle_id, stage_id, step_id):
        create_step_run(step_id, "tester")
        other = create_cycle("Q2-2024")
        kept = get_or_create_stage(other, 1, "Setup")
        assert delete_cycle(cycle_id) is True
        assert get_cycle_by_name("Q1-2024") is None
        assert get_stage_by_id(stage_id) is None
        assert get_step_info(step_id) is None
        assert get_last_step_run(step_id) is None
        assert get_stage_by_id(kept) is not None

    def test_that_there_is_not_says_so(self):
        assert delete_cycle(UNKNOWN_ID) is False

    def test_all_archived_ones_leaves_the_active(self, cycle_id):
        for name in ("Q2-2023", "Q3-2023"):
            archive_cycle(create_cycle(name))
        assert delete_archived_cycles() == 2
        assert names(get_cycle_status()) == ["Q1-2024"]
        assert delete_archived_cycles() == 0


class TestTheTableOfCycles:
    def test_has_no_rows_at_first_but_its_columns(self):
        assert list(get_cycle_status().columns) == [
            "id", "cycle_name", "status", "created_ts", "archived_ts", "stages", "steps", "active_step_runs"
        ]  # fmt: skip

    def test_lists_all_the_youngest_first(self, cycle_id):
        create_cycle("Q2-2024")
        archive_cycle(cycle_id)
        assert names(get_cycle_status()) == ["Q2-2024", "Q1-2024"]
        assert list(get_cycle_status()["status"]) == ["ACTIVE", "ARCHIVED"]

    def test_counts_what_each_has(self, cycle_id):
        for stage_num, steps in ((1, 2), (2, 1), (3, 0)):
            stage = get_or_create_stage(cycle_id, stage_num, f"Stage {stage_num}")
            for step_num in range(steps):
                create_step_run(get_or_create_step(stage, step_num, "Step"), "tester")
        update_step_run(create_step_run(get_or_create_step(stage, 9, "Step"), "tester")[0], "COMPLETED")
        create_cycle("Q2-2024")
        counts = get_cycle_status().set_index("cycle_name")[["stages", "steps", "active_step_runs"]].T
        assert list(counts["Q1-2024"]) == [3, 4, 3]
        assert list(counts["Q2-2024"]) == [0, 0, 0]


class TestAStage:
    def test_is_made_once(self, cycle_id):
        stage_id = get_or_create_stage(cycle_id, 1, "Setup")
        assert get_or_create_stage(cycle_id, 1, "Setup") == stage_id
        assert len(list_stages_for_cycle(cycle_id)) == 1

    def test_comes_back_as_it_is_whatever_name_is_given(self, cycle_id, stage_id):
        assert get_or_create_stage(cycle_id, 1, "Another name") == stage_id
        stage = get_stage_by_id(stage_id)
        assert stage is not None
        assert stage["stage_name"] == "Setup"

    def test_is_numbered_within_its_cycle(self, cycle_id, stage_id):
        assert get_or_create_stage(create_cycle("Q2-2024"), 1, "Setup") != stage_id

    def test_is_found_by_its_id(self, cycle_id, stage_id):
        stage = get_stage_by_id(stage_id)
        assert stage is not None
        assert stage.pop("created_ts") <= dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        assert stage == {
            "id": stage_id,
            "cycle_id": cycle_id,
            "stage_num": 1,
            "stage_name": "Setup",
            "stage_key": None,
        }
        assert get_stage_by_id(UNKNOWN_ID) is None

    def test_comes_in_the_order_of_numbers(self, cycle_id):
        for stage_num in (3, 1, 2, 0):
            get_or_create_stage(cycle_id, stage_num, f"Stage {stage_num}")
        assert list(list_stages_for_cycle(cycle_id)["stage_num"]) == [0, 1, 2, 3]
        assert list_stages_for_cycle(UNKNOWN_ID).empty

    def test_needs_a_cycle(self):
        with pytest.raises(StageError, match=str(UNKNOWN_ID)):
            get_or_create_stage(UNKNOWN_ID, 1, "Setup")

    @pytest.mark.parametrize(("stage_num", "name"), [(-1, "Setup"), (None, "Setup"), (1, None)])
    def test_needs_a_number_and_a_name(self, cycle_id, stage_num, name):
        with pytest.raises(DatabaseError):
            get_or_create_stage(cycle_id, stage_num, name)

    def test_takes_its_cycle_out_of_a_dataframe(self, cycle_id):
        row = execute_query("SELECT id, 2 AS stage_num FROM irp_cycle").iloc[0]
        stage = get_stage_by_id(get_or_create_stage(row["id"], row["stage_num"], "Extract"))
        assert stage is not None
        assert (stage["cycle_id"], stage["stage_num"]) == (cycle_id, 2)


class TestAStep:
    def test_is_made_once(self, stage_id):
        step_id = get_or_create_step(stage_id, 1, "Extract", "notebooks/extract.ipynb")
        assert get_or_create_step(stage_id, 1, "Extract") == step_id
        assert execute_scalar("SELECT count(*) FROM irp_step") == 1

    def test_comes_back_as_it_is_whatever_name_and_path_are_given(self, stage_id, step_id):
        assert get_or_create_step(stage_id, 1, "Another name", "another.ipynb") == step_id
        step = get_step_info(step_id)
        assert step is not None
        assert (step["step_name"], step["notebook_path"]) == ("Validate configuration", None)

    def test_is_numbered_within_its_stage(self, cycle_id, stage_id, step_id):
        assert get_or_create_step(get_or_create_stage(cycle_id, 2, "Extract"), 1, "Extract") != step_id

    def test_says_where_it_belongs(self, cycle_id, stage_id):
        step_id = get_or_create_step(stage_id, 4, "Extract", "notebooks/extract.ipynb")
        step = get_step_info(step_id)
        assert step is not None
        assert step.pop("created_ts").tzinfo is not None
        assert step == {
            "id": step_id,
            "stage_id": stage_id,
            "step_num": 4,
            "step_name": "Extract",
            "step_key": None,
            "notebook_path": "notebooks/extract.ipynb",
            "stage_num": 1,
            "stage_name": "Setup",
            "cycle_id": cycle_id,
            "cycle_name": "Q1-2024",
        }

    def test_that_there_is_not_is_none(self):
        assert get_step_info(UNKNOWN_ID) is None
        assert get_last_step_run(UNKNOWN_ID) is None

    def test_needs_a_stage(self):
        with pytest.raises(StepError, match=str(UNKNOWN_ID)):
            get_or_create_step(UNKNOWN_ID, 1, "Extract")

    def test_is_made_in_a_transaction_that_can_go_on_when_it_is_there(self, stage_id, step_id):
        with transaction():
            assert get_or_create_step(stage_id, 1, "Extract") == step_id
            second = get_or_create_step(stage_id, 2, "Submit")
        assert get_step_info(second)


class TestTheProgressOfACycle:
    def test_has_no_rows_for_a_cycle_that_there_is_not(self):
        progress = get_cycle_progress("Q9-1999")
        assert len(progress) == 0
        assert list(progress.columns) == [
            "stage_num", "stage_name", "step_num", "step_name", "last_status", "last_run", "last_completed"
        ]  # fmt: skip

    def test_lists_every_step_in_order_also_those_that_never_ran(self, cycle_id):
        for stage_num, step_num in ((2, 1), (1, 2), (1, 1), (2, 0)):
            get_or_create_step(get_or_create_stage(cycle_id, stage_num, f"Stage {stage_num}"), step_num, "Step")
        get_or_create_step(get_or_create_stage(create_cycle("Q2-2024"), 1, "Another"), 1, "Step")
        progress = get_cycle_progress("Q1-2024")
        assert progress[["stage_num", "step_num"]].to_numpy().tolist() == [[1, 1], [1, 2], [2, 0], [2, 1]]
        assert progress[["last_status", "last_run", "last_completed"]].isna().all(axis=None)

    def test_shows_the_newest_run_and_when_the_step_was_last_done(self, cycle_id, step_id):
        done, _ = create_step_run(step_id, "tester")
        update_step_run(done, "COMPLETED")
        completed = execute_scalar("SELECT completed_ts FROM irp_step_run WHERE id = %s", (done,))
        create_step_run(step_id, "tester")
        failed, _ = create_step_run(step_id, "tester")
        update_step_run(failed, "FAILED", "no such file")
        [row] = get_cycle_progress("Q1-2024").to_dict("records")
        assert (row["last_status"], row["last_run"]) == ("FAILED", 3)
        assert row["last_completed"] == completed

    def test_shows_a_skipped_step_as_done_when_the_work_was(self, step_id):
        for _ in range(3):
            with track_step(step_id):
                pass
        [row] = get_cycle_progress("Q1-2024").to_dict("records")
        worked = execute_scalar("SELECT completed_ts FROM irp_step_run WHERE run_num = 1")
        assert (row["last_status"], row["last_run"], row["last_completed"]) == ("SKIPPED", 3, worked)


class TestTheHistoryOfACycle:
    @pytest.fixture
    def history(self, cycle_id: int) -> list[tuple[int, int, int]]:
        """Runs of two stages with two steps each, as (stage_num, step_num, run_num), the oldest first."""
        made = []
        for stage_num, step_num, _ in itertools.product((1, 2), (1, 2), range(2)):
            stage = get_or_create_stage(cycle_id, stage_num, f"Stage {stage_num}")
            _, run_num = create_step_run(get_or_create_step(stage, step_num, "Step"), "tester")
            made.append((stage_num, step_num, run_num))
        return made

    @staticmethod
    def runs(frame: pd.DataFrame) -> list[tuple[int, int, int]]:
        return list(frame[["stage_num", "step_num", "run_num"]].itertuples(index=False, name=None))

    def test_lists_the_runs_the_newest_first(self, history):
        assert self.runs(get_step_history("Q1-2024")) == history[::-1]

    def test_can_be_of_one_stage(self, history):
        assert self.runs(get_step_history("Q1-2024", 2)) == [run for run in history[::-1] if run[0] == 2]

    def test_can_be_of_one_step_of_a_stage(self, history):
        assert self.runs(get_step_history("Q1-2024", 2, 1)) == [(2, 1, 2), (2, 1, 1)]

    def test_can_be_of_the_steps_of_one_number(self, history):
        assert self.runs(get_step_history("Q1-2024", step_num=1)) == [run for run in history[::-1] if run[1] == 1]

    def test_can_be_of_the_number_nought(self, cycle_id):
        create_step_run(get_or_create_step(get_or_create_stage(cycle_id, 0, "Zero"), 0, "Zero"), "tester")
        assert self.runs(get_step_history("Q1-2024", 0, 0)) == [(0, 0, 1)]
        assert len(get_step_history("Q1-2024", 1)) == 0

    def test_takes_numbers_out_of_a_dataframe(self, history):
        row = get_step_history("Q1-2024").iloc[0]
        assert self.runs(get_step_history("Q1-2024", row["stage_num"], row["step_num"])) == history[:-3:-1]

    def test_is_empty_for_a_cycle_that_there_is_not(self, history):
        frame = get_step_history("Q9-1999")
        assert len(frame) == 0
        assert "output_data" in frame.columns

    def test_says_who_ran_what_and_how_it_ended(self, step_id):
        run_id, _ = create_step_run(step_id, "analyst")
        update_step_run(run_id, "FAILED", "no such file", {"rows": 3})
        [row] = get_step_history("Q1-2024").to_dict("records")
        assert row["started_by"] == "analyst"
        assert (row["status"], row["error_message"]) == (StepStatus.FAILED, "no such file")
        assert row["output_data"] == {"rows": 3}
        assert row["completed_ts"] >= row["started_ts"]


class TestNamesThatMeanHarm:
    """What an issue list of hostile names does to each place that takes text; Hypothesis adds more elsewhere."""

    HOSTILE = (
        '"; drop schema public cascade; --',
        "'; DROP TABLE irp_cycle; --",
        "%s %(name)s %% %",
        ":name ::jsonb",
        "a" * 64,
        "pg_catalog",
        "Überschwemmung 洪水 \N{WATER WAVE}",
        "\\'; --",
        "$$ $1 $tag$",
        "",
    )

    @pytest.mark.parametrize("text", HOSTILE)
    def test_as_names_of_stages_steps_and_people_are_kept_as_they_are(self, cycle_id, text):
        stage_id = get_or_create_stage(cycle_id, 1, text)
        step_id = get_or_create_step(stage_id, 1, text, text)
        run_id, _ = create_step_run(step_id, text)
        update_step_run(run_id, "FAILED", text, {text: text})
        step, run = get_step_info(step_id), get_last_step_run(step_id)
        assert step is not None
        assert run is not None
        assert {step["stage_name"], step["step_name"], step["notebook_path"]} == {text}
        assert (run["started_by"], run["error_message"], run["output_data"]) == (text, text, {text: text})

    @pytest.mark.parametrize("text", HOSTILE)
    def test_as_names_of_cycles_are_refused_or_harmless(self, cycle_id, text):
        try:
            create_cycle(text)
        except CycleError:
            assert get_cycle_by_name(text) is None
        else:
            assert get_cycle_by_name(text)
        assert get_cycle_by_name("Q1-2024")

    @pytest.mark.parametrize("text", HOSTILE)
    def test_are_nobody_when_asked_for(self, text, cycle_id):
        assert get_cycle_by_name(text) is None
        assert len(get_cycle_progress(text)) == 0
        assert len(get_step_history(text)) == 0

    @pytest.mark.parametrize("text", ["NUL \x00", "half a pair \ud800"])
    @pytest.mark.parametrize(
        "use",
        [
            get_cycle_by_name,
            get_cycle_progress,
            get_step_history,
            lambda text: get_or_create_stage(create_cycle("Q2-2024"), 1, text),
        ],
    )
    def test_that_postgresql_cannot_hold_are_refused(self, use: Callable[[str], object], text):
        with pytest.raises(DatabaseError, match="cannot be sent"):
            use(text)
        assert fetch_all("SELECT 1 FROM irp_stage") == []

    @pytest.mark.parametrize("name", ["Q1-2024", "a..b", "", ".", "a" * 100, "a" * 101, "Q1\n", "é"])
    def test_the_database_takes_the_same_names_as_the_helpers(self, name):
        def accepts(check: Callable[[], object]) -> bool:
            try:
                check()
            except (CycleError, DatabaseError):
                return False
            return True

        assert accepts(lambda: check_cycle_name(name)) == accepts(
            lambda: execute_command("INSERT INTO irp_cycle (cycle_name) VALUES (%s)", (name,))
        )


def test_no_helper_of_this_layer_takes_a_schema():
    for module in (cycle, stage, step):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_"):
                assert "schema" not in inspect.signature(function).parameters


def test_what_one_schema_holds_no_other_sees(cycle_id, other_schema):
    with schema_context(other_schema):
        assert get_active_cycle() is None
        create_cycle("Q1-2024")
        archive_cycle(create_cycle("Q2-2024"))
        assert names(get_cycle_status()) == ["Q2-2024", "Q1-2024"]
    assert names(get_cycle_status()) == ["Q1-2024"]
