"""What notebooks read is plain: dicts, lists and Python's own values, without a record or a status of ours in them."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from irp_pipeline.helpers import batch, configuration, cycle, job, stage, step
from irp_pipeline.helpers.database import execute_command
from irp_pipeline_tests.support.recording_engine import analyses, make_batch, recording_engine

pytestmark = pytest.mark.usefixtures("test_schema")

_PLAIN = (dict, list, str, int, float, bool, type(None), datetime)

READERS: dict[str, Callable[[int], Any]] = {
    "get_active_cycle": lambda _: cycle.get_active_cycle(),
    "get_cycle_by_name": lambda _: cycle.get_cycle_by_name("Q1"),
    "get_stage_by_id": lambda _: stage.get_stage_by_id(stage.stages_of_cycle(_cycle_id())[0].id),
    "get_step_info": lambda batch_id: step.get_step_info(_of(batch.read_batch(batch_id))["step_id"]),
    "get_last_step_run": lambda batch_id: _last_run(_of(batch.read_batch(batch_id))["step_id"]),
    "get_active_configuration": lambda _: configuration.get_active_configuration(_cycle_id()),
    "read_configuration": lambda batch_id: configuration.read_configuration(
        _of(batch.read_batch(batch_id))["configuration_id"]
    ),
    "read_batch": batch.read_batch,
    "current_batch": lambda _: batch.current_batch(_cycle_id()),
    "list_batches": lambda _: batch.list_batches(_cycle_id()),
    "get_batch_jobs": batch.get_batch_jobs,
    "list_jobs": lambda _: job.list_jobs(_cycle_id()),
    "read_job": lambda batch_id: job.read_job(batch.get_batch_jobs(batch_id)[0]["id"]),
    "job_history": lambda batch_id: job.job_history(batch.get_batch_jobs(batch_id)[0]["id"]),
}


def _of(found: dict[str, Any] | None) -> dict[str, Any]:
    assert found is not None
    return found


def _cycle_id() -> int:
    number: int = _of(cycle.get_active_cycle())["id"]
    return number


def _last_run(step_id: int) -> dict[str, Any] | None:
    with step.track_step(step_id) as run:
        run.output["locations"] = 3
    return step.get_last_step_run(step_id)


@pytest.fixture(scope="module")
def batch_id(test_schema: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with recording_engine(tmp_path_factory.mktemp("home")):
        number = make_batch(analyses(2))
        batch.submit_batch(number)
        yield number
        execute_command("DELETE FROM irp_cycle")


@pytest.mark.parametrize("name", READERS)
def test_what_notebooks_read_is_plain(name, batch_id):
    found = READERS[name](batch_id)
    assert found
    assert_plain(found)


def assert_plain(value: Any) -> None:
    assert type(value) in _PLAIN
    if isinstance(value, dict):
        for key, item in value.items():
            assert type(key) is str
            assert_plain(item)
    elif isinstance(value, list):
        for item in value:
            assert_plain(item)
