"""The parts of Dagster one by one, without a database: names and days, tags of runs, executors."""

from __future__ import annotations

import datetime as dt
import importlib
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dagster import OpDefinition
from hypothesis import given
from hypothesis import strategies as st

from irp_pipeline import settings
from irp_pipeline.definitions import definitions
from irp_pipeline.orchestration import executors
from irp_pipeline.orchestration.coordinator import run_tags, schema_of_run
from irp_pipeline.orchestration.executors import executor
from irp_pipeline.orchestration.instance import shipped_configuration, use_dagster_home
from irp_pipeline.orchestration.jobs import STAGES, run_cycle, selection
from irp_pipeline.orchestration.schedules import cycle_of_quarter, is_first_weekday_of_quarter
from irp_pipeline.orchestration.tracking import SPECS, CycleOfRun, StageSpec, step

REPOSITORY = Path(__file__).parents[3]


# --- quarters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "name"),
    [
        (dt.date(2024, 1, 1), "Q1-2024"),
        (dt.date(2024, 3, 31), "Q1-2024"),
        (dt.date(2024, 4, 1), "Q2-2024"),
        (dt.date(2025, 9, 30), "Q3-2025"),
        (dt.date(2025, 12, 31), "Q4-2025"),
    ],
)
def test_a_cycle_is_named_after_its_quarter(day: dt.date, name: str):
    assert cycle_of_quarter(day) == name


