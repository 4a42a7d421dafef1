"""Checks of jobs against the world before submission: all problems at once, and each thing is looked at once."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline import settings
from irp_pipeline.engines import ENGINES, EngineDeclaration, NamedFile
from irp_pipeline.engines.local import LocalEngine
from irp_pipeline.engines.oasis.usable import usable
from irp_pipeline.hashes import file_sha256
from irp_pipeline.helpers.batch import submit_batch
from irp_pipeline.helpers.database import execute_command
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.world_check import NotReadyError, check_batches
from irp_pipeline_tests.support.recording_engine import (
    RecordingEngine,
    analyses,
    engine_of,
    jobs_of,
    make_batch,
    recording_engine,
)

pytestmark = pytest.mark.usefixtures("test_schema")
LOOKED: list[str] = []


class CarefulEngine(RecordingEngine):
    """A recording engine that needs a licence and a model."""

    def check(self, request: Mapping[str, Any]) -> Iterator[str]:
        analysis = request["analysis"]
        LOOKED.append(analysis["name"])
        if "licence" in analysis.get("lacks", ""):
            yield "the licence has ended: renew it"
        if "model" in analysis.get("lacks", ""):
            yield f"the server has no model\n{analysis['model_of']}"
        if "mind" in analysis.get("lacks", ""):
            raise ZeroDivisionError("oops")


@pytest.fixture(autouse=True)
def _place(tmp_path: Path) -> Iterator[None]:
    LOOKED.clear()
    with recording_engine(tmp_path):
        ENGINES.register(EngineDeclaration("careful", "", CarefulEngine))
        yield
    execute_command("DELETE FROM irp_cycle")


def test_all_problems_are_named_at_once_each_with_its_jobs_and_nothing_is_submitted() -> None:
    wanted = analyses(14, engine="careful")
    for analysis in wanted[2:]:
        analysis["lacks"] = "licence"
    wanted[0] |= {"lacks": "licence and model", "model_of": "storm 2"}
    wanted[1] |= {"lacks": "mind"}
    batch_id = make_batch(wanted)
    with pytest.raises(NotReadyError) as raised:
        check_batches([batch_id])
    first, *lines = str(raised.value).splitlines()
    assert first == "Nothing was submitted, since jobs could not run as things are now:"
    assert lines == [
        "- careful: the licence has ended: renew it (needed by 13 jobs: a0, a2, a3, a4, a5 and 8 more)",
        "- careful: the server has no model storm 2 (needed by 1 job: a0)",
        (
            "- careful: its check of jobs failed, which is a mistake in that engine: ZeroDivisionError: oops "
            "(needed by 1 job: a1)"
        ),
    ]
    assert {job["status"] for job in jobs_of(batch_id)} == {"INITIATED"}
    assert engine_of("Q1").requests() == {}


def test_an_engine_without_checks_is_asked_nothing_and_others_are_asked_about_jobs_that_wait() -> None:
    batch_id = make_batch([*analyses(2), {**analyses(1)[0], "name": "b", "engine": "careful"}])
    check_batches([batch_id])
    assert LOOKED == ["b"]
    submit_batch(batch_id)
    check_batches([batch_id])
    assert LOOKED == ["b"]


def test_a_job_whose_request_cannot_be_made_is_left_to_its_handover() -> None:
    wanted = analyses(2, engine="careful")
    wanted[0]["portfolio"] = "nowhere"
    check_batches([make_batch(wanted)])
    assert LOOKED == ["a1"]


def test_an_engine_that_is_gone_is_a_problem() -> None:
    batch_id = make_batch(analyses(3, engine="vanished"))
    with pytest.raises(NotReadyError, match=r"There is no risk engine 'vanished'.*needed by 3 jobs"):
        check_batches([batch_id])


class TestProgram:
    """The check of engines that are programs."""

    @pytest.fixture
    def model(self) -> Path:
        folder = settings.models_folder() / "storm"
        folder.mkdir(parents=True)
        (folder / "oasislmf.json").write_text("{}")
        return folder

    @pytest.fixture
    def looks(self) -> Counter[str]:
        """How often files were hashed, and models looked at."""
        return Counter()

    @pytest.fixture
    def program(self, looks: Counter[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The command of the engine `program`, which a test may change."""
        monkeypatch.setenv("IRP_JOB_SLOTS", "1")
        command = ["sh", "-c", "true"]

        def hash_of(path: Path, analysis: Mapping[str, Any]) -> str:
            looks["hashed"] += 1
            return file_sha256(path / "oasislmf.json")

        def usable_model(named: Mapping[str, Any], paths: Mapping[str, str]) -> Iterator[str]:
            looks["looked at"] += 1
            if (Path(paths["model"]) / "broken").exists():
                yield f"the model {named['model']} is broken"

        def make(jobs: Path) -> LocalEngine:
            return LocalEngine(jobs, command, usable=usable_model)

        ENGINES.register(EngineDeclaration("program", "", make, files={"model": NamedFile(hash_of)}, model_columns=()))
        return command

    def test_hundreds_of_jobs_with_one_model_look_at_it_once(
        self, program: list[str], model: Path, looks: Counter[str]
    ) -> None:
        wanted = [of | {"samples": n} for n, of in enumerate(analyses(300, engine="program", model="storm"))]
        check_batches([make_batch(wanted)])
        # One hash for making the requests, and one for the check.
        assert looks == {"hashed": 2, "looked at": 1}

    def test_what_is_missing_is_named(self, program: list[str], model: Path) -> None:
        program[0] = "no_such_program"
        (model / "broken").touch()
        batch_id = make_batch(analyses(2, engine="program", model="storm"))
        with pytest.raises(NotReadyError) as raised:
            check_batches([batch_id])
        assert [str(problem) for problem in raised.value.problems] == [
            (
                "program: its program no_such_program is not on this machine, or cannot be executed "
                "(needed by 2 jobs: a0, a1)"
            ),
            "program: the model storm is broken (needed by 2 jobs: a0, a1)",
        ]

    def test_a_machine_that_runs_no_jobs_needs_no_program(
        self, program: list[str], model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program[0] = "no_such_program"
        monkeypatch.setenv("IRP_JOB_SLOTS", "0")
        check_batches([make_batch(analyses(1, engine="program", model="storm"))])

    def test_little_space_is_a_problem(self, program: list[str], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("irp_pipeline.engines.local._NEEDED_BYTES", 1e18)
        with pytest.raises(NotReadyError, match=r"MB are free for the files of jobs in .*: make room"):
            check_batches([make_batch(analyses(1, engine="program", model="storm"))])

    def test_files_that_are_not_those_of_the_request_are_named(self, program: list[str], model: Path) -> None:
        """A request that was made before something changed."""
        jobs = settings.cycle_dir(get_current_schema(), "Q1") / "jobs"
        make_batch(analyses(1))
        engine = LocalEngine(jobs, program)
        request = {
            "analysis": {"name": "a", "engine": "program", "model": "storm"},
            "data_folder": ".",
            "model_hash": "0" * 64,
            "inputs": {"location.csv": {"key": "portfolios/property/location.csv", "sha256": "0" * 64}},
        }
        of_input, of_model = engine.check(request)
        assert "/portfolios/property/location.csv, is missing or has other content than recorded" in of_input
        assert "is not the one that the job was submitted for" in of_model


def test_a_model_of_oasis_is_looked_at_as_by_irp_model_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRP_JOB_SLOTS", "1")
    (tmp_path / "model_data").mkdir()
    (tmp_path / "model_data" / "footprint.csv").touch()
    (tmp_path / "keys.py").write_text("import no_such_package\n")
    entries = {"model_data_dir": "model_data", "lookup_module_path": "keys.py"}
    (tmp_path / "oasislmf.json").write_text(json.dumps(entries))
    (said,) = usable({"model": "storm"}, {"model": str(tmp_path)})
    assert "the model storm cannot be used" in said
    assert "convert it with csvtobin" in said
    (tmp_path / "model_data" / "footprint.csv").rename(tmp_path / "model_data" / "footprint.bin")
    (said,) = usable({"model": "storm"}, {"model": str(tmp_path)})
    assert "the model storm needs no_such_package" in said
    assert "pip install no_such_package" in said
    monkeypatch.setenv("IRP_JOB_SLOTS", "0")
    assert list(usable({"model": "storm"}, {"model": str(tmp_path)})) == []
