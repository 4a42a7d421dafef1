"""The thirteen functions of the old single module: they still work, and say where they have gone."""

import inspect
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest

from irp_pipeline.helpers import cycle, database, stage, step
from irp_pipeline.helpers.cycle import CycleError
from irp_pipeline.helpers.database import drop_schema, execute_command, execute_query, init_database
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.helpers.step import StepError

HOMES = {
    "archive_cycle": cycle,
    "create_cycle": cycle,
    "create_step_run": step,
    "delete_archived_cycles": cycle,
    "get_active_cycle": cycle,
    "get_cycle_by_name": cycle,
    "get_cycle_progress": cycle,
    "get_last_step_run": step,
    "get_or_create_stage": stage,
    "get_or_create_step": step,
    "get_step_history": cycle,
    "get_step_info": step,
    "update_step_run": step,
}
READING = {name for name in HOMES if name.startswith("get_") and "or_create" not in name}

each = pytest.mark.parametrize("name", sorted(HOMES))
# What the functions are for does not matter where only the warning is tested.
quietly = pytest.mark.filterwarnings("ignore:.* has moved:DeprecationWarning")


@dataclass(frozen=True)
class Records:
    """What a schema holds before each test: a cycle with a stage, a step and a run, and an archived cycle."""

    cycle_id: int
    stage_id: int
    step_id: int
    run_id: int

    def arguments(self, name: str) -> dict[str, Any]:
        """Return arguments with which the function finds or changes something in this schema."""
        arguments: dict[str, dict[str, Any]] = {
            "archive_cycle": {"cycle_id": self.cycle_id},
            "create_cycle": {"cycle_name": "Q2-2024"},
            "create_step_run": {"step_id": self.step_id, "started_by": "tester"},
            "delete_archived_cycles": {},
            "get_active_cycle": {},
            "get_cycle_by_name": {"cycle_name": "Q1-2024"},
            "get_cycle_progress": {"cycle_name": "Q1-2024"},
            "get_last_step_run": {"step_id": self.step_id},
            "get_or_create_stage": {"cycle_id": self.cycle_id, "stage_num": 2, "stage_name": "Extract"},
            "get_or_create_step": {"stage_id": self.stage_id, "step_num": 2, "step_name": "Split"},
            "get_step_history": {"cycle_name": "Q1-2024"},
            "get_step_info": {"step_id": self.step_id},
            "update_step_run": {"run_id": self.run_id, "status": "COMPLETED"},
        }
        return arguments[name]


@pytest.fixture(scope="module")
def other_schema(test_schema: str) -> Iterator[str]:
    name = f"{test_schema}_other"
    init_database(name)
    with schema_context(name):  # no id of one schema means anything in the other
        for table in ("irp_cycle", "irp_stage", "irp_step", "irp_step_run"):
            execute_command(f"ALTER TABLE {table} ALTER COLUMN id RESTART WITH 1000000")
    yield name
    drop_schema(name)


def fill(schema: str) -> Records:
    with schema_context(schema):
        execute_command("DELETE FROM irp_cycle")
        cycle.archive_cycle(cycle.create_cycle("Q4-2023"))
        cycle_id = cycle.create_cycle("Q1-2024")
        stage_id = stage.get_or_create_stage(cycle_id, 1, f"Setup in {schema}")
        step_id = step.get_or_create_step(stage_id, 1, "Validate")
        return Records(cycle_id, stage_id, step_id, step.create_step_run(step_id, schema)[0])


@pytest.fixture
def here(test_schema: str) -> Records:
    """What the schema of the context holds."""
    return fill(test_schema)


@pytest.fixture
def there(other_schema: str) -> Records:
    """What another schema holds."""
    return fill(other_schema)


def content(schema: str) -> list[str]:
    """Return every row of a schema, as text."""
    tables = ("irp_cycle", "irp_stage", "irp_step", "irp_step_run")
    rows = " UNION ALL ".join(f"SELECT t::text AS row FROM {table} t" for table in tables)
    return sorted(execute_query(rows, schema=schema)["row"])


def comparable(result: Any) -> Any:
    return result.to_dict("records") if isinstance(result, pd.DataFrame) else result


@each
class TestTheWarning:
    def test_names_the_new_home(self, name, here):
        with pytest.warns(DeprecationWarning, match=f"from {HOMES[name].__name__} import {name}") as warned:
            getattr(database, name)(**here.arguments(name))
        assert len(warned) == 1

    def test_points_at_the_line_of_the_caller(self, name, here):
        function, arguments = getattr(database, name), here.arguments(name)
        with pytest.warns(DeprecationWarning, match=name) as warned:
            line, _ = sys._getframe().f_lineno, function(**arguments)
        assert (warned[0].filename, warned[0].lineno) == (__file__, line)

    def test_does_not_come_with_the_import(self, name):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(f"from irp_pipeline.helpers.database import {name}", {})  # noqa: S102

    def test_does_not_come_with_the_new_function(self, name, here):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            getattr(HOMES[name], name)(**here.arguments(name))

    def test_comes_before_an_error(self, name, test_schema):
        with pytest.warns(DeprecationWarning, match=name), pytest.raises(TypeError):
            getattr(database, name)(no_such_argument=1)


