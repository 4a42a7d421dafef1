"""Content decides: what a step read and wrote is known by its hash, whoever asks, where, and after whatever failed."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from irp_pipeline import hashes, settings
from irp_pipeline.helpers.artefact import ArtefactError, list_artefacts, read_artefact
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command, execute_scalar, fetch_all, fetch_one
from irp_pipeline.helpers.job import list_jobs, read_job, restore_job, resubmit_job, skip_job, submit_job
from irp_pipeline.helpers.job_request import JobError
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import StepError, find_step, get_or_create_step, track_step
from irp_pipeline.orchestration.explain import explain
from irp_pipeline.report import collect, update
from irp_pipeline_tests.support.small_engine import CYCLE, LATER_STEPS, cycle_id, losses, statuses

STEPS = [
    "initialize_environment",
    "validate_configuration",
    "create_batches",
    "extract_exposure",
    "control_totals",
    "validate_exposure",
    "build_portfolios",
    "profile_exposure",
    *LATER_STEPS,
]


def worked(result: Any) -> list[str]:
    """The steps that did their work in a launch."""
    rows = fetch_all(
        """
        SELECT st.step_key
          FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id JOIN irp_stage sg ON sg.id = st.stage_id
         WHERE r.dagster_run_id = %s AND r.status = 'COMPLETED' ORDER BY sg.stage_num, st.step_num
        """,
        (result.run_id,),
    )
    return [row["step_key"].partition(".")[2] for row in rows]


def reason_of(step: str) -> str:
    """Why the newest run of a step ran or was skipped."""
    reason: str = execute_scalar(
        """
        SELECT r.reason FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id
         WHERE split_part(st.step_key, '.', 2) = %s ORDER BY r.id DESC LIMIT 1
        """,
        (step,),
    )
    return reason


def foresight() -> dict[str, str]:
    return {item.step.partition(".")[2]: str(item.foresight) for item in explain(CYCLE)}


def shorten(source: Path, lines: int) -> None:
    source.write_text("\n".join(source.read_text().splitlines()[: lines + 1]) + "\n")


@pytest.fixture
def step_id(test_schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A step of a notebook, on the server of all tests, with files of its own."""
    monkeypatch.setenv("IRP_DATABASE_URL", settings.database_url().render_as_string(hide_password=False))
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    yield get_or_create_step(get_or_create_stage(create_cycle(CYCLE), 1, "Notebook"), 1, "Losses")
    execute_command("DELETE FROM irp_cycle")


def files() -> Path:
    schema: str = execute_scalar("SELECT current_schema()")
    return settings.cycle_dir(schema, CYCLE)


