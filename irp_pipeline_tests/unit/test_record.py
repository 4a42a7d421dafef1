"""A record is typed and frozen; the dict of one is plain, and has the names that notebooks know."""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline.helpers.batch import Batch
from irp_pipeline.helpers.configuration import Configuration
from irp_pipeline.helpers.constants import JobStatus, StepStatus
from irp_pipeline.helpers.cycle import Cycle
from irp_pipeline.helpers.job import Job
from irp_pipeline.helpers.record import INTERNAL, as_dict, record_of, record_or_none
from irp_pipeline.helpers.stage import Stage
from irp_pipeline.helpers.step import StepInCycle, StepRun


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A record with each kind of field that the package's have."""

    id: int
    status: JobStatus
    last_status: StepStatus | None
    folder: Path
    counts: Mapping[JobStatus, int]
    parameters: Mapping[str, Any] | None
    key: str = field(default="", metadata=INTERNAL)


ROW = {
    "id": 3,
    "status": "FINISHED",
    "last_status": None,
    "folder": Path("/there"),
    "counts": {JobStatus.FAILED: 2},
    "parameters": {"name": "wind", "return_periods": [10, 100]},
}


def test_words_become_statuses_and_nothing_else_changes():
    found = record_of(Found, ROW | {"last_status": "SKIPPED"})
    assert (found.status, found.last_status) == (JobStatus.FINISHED, StepStatus.SKIPPED)
    assert isinstance(found.status, JobStatus)
    assert record_of(Found, ROW).last_status is None
    assert (found.counts, found.parameters) == (ROW["counts"], ROW["parameters"])


def test_there_is_none_where_there_is_no_row():
    assert record_or_none(Found, None) is None
    assert as_dict(None) is None


def test_a_word_that_is_no_status_is_refused():
    with pytest.raises(ValueError, match="DONE"):
        record_of(Found, ROW | {"status": "DONE"})


@pytest.mark.parametrize("row", [ROW | {"other": 1}, {name: ROW[name] for name in ROW if name != "id"}])
def test_a_row_has_the_fields_of_its_record(row):
    with pytest.raises(TypeError):
        record_of(Found, row)


def test_a_dict_is_plain_and_leaves_out_what_is_internal():
    plain = as_dict(record_of(Found, ROW | {"key": "abc"}))
    assert plain == ROW | {"folder": "/there", "counts": {"FAILED": 2}}
    assert {type(plain["status"]), type(plain["folder"]), *map(type, plain["counts"])} == {str}


def test_a_dict_has_the_names_that_are_asked_for_in_their_order():
    assert list(as_dict(record_of(Found, ROW | {"key": "abc"}), ("key", "id"))) == ["key", "id"]


@pytest.mark.parametrize("kind", [Batch, Configuration, Cycle, Job, Stage, StepInCycle, StepRun])
def test_records_are_frozen(kind):
    found = kind.__new__(kind)
    with pytest.raises(FrozenInstanceError):
        found.id = 1
