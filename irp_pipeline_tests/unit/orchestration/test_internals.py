"""What is private to Dagster is named in one module, which says with which version it was tried."""

import re
from pathlib import Path

import dagster

import irp_pipeline
from irp_pipeline.orchestration import internals
from irp_pipeline_tests.support.processes import REPOSITORY

PACKAGE = Path(irp_pipeline.__file__).parent


def test_no_other_module_names_a_private_part_of_dagster() -> None:
    named = re.compile(r"\bdagster(?:_[a-z]+)?\._")
    found = [file for file in PACKAGE.rglob("*.py") if named.search(file.read_text())]
    assert [file.name for file in found] == ["internals.py"]


def test_it_was_tried_with_the_version_that_is_pinned() -> None:
    pinned = re.search(r"^dagster==(.+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert pinned[1] == internals.TRIED_WITH


def test_the_run_of_a_job_has_the_origin_and_the_partitions_that_the_ui_looks_for() -> None:
    origin = internals.origin_of_job("irp_pipeline.definitions", "__repository__", "run_cycle")
    told = f"tried with dagster {internals.TRIED_WITH}, this is {dagster.__version__}"
    assert origin.job_name == "run_cycle", told
    assert origin.repository_origin.repository_name == "__repository__", told
    assert origin.repository_origin.code_location_origin.location_name == "irp_pipeline.definitions", told
    assert internals.partition_set_of_job("run_cycle") == "run_cycle_partition_set", told
    assert (internals.PARTITION_NAME_TAG, internals.PARTITION_SET_TAG) == ("dagster/partition", "dagster/partition_set")
