"""Whatever is done to a cycle, in whatever order and on which of two machines: its figures are those of its inputs."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from irp_pipeline import settings as irp_settings
from irp_pipeline.helpers.cycle import create_cycle
from irp_pipeline.helpers.database import execute_command, fetch_all
from irp_pipeline.helpers.job import list_jobs, restore_job, resubmit_job, skip_job
from irp_pipeline.workbook import Workbook, read_workbook, write_workbook
from irp_pipeline_tests.support.small_engine import CYCLE, Jobs, Launcher, cycle_id, losses

NAMES = ("low", "middle", "high")
names = st.sampled_from(NAMES)
factors = st.sampled_from([0.1, 0.25, 0.5, 1.0])
homes = st.sampled_from(["here", "there"])


class Cycle(RuleBasedStateMachine):
    """A cycle on two machines with a home each and one database. The model is plain arithmetic."""

    launch: Launcher
    jobs: Jobs
    sample: Path
    place: Path
    patch: pytest.MonkeyPatch

    @initialize()
    def begin(self) -> None:
        execute_command("DELETE FROM irp_cycle")
        self.jobs.behave()
        for home in ("here", "there"):
            shutil.rmtree(self.place / home, ignore_errors=True)
            self.use(home)
            irp_settings.make_irp_home()
            shutil.copytree(self.sample, self.folder)
        create_cycle(CYCLE)
        self.locations = dict.fromkeys(("here", "there"), 400)
        self.workbook = {"low": 0.1, "middle": 0.5, "high": 1.0}
        self.overrides: dict[str, float] = {}
        self.skipped: set[str] = set()
        self.finished: set[str] = set()

    def use(self, home: str) -> None:
        self.patch.setenv("IRP_HOME", str(self.place / home))
        self.folder = irp_settings.cycle_dir(self.launch.schema, CYCLE)

    @rule(home=homes, lines=st.sampled_from([100, 300, 400]))
    def edit_the_source(self, home: str, lines: int) -> None:
        self.use(home)
        whole = (self.sample / "commercial" / "location.csv").read_text().splitlines()
        (self.folder / "commercial" / "location.csv").write_text("\n".join(whole[: lines + 1]) + "\n")
        self.locations[home] = lines

    @rule(name=names, factor=factors)
    def edit_the_workbook(self, name: str, factor: float) -> None:
        self.workbook[name] = factor
        for home in ("here", "there"):
            self.use(home)
            path = self.folder / "configuration.xlsx"
            content = read_workbook(path, models_dir=irp_settings.models_folder()).to_json()
            for analysis in content["analyses"]:
                analysis["loss_factor"] = [self.workbook[analysis["name"]]]
            write_workbook(path, Workbook.model_validate(content), overwrite=True)

    @rule(name=names, factor=factors)
    def override(self, name: str, factor: float) -> None:
        job = self.job_of(name)
        if job is not None:
            resubmit_job(job["id"], {**job["job_configuration_data"], "loss_factor": [factor]}, "agreed")
            self.overrides[name] = factor
            if factor == self.asked_for(job):
                del self.overrides[name]

    @rule(name=names)
    def skip(self, name: str) -> None:
        if (job := self.job_of(name)) is not None:
            skip_job(job["id"], "not needed")
            self.skipped.add(name)

    @rule(name=names)
    def restore(self, name: str) -> None:
        candidates = [job for job in list_jobs(cycle_id()) if job["job_configuration_data"]["name"] == name]
        if candidates and (name in self.skipped or name in self.overrides):
            restore_job(candidates[-1]["id"])
            self.skipped.discard(name)
            self.overrides.pop(name, None)

    @rule(home=homes, fails=st.sampled_from([None, None, "a workbook that is not there", "low"]))
    def launch_it(self, home: str, fails: str | None) -> None:
        self.use(home)
        if fails in NAMES:
            self.jobs.behave(**{fails: "fails"})
        nope = {"setup": {"ops": {"validate_configuration": {"config": {"workbook": str(self.place / "nope.xlsx")}}}}}
        result = self.launch(ops=nope if fails not in {None, *NAMES} else None)
        self.jobs.behave()
        assert result.success or fails is not None
        if result.success:
            self.check(home)

    @rule(home=homes)
    def rerun(self, home: str) -> None:
        self.use(home)
        assert self.launch(rerun_completed=True).success
        self.check(home)

    def check(self, home: str) -> None:
        factor = self.workbook | self.overrides
        expected = {name: self.locations[home] * factor[name] for name in NAMES if name not in self.skipped}
        assert losses() == pytest.approx(expected)
        again = self.launch()
        assert again.success
        assert [run["status"] for run in self.runs(again.run_id)] == ["SKIPPED"] * 14

    @invariant()
    def nothing_ran_with_inputs_and_outputs_of_before(self) -> None:
        rows = fetch_all(
            """
            SELECT st.step_key, r.reason
              FROM (SELECT *, lag(inputs) OVER w AS inputs_before, lag(status) OVER w AS status_before
                      FROM irp_step_run WHERE status <> 'SKIPPED'
                    WINDOW w AS (PARTITION BY step_id ORDER BY run_num)) r
              JOIN irp_step st ON st.id = r.step_id
             WHERE r.status = 'COMPLETED' AND r.status_before = 'COMPLETED' AND r.inputs = r.inputs_before
            """
        )
        known = ("the file ", "the records ", "it was asked", "1 jobs", "2 jobs", "3 jobs")
        assert [row for row in rows if not row["reason"].startswith(known)] == []

    def job_of(self, name: str) -> dict[str, Any] | None:
        """The job that counts for an analysis, if it can be changed."""
        if name in self.skipped:
            return None
        for job in reversed(list_jobs(cycle_id())):
            if job["job_configuration_data"]["name"] == name and not job["skipped"]:
                found: dict[str, Any] = job
                return found
        return None

    def asked_for(self, job: dict[str, Any]) -> float:
        """The factor that the workbook gave when the job was made."""
        [found] = fetch_all(
            "SELECT coalesce(workbook_data, job_configuration_data) -> 'loss_factor' ->> 0 AS factor"
            " FROM irp_job_configuration WHERE id = %s",
            (job["job_configuration_id"],),
        )
        return float(found["factor"])

    @staticmethod
    def runs(dagster_run_id: str) -> list[dict[str, Any]]:
        return fetch_all("SELECT status FROM irp_step_run WHERE dagster_run_id = %s", (dagster_run_id,))


def test_figures_are_those_of_the_inputs_and_nothing_is_done_twice(
    launch: Launcher, jobs: Jobs, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Cycle.launch, Cycle.jobs, Cycle.sample, Cycle.place, Cycle.patch = launch, jobs, sample, tmp_path, monkeypatch
    run_state_machine_as_test(
        Cycle,
        settings=settings(
            max_examples=4,
            stateful_step_count=8,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