@each
@quietly
class TestTheSchema:
    def test_is_that_of_the_context_when_none_is_named(self, name, test_schema, other_schema, here, there):
        self.check(name, here.arguments(name), acts_in=test_schema, leaves_alone=other_schema)

    def test_is_that_of_the_context_when_it_is_none(self, name, test_schema, other_schema, here, there):
        self.check(name, {**here.arguments(name), "schema": None}, acts_in=test_schema, leaves_alone=other_schema)

    def test_is_the_one_that_is_named(self, name, test_schema, other_schema, here, there):
        arguments = {**there.arguments(name), "schema": other_schema}
        self.check(name, arguments, acts_in=other_schema, leaves_alone=test_schema)

    def test_is_the_last_of_the_arguments_by_position(self, name, test_schema, other_schema, here, there):
        function = getattr(database, name)
        bound = inspect.signature(function).bind(**there.arguments(name), schema=other_schema)
        bound.apply_defaults()
        assert bound.args[-1] == other_schema
        before = content(test_schema), content(other_schema)
        function(*bound.args)
        assert content(test_schema) == before[0]
        assert (content(other_schema) == before[1]) is (name in READING)

    def test_comes_back_when_the_function_fails(self, name, test_schema):
        with pytest.raises(TypeError):
            getattr(database, name)(no_such_argument=1, schema="public")
        assert get_current_schema() == test_schema

    def test_must_be_one(self, name, here):
        with pytest.raises(ValueError, match="pg_catalog"):
            getattr(database, name)(**here.arguments(name), schema="pg_catalog")

    @staticmethod
    def check(name: str, arguments: dict[str, Any], acts_in: str, leaves_alone: str) -> None:
        before, context = (content(acts_in), content(leaves_alone)), get_current_schema()
        result = getattr(database, name)(**arguments)
        assert get_current_schema() == context
        assert content(leaves_alone) == before[1]
        assert (content(acts_in) == before[0]) is (name in READING)
        assert result is not None
        if name in READING:
            own_arguments = {key: value for key, value in arguments.items() if key != "schema"}
            with schema_context(acts_in):
                assert comparable(result) == comparable(getattr(HOMES[name], name)(**own_arguments))


@each
class TestTheFunction:
    def test_has_the_arguments_of_the_new_one_and_a_schema_after_them(self, name):
        old = list(inspect.signature(getattr(database, name)).parameters.values())
        new = list(inspect.signature(getattr(HOMES[name], name)).parameters.values())
        assert old[:-1] == [parameter for parameter in new if parameter.kind is not parameter.KEYWORD_ONLY]
        assert (old[-1].name, old[-1].default) == ("schema", None)
        assert old[-1].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD

    def test_has_its_name_and_description(self, name):
        old = getattr(database, name)
        assert (old.__name__, old.__doc__) == (name, getattr(HOMES[name], name).__doc__)

    def test_is_always_the_same_one(self, name):
        assert getattr(database, name) is getattr(database, name)

    def test_can_be_sent_to_another_process(self, name):
        assert pickle.loads(pickle.dumps(getattr(database, name))) is getattr(database, name)  # noqa: S301

    def test_is_listed(self, name):
        assert name in dir(database)


class TestTheThirteen:
    def test_are_thirteen(self):
        assert len(HOMES) == 13
        assert set(database._MOVED) == set(HOMES)

    def test_are_all_there_is(self):
        with pytest.raises(AttributeError, match="no attribute 'delete_everything'"):
            database.delete_everything  # noqa: B018
        assert not hasattr(database, "delete_cycle")

    @quietly
    def test_pass_on_what_the_new_ones_raise(self, here):
        with pytest.raises(CycleError, match="already"):
            database.create_cycle("Q1-2024")
        with pytest.raises(StepError, match="Unknown status"):
            database.update_step_run(here.run_id, "DONE")

    @quietly
    def test_make_a_whole_old_notebook_run(self, test_schema, other_schema, there):
        create_cycle, get_active_cycle = database.create_cycle, database.get_active_cycle
        cycle_id = create_cycle("Q3-2024", other_schema)
        stage_id = database.get_or_create_stage(cycle_id, 1, "Stage 1", schema=other_schema)
        step_id = database.get_or_create_step(stage_id, 1, "Step 1", None, other_schema)
        run_id, run_num = database.create_step_run(step_id, "tester", schema=other_schema)
        assert run_num == 1
        assert database.update_step_run(run_id, "COMPLETED", schema=other_schema)
        last_run = database.get_last_step_run(step_id, schema=other_schema)
        assert last_run is not None
        assert last_run["status"] == "COMPLETED"
        active = get_active_cycle(schema=other_schema)
        assert active is not None
        assert active["id"] == cycle_id
        assert get_current_schema() == test_schema

    def test_cost_a_new_program_nothing(self):
        program = "import sys, irp_pipeline.helpers.database; print([m for m in sys.modules if m.endswith('.cycle')])"
        told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert told.stdout.strip() == "[]"