class TestFilesOfAStep:
    def test_are_published_from_scratch_when_the_run_completes(self, step_id):
        with track_step(step_id) as run:
            (run.scratch / "results").mkdir()
            (run.scratch / "results" / "losses.csv").write_text("1\n")
            (run.scratch / "not named").write_text("thrown away")
            run.add_file(run.scratch / "results" / "losses.csv", metadata={"rows": 1})
            assert not (files() / "results").exists()
        assert (files() / "results" / "losses.csv").read_text() == "1\n"
        assert [path.name for path in files().rglob("*") if path.is_file()] == ["losses.csv"]
        row = fetch_one("SELECT artefact_key, sha256, bytes, metadata FROM irp_artefact")
        digest = hashes.file_sha256(files() / "results" / "losses.csv")
        assert row == {"artefact_key": "results/losses.csv", "sha256": digest, "bytes": 2, "metadata": {"rows": 1}}

    def test_are_not_published_by_a_run_that_fails(self, step_id):
        with pytest.raises(ZeroDivisionError), track_step(step_id) as run:  # noqa: PT012
            (run.scratch / "losses.csv").write_text("1\n")
            run.add_file(run.scratch / "losses.csv")
            1 / 0  # noqa: B018
        assert [path for path in files().rglob("*") if path.is_file()] == []
        assert execute_scalar("SELECT count(*) FROM irp_artefact") == 0

    def test_are_not_published_by_a_run_that_lost_its_lease(self, step_id):
        with pytest.raises(StepError, match="lost its lease"), track_step(step_id) as run:  # noqa: PT012
            (run.scratch / "losses.csv").write_text("of the slow one\n")
            run.add_file(run.scratch / "losses.csv")
            execute_command(
                "UPDATE irp_step_run SET heartbeat_ts = heartbeat_ts - interval '1 h' WHERE id = %s", (run.id,)
            )
            with track_step(step_id) as second:
                (second.scratch / "losses.csv").write_text("of the other one\n")
                second.add_file(second.scratch / "losses.csv")
        assert (files() / "losses.csv").read_text() == "of the other one\n"

    def test_go_away_when_the_step_says_so(self, step_id):
        files().mkdir(parents=True)
        (files() / "old.csv").write_text("1\n")
        with track_step(step_id) as run:
            run.remove_file("old.csv")
            assert (files() / "old.csv").exists()
        assert not (files() / "old.csv").exists()

    def test_may_lie_anywhere(self, step_id, tmp_path):
        (tmp_path / "elsewhere.csv").write_text("1\n")
        files().mkdir(parents=True)
        (files() / "here.csv").write_text("2\n")
        with track_step(step_id) as run:
            assert run.add_file(tmp_path / "elsewhere.csv").key == "files/elsewhere.csv"
            assert run.add_file(files() / "here.csv").key == "here.csv"
            with pytest.raises(StepError, match="a path within the files of the cycle"):
                run.add_file(tmp_path / "elsewhere.csv", key="../outside.csv")
            with pytest.raises(StepError, match="cannot be recorded: No such file"):
                run.add_file(tmp_path / "nothing.csv")
        assert (files() / "files" / "elsewhere.csv").read_text() == "1\n"
        assert (tmp_path / "elsewhere.csv").exists()

    @pytest.mark.parametrize(
        ("harm", "reason"),
        [
            (lambda path: path.unlink(), "the file losses.csv is not on this machine"),
            (lambda path: path.write_text("2\n"), "the file losses.csv has other content than recorded"),
            (lambda path: path.write_text("22\n"), "the file losses.csv has 3 bytes instead of 2"),
        ],
    )
    def test_that_are_not_as_recorded_make_the_step_run_again_and_are_refused_by_readers(self, step_id, harm, reason):
        def work() -> tuple[bool, str]:
            with track_step(step_id) as run:
                if not run.skipped:
                    (run.scratch / "losses.csv").write_text("1\n")
                    run.add_file(run.scratch / "losses.csv")
            return run.skipped, run.reason

        assert work() == (False, "it has not run before")
        assert work() == (True, "run 1 did the work, and what it read and wrote is unchanged")
        harm(files() / "losses.csv")
        cycle: int = execute_scalar("SELECT id FROM irp_cycle")
        artefact = list_artefacts(cycle)["losses.csv"]
        with pytest.raises(ArtefactError, match=r"losses\.csv .*It is not used"):
            read_artefact(CYCLE, artefact)
        assert work() == (False, reason)
        assert read_artefact(CYCLE, artefact).read_text() == "1\n"
        assert work()[0]

    def test_of_the_same_size_and_time_are_told_apart_by_their_inode(self, step_id):
        with track_step(step_id) as run:
            (run.scratch / "losses.csv").write_text("1\n")
            run.add_file(run.scratch / "losses.csv")
        path = files() / "losses.csv"
        long_ago = path.stat().st_mtime_ns - 60_000_000_000
        os.utime(path, ns=(long_ago, long_ago))
        with track_step(step_id) as run:
            assert run.skipped
        path.rename(path.with_suffix(".old"))
        path.write_text("2\n")
        os.utime(path, ns=(long_ago, long_ago))
        with track_step(step_id) as run:
            assert not run.skipped