@given(st.dates(dt.date(1900, 1, 1), dt.date(2200, 12, 31)))
def test_a_quarter_has_one_first_weekday_before_which_there_are_only_weekends(day: dt.date):
    first_month = 3 * ((day.month - 1) // 3) + 1
    begin = dt.date(day.year, first_month, 1)
    days = [begin + dt.timedelta(days=n) for n in range(90)]
    found = [each for each in days if is_first_weekday_of_quarter(each)]
    assert len(found) == 1
    assert found[0].weekday() < 5
    assert all(each.weekday() >= 5 for each in days if each < found[0])
    assert cycle_of_quarter(found[0]) == cycle_of_quarter(day)
    assert found[0].day <= 3  # the schedule looks on these days only


# --- which schema and cycle a run is of ---------------------------------------------------------------------------


def config_of(db_schema: object) -> dict[str, Any]:
    return {"resources": {"database": {"config": {"db_schema": db_schema}}}}


@pytest.mark.parametrize(
    ("run_config", "schema"),
    [
        (config_of("test_cycle"), "test_cycle"),
        (config_of({"env": "SCHEMA_OF_RUN"}), "from_variable"),
        (config_of({"env": "NOT_SET_AT_ALL"}), "the_default"),
        (config_of(None), "the_default"),
        (config_of(""), "the_default"),
        ({"resources": {"database": {"config": {}}}}, "the_default"),
        ({"resources": {"database": None}}, "the_default"),
        ({"resources": []}, "the_default"),
        ({}, "the_default"),
    ],
)
def test_the_schema_of_a_run_is_read_from_its_config(
    run_config: Mapping[str, Any], schema: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DB_SCHEMA", "the_default")
    monkeypatch.setenv("SCHEMA_OF_RUN", "from_variable")
    assert schema_of_run(run_config) == schema


def test_a_run_of_a_cycle_holds_the_lock_of_its_schema_and_cycle():
    tags = run_tags(config_of("test_cycle"), {"dagster/partition": "Q1-2024", "team": "risk"})
    assert tags == {"irp/schema": "test_cycle", "irp/lock": "test_cycle/Q1-2024"}


def test_a_run_of_no_cycle_holds_no_lock():
    assert run_tags(config_of("test_cycle"), {}) == {"irp/schema": "test_cycle"}


# --- stages and steps ---------------------------------------------------------------------------------------------


def test_steps_run_in_the_order_of_their_numbers():
    specs = [
        SPECS[op.tags["irp/step"]]
        for stage in STAGES
        for op in stage.nodes_in_topological_order
        if "irp/step" in op.tags
    ]
    order = [(spec.stage.number, spec.number) for spec in specs]
    assert order == sorted(order)
    assert len(set(order)) == len(order)


@pytest.mark.parametrize("kind", ["in_process", "multiprocess", "celery", "k8s"])
def test_each_executor_has_the_name_of_its_setting(kind: settings.Executor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IRP_CELERY_BROKER", "redis://127.0.0.1:1/0")
    assert executor(kind).name == kind


@pytest.mark.parametrize(("kind", "package"), [("celery", "dagster-celery"), ("k8s", "dagster-k8s")])
def test_without_its_package_an_executor_says_what_to_install(
    kind: settings.Executor, package: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(settings.SettingsError, match=rf"{package} is not installed.*'irp-pipeline\[{kind}\]'"):
        executor(kind)


def test_the_broker_is_no_part_of_run_config(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IRP_CELERY_BROKER", "redis://:very-secret@127.0.0.1:1/0")
    schema = executor("celery").config_schema
    assert schema is not None
    assert not schema.as_field().config_type.fields  # type: ignore[attr-defined]


def test_every_op_of_the_cycle_is_a_tracked_step_or_a_part_of_one_and_hands_nothing_on():
    parts = set()
    for node in run_cycle.all_node_defs:
        if isinstance(node, OpDefinition):
            assert node.required_resource_keys == {"database"}
            assert node.description
            assert [out.dagster_type.is_nothing for out in node.output_defs] == [True]
            assert [into.dagster_type.is_nothing for into in node.input_defs] == [True]
            if "irp/step" not in node.tags:
                parts.add(node.name)
    of_notebooks = {f"{word}_{stage}_notebooks" for word in ("share_out", "run") for stage in ("process", "report")}
    assert parts == {"share_out_jobs", "hand_over_jobs", *of_notebooks}


@pytest.mark.parametrize(
    ("chosen", "ops"),
    [
        ({}, None),
        ({"from_stage": "setup"}, ["setup", "extract", "process", "submit", "monitor", "report"]),
        ({"from_stage": "process"}, ["process", "submit", "monitor", "report"]),
        ({"only_step": "control_totals"}, ["extract.control_totals"]),
    ],
)
def test_a_part_of_the_cycle_is_chosen_by_stage_or_step(chosen: dict[str, str], ops: list[str] | None):
    assert selection(**chosen) == ops


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"from_stage": "Extract"}, "no stage 'Extract'. The stages are: setup, extract, process"),
        ({"only_step": "extract"}, "no step 'extract'. The steps are: initialize_environment"),
    ],
)
def test_what_there_is_to_choose_is_listed_to_whoever_mistypes(chosen: dict[str, str], message: str):
    with pytest.raises(ValueError, match=message):
        selection(**chosen)


def test_a_step_is_named_and_described_by_its_function():
    @step(stage=StageSpec(4, "Submit"), number=2)
    def send_to_model(cycle: CycleOfRun) -> None:
        """Send the
        portfolio.
        """

    assert send_to_model.name == "send_to_model"
    assert send_to_model.description == "Send the\nportfolio."
    assert send_to_model.tags == {"irp/step": "submit.send_to_model"}


# --- executors, preloading, the instance --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["in_process", "multiprocess"])
def test_the_executor_is_chosen_by_name(kind: Any):
    assert executors.executor(kind).name == kind


def test_what_is_preloaded_can_be_imported():
    assert importlib.import_module(executors.PRELOADED)  # the forkserver would drop an ImportError


def test_only_a_step_worker_ends_with_its_parent():
    executors.end_with_parent()
    assert "irp-end-with-parent" not in {thread.name for thread in threading.enumerate()}


def test_the_definitions_are_complete():
    repository = definitions.get_repository_def()
    assert set(repository.job_names) >= {
        "run_cycle",
        "open_cycle",
        "archive_cycle",
        "setup",
        "extract",
        "process",
        "submit",
        "monitor",
        "report",
    }
    assert repository.has_schedule_def("quarterly_cycle")
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "partitions_follow_cycles",
        "lost_workers",
        "follow_batches",
        "continue_approved",
        "messages",
    }


def test_the_shipped_dagster_yaml_is_that_of_the_repository():
    assert shipped_configuration().read_bytes() == (REPOSITORY / "dagster.yaml").read_bytes()


def test_without_dagster_home_the_instance_is_in_irp_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    home = use_dagster_home()
    assert home == tmp_path / "home" / "dagster"
    assert (home / "dagster.yaml").read_bytes() == (REPOSITORY / "dagster.yaml").read_bytes()


def test_dagster_home_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert use_dagster_home() == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_no_text_that_the_ui_shows_has_markup_of_the_code_in_it():
    markup = re.compile(r":[a-z]+:`|``")
    repository = definitions.get_repository_def()
    texts = [sensor.description for sensor in repository.sensor_defs]
    texts += [schedule.description for schedule in repository.schedule_defs]
    for job in repository.get_all_jobs():
        snapshot = job.get_job_snapshot()
        texts.append(snapshot.description)
        texts += [op.description for op in snapshot.node_defs_snapshot.op_def_snaps]
        texts += [graph.description for graph in snapshot.node_defs_snapshot.graph_def_snaps]
        for shape in snapshot.config_schema_snapshot.all_config_snaps_by_key.values():
            texts += [shape.description, *(field.description for field in shape.fields or ())]
    assert any(texts)
    assert [text for text in texts if text and markup.search(text)] == []