class TestWhatIsUnchanged:
    def test_is_not_read_again(self, step_id, tmp_path, monkeypatch):
        path = tmp_path / "large.bin"
        path.write_bytes(b"x" * 1000)
        os.utime(path, (1_000_000_000, 1_000_000_000.5))
        first = hashes.file_sha256(path)
        monkeypatch.setattr("hashlib.file_digest", None)  # nothing can be hashed any more
        assert hashes.file_sha256(path) == first

    def test_of_a_table_is_its_cells(self, tmp_path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({"a": [1, None, 3] * 1000, "b": ["x", None, ""] * 1000, "c": [1.5, None, float("nan")] * 1000})
        pq.write_table(table, tmp_path / "one.parquet", row_group_size=7)
        other = table.replace_schema_metadata({"written by": "somebody"})
        pq.write_table(other, tmp_path / "two.parquet", compression="zstd", use_dictionary=False, row_group_size=1000)
        assert hashes.table_hash(tmp_path / "one.parquet") == hashes.table_hash(tmp_path / "two.parquet")
        for changed in (
            table.slice(1),
            table.rename_columns(["a", "b", "d"]),
            table.set_column(1, "b", [["x"] * 3000]),
        ):
            pq.write_table(changed, tmp_path / "other.parquet")
            assert hashes.table_hash(tmp_path / "one.parquet") != hashes.table_hash(tmp_path / "other.parquet")


class TestAStepsKey:
    def test_keeps_the_runs_of_a_step_when_a_release_puts_another_before_it(self, step_id):
        cycle: int = execute_scalar("SELECT id FROM irp_cycle")
        stage = get_or_create_stage(cycle, 2, "Extract", stage_key="extract")
        old = get_or_create_step(stage, 1, "Extract exposure", step_key="extract.extract_exposure")
        with track_step(old, fingerprint="same") as run:
            run.output["locations"] = 3
        new = get_or_create_step(stage, 1, "Fetch rates", step_key="extract.fetch_rates")
        assert get_or_create_step(stage, 2, "Extract exposure", step_key="extract.extract_exposure") == old
        assert find_step(cycle, "extract.extract_exposure") == old
        with track_step(new, fingerprint="same") as run:
            assert not run.skipped
        with track_step(old, fingerprint="same") as run:
            assert run.skipped
        assert [
            row["step_num"]
            for row in fetch_all("SELECT step_num FROM irp_step WHERE stage_id = %s ORDER BY 1", (stage,))
        ] == [1, 2]

    def test_keeps_it_apart_from_a_notebooks_step_of_the_same_number(self, step_id):
        cycle: int = execute_scalar("SELECT id FROM irp_cycle")
        keyed = get_or_create_stage(cycle, 1, "Setup", stage_key="setup")
        assert get_or_create_stage(cycle, 1, "Notebook") != keyed
        assert get_or_create_step(keyed, 1, "Own") != get_or_create_step(keyed, 1, "Ours", step_key="setup.ours")


# --- a cycle ------------------------------------------------------------------------------------------------------


def test_a_failed_launch_with_another_workbook_makes_nothing_run_again_afterwards(launch, folder, jobs):
    assert launch().success
    first = list_jobs(cycle_id())[0]
    resubmit_job(first["id"], {**first["job_configuration_data"], "loss_factor": [0.2]}, "the agreed factor is 20 %")
    assert launch().success
    nope = {"setup": {"ops": {"validate_configuration": {"config": {"workbook": str(folder / "nope.xlsx")}}}}}
    assert not launch(ops=nope).success
    again = launch()
    assert again.success
    assert worked(again) == ["validate_configuration"]
    assert worked(launch()) == []
    assert losses() == {"low": 80.0, "middle": 200.0, "high": 400.0}
    assert jobs.runs() == ["high", "low", "low", "middle"]


def test_what_a_person_changed_survives_reruns_and_other_workbooks_and_is_told(launch, folder, jobs, change_workbook):
    assert launch().success
    low, middle, _ = list_jobs(cycle_id())
    resubmit_job(low["id"], {**low["job_configuration_data"], "loss_factor": [0.2]}, "the agreed factor is 20 %")
    skip_job(middle["id"], "not needed this quarter")
    assert launch().success
    assert launch(rerun_completed=True).success
    assert losses() == {"low": 80.0, "high": 400.0}
    change_workbook(lambda content: content["analyses"][2].update(loss_factor=[0.9]))
    assert launch().success
    assert losses() == {"low": 80.0, "high": 360.0}
    notes = "\n".join(collect(CYCLE).notes)
    assert "low ran with other parameters than the workbook's: the agreed factor is 20 %" in notes
    assert "Skipped on purpose: middle (not needed this quarter)" in notes
    by_name = {job["job_configuration_data"]["name"]: job for job in list_jobs(cycle_id())}
    for name in ("low", "middle"):
        submit_job(restore_job(by_name[name]["id"], "agreed again"))
    assert launch().success
    assert losses() == {"low": 40.0, "middle": 200.0, "high": 360.0}
    with pytest.raises(JobError, match="nothing to restore"):
        restore_job(by_name["high"]["id"])


def test_a_job_with_the_request_of_a_finished_one_has_its_result(launch, folder, jobs, change_workbook):
    shutil.copy(folder / "configuration.xlsx", folder / "first.xlsx")
    assert launch().success
    change_workbook(lambda content: content["analyses"].pop())
    assert launch().success
    assert losses() == {"low": 40.0, "middle": 200.0}
    assert jobs.runs() == ["high", "low", "middle"]
    newest = [read_job(job["id"]) for job in list_jobs(cycle_id())[-2:]]
    assert all(job is not None and job["work_job_id"] is not None for job in newest)
    shutil.copy(folder / "first.xlsx", folder / "configuration.xlsx")
    assert launch().success
    assert losses() == {"low": 40.0, "middle": 200.0, "high": 400.0}
    assert jobs.runs() == ["high", "low", "middle"]


def test_a_changed_grouping_computes_no_job_again(launch, folder, jobs, change_workbook):
    assert launch().success
    change_workbook(lambda content: content["metadata"].update(description="Another word"))
    again = launch()
    assert again.success
    assert worked(again) == ["validate_configuration", "cycle_report"]
    assert jobs.runs() == ["high", "low", "middle"]


def test_a_source_that_is_changed_back_computes_nothing_twice(launch, folder, jobs):
    source = folder / "commercial" / "location.csv"
    before = source.read_text()
    assert launch().success
    shorten(source, 200)
    assert launch().success
    assert losses() == {"low": 20.0, "middle": 100.0, "high": 200.0}
    source.write_text(before)
    assert launch().success
    assert losses() == {"low": 40.0, "middle": 200.0, "high": 400.0}
    assert len(jobs.runs()) == 6


def test_a_stale_file_of_another_machine_is_never_used(launch, folder, jobs, monkeypatch, tmp_path):
    """Two homes, one database: each step finds its own files missing or different, and says so."""
    there = tmp_path / "there"
    assert launch().success
    shutil.copytree(tmp_path / "home", there, ignore=shutil.ignore_patterns("engine", "hashes.sqlite3"))
    shorten(folder / "commercial" / "location.csv", 300)
    assert launch(only="extract_exposure").success
    monkeypatch.setenv("IRP_HOME", str(there))
    assert not launch(only="build_portfolios").success
    failed = execute_scalar("SELECT error_message FROM irp_step_run WHERE status = 'FAILED' ORDER BY id DESC LIMIT 1")
    assert f"{there}" in failed
    assert "location.parquet" in failed
    shorten(settings.cycle_dir(execute_scalar("SELECT current_schema()"), CYCLE) / "commercial" / "location.csv", 300)
    assert launch().success
    assert reason_of("extract_exposure").startswith("the file extracts/commercial/location.parquet has")
    assert losses() == {"low": 30.0, "middle": 150.0, "high": 300.0}
    assert launch().success
    assert reason_of("export_results").endswith("unchanged")


def test_a_report_that_is_written_again_by_hand_and_says_the_same_makes_no_step_run(launch, folder, jobs):
    assert launch().success
    page = folder / "report" / "report.html"
    written = page.read_bytes()
    assert update(collect(CYCLE), cycle_id(), folder) == page
    assert page.read_bytes() == written
    assert worked(launch()) == []
    page.write_text("of somebody else")
    assert update(collect(CYCLE), cycle_id(), folder) == page
    assert b"Q1-2024" in page.read_bytes()


def test_a_missing_result_file_makes_its_job_run_again(launch, folder, jobs):
    assert launch().success
    job = read_job(list_jobs(cycle_id())[0]["id"])
    assert job is not None
    (Path(job["folder"]) / "results" / "losses.parquet").unlink()
    assert launch().success
    assert jobs.runs() == ["high", "low", "low", "middle"]
    assert statuses()[0] == ("low", "FINISHED", True)


def test_the_failure_of_a_part_is_recorded_with_its_step(launch, folder, jobs, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise JobError("the queue is closed")

    monkeypatch.setattr("irp_pipeline.orchestration.stages.submit.renew_batch", refuse)
    assert not launch().success
    row = fetch_one(
        """
        SELECT r.status, r.error_message FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id
         WHERE st.step_key = 'submit.submit_jobs' ORDER BY r.id DESC LIMIT 1
        """
    )
    assert row is not None
    assert row["status"] == "FAILED"
    assert "the queue is closed" in row["error_message"]
    assert "share_out_jobs" in row["error_message"]


def test_explaining_says_what_a_launch_would_do_and_changes_nothing(launch, folder, jobs, change_workbook):
    before = execute_scalar("SELECT count(*) FROM irp_step")
    assert set(foresight().values()) == {"run"}
    assert execute_scalar("SELECT count(*) FROM irp_step") == before == 0
    assert launch().success
    runs = execute_scalar("SELECT count(*) FROM irp_step_run")
    assert foresight() == dict.fromkeys(STEPS, "skip")
    shorten(folder / "commercial" / "location.csv", 300)
    told = {item.step.partition(".")[2]: item for item in explain(CYCLE)}
    assert told["extract_exposure"].foresight == "run"
    assert told["extract_exposure"].reason.startswith("source commercial/location changed from")
    assert told["control_totals"].foresight == "depends"
    assert "extract.extract_exposure" in told["control_totals"].reason
    assert told["validate_configuration"].foresight == "skip"
    assert execute_scalar("SELECT count(*) FROM irp_step_run") == runs
    assert worked(launch()) == STEPS[3:]
    change_workbook(lambda content: content["metadata"].update(description="Another word"))
    assert foresight()["validate_configuration"] == "run"
    assert foresight()["extract_exposure"] == "depends"


def test_what_a_step_read_is_recorded_input_by_input(launch, folder, jobs):
    assert launch().success
    inputs: dict[str, str] = execute_scalar(
        """
        SELECT r.inputs FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id
         WHERE st.step_key = 'process.build_portfolios'
        """
    )
    assert sorted(inputs) == [
        "output of extract.extract_exposure",
        "output of process.validate_exposure",
        "step",
        "workbook portfolios",
    ]
