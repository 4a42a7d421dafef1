"""Whatever is done, in whatever order: the records are those of a small model; and names cannot do harm."""

import re
import string
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from irp_pipeline.helpers import heartbeat, lost_runs, step_start
from irp_pipeline.helpers import lease as lease_module
from irp_pipeline.helpers.constants import CycleStatus, StepStatus
from irp_pipeline.helpers.cycle import (
    CycleError,
    archive_cycle,
    check_cycle_name,
    create_cycle,
    delete_archived_cycles,
    delete_cycle,
    get_active_cycle_id,
    get_cycle_by_name,
    get_cycle_progress,
    get_cycle_status,
    get_step_history,
)
from irp_pipeline.helpers.database import DatabaseError, execute_command, execute_scalar, fetch_all, transaction
from irp_pipeline.helpers.stage import StageError, get_or_create_stage, get_stage_by_id, list_stages_for_cycle
from irp_pipeline.helpers.step import (
    StepError,
    TrackedRun,
    create_step_run,
    get_last_step_run,
    get_or_create_step,
    get_step_info,
    track_step,
    update_step_run,
)

slow_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass
class Run:
    run_num: int
    status: str = "ACTIVE"
    tracked: bool = False
    silent: bool = False
    error: str | None = None
    output: dict[str, Any] | None = None
    fingerprint: str | None = None
    work_run_num: int | None = None


@dataclass
class Step:
    step_num: int
    name: str
    runs: dict[int, Run] = field(default_factory=dict)

    def newest_that_counts(self) -> Run | None:
        counting = [run for run in self.runs.values() if run.tracked and run.status != "SKIPPED"]
        return counting[-1] if counting else None


@dataclass
class Stage:
    stage_num: int
    name: str
    steps: dict[int, Step] = field(default_factory=dict)


@dataclass
class Cycle:
    name: str
    status: str = "ACTIVE"
    stages: dict[int, Stage] = field(default_factory=dict)


@dataclass
class Work:
    """A tracked run that has begun and not ended."""

    block: AbstractContextManager[TrackedRun]
    seen: TrackedRun
    run: Run
    fingerprint: str | None


names = st.sampled_from(["Q1", "Q2", "Q3", "Q0"])
titles = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5)
numbers = st.integers(0, 2)
fingerprints = st.sampled_from(["a", "b", None])
wrongs = st.sampled_from([None, None, ValueError, KeyboardInterrupt])
outputs = st.dictionaries(titles, st.integers() | titles | st.booleans() | st.none(), max_size=2)


class Records(RuleBasedStateMachine):
    cycle_ids: Bundle[int] = Bundle("cycles")
    stage_ids: Bundle[int] = Bundle("stages")
    step_ids: Bundle[int] = Bundle("steps")
    run_ids: Bundle[int] = Bundle("runs")
    works: Bundle[Work] = Bundle("works")

    def __init__(self) -> None:
        super().__init__()
        self.cycles: dict[int, Cycle] = {}
        self.at_work: list[Work] = []
        execute_command("DELETE FROM irp_cycle")

    @initialize(target=cycle_ids)
    def begin_with_a_cycle(self) -> Any:
        return self.create_a_cycle("Q1")

    @initialize(target=step_ids)
    def begin_with_a_step(self) -> Any:
        return self.ask_for_a_step(self.ask_for_a_stage(self.create_a_cycle("Q0"), 0, "Setup"), 0, "Validate")

    def teardown(self) -> None:
        for work in self.at_work:
            with suppress(StepError):
                work.block.__exit__(None, None, None)

    # What the model holds. An id whose cycle was deleted is in none of these.

    @property
    def stages(self) -> dict[int, Stage]:
        return {key: stage for cycle in self.cycles.values() for key, stage in cycle.stages.items()}

    @property
    def steps(self) -> dict[int, Step]:
        return {key: step for stage in self.stages.values() for key, step in stage.steps.items()}

    @property
    def runs(self) -> dict[int, Run]:
        return {key: run for step in self.steps.values() for key, run in step.runs.items()}

    def is_at_work(self, cycle_id: int) -> bool:
        steps = [step for stage in self.stages_of(cycle_id) for step in stage.steps.values()]
        runs = [run for step in steps for run in step.runs.values()]
        return any(run.tracked and run.status == "ACTIVE" and not run.silent for run in runs)

    def stages_of(self, cycle_id: int) -> list[Stage]:
        return [*self.cycles[cycle_id].stages.values()] if cycle_id in self.cycles else []

    # Cycles

    @rule(target=cycle_ids, name=names)
    def create_a_cycle(self, name: str) -> Any:
        if name in {cycle.name for cycle in self.cycles.values()}:
            with pytest.raises(CycleError, match="already"):
                create_cycle(name)
            return multiple()
        cycle_id = create_cycle(name)
        assert cycle_id not in self.cycles
        self.cycles[cycle_id] = Cycle(name)
        return cycle_id

    @rule(cycle_id=cycle_ids, how=st.sampled_from(["archive", "delete", "delete the archived"]))
    def put_away(self, cycle_id: int, how: str) -> None:
        archived = [key for key, cycle in self.cycles.items() if cycle.status == "ARCHIVED"]
        if any(self.is_at_work(key) for key in (archived if how == "delete the archived" else [cycle_id])):
            ways: dict[str, Callable[[], object]] = {
                "archive": lambda: archive_cycle(cycle_id),
                "delete": lambda: delete_cycle(cycle_id),
                "delete the archived": delete_archived_cycles,
            }
            with pytest.raises(CycleError, match="at work"):
                ways[how]()
        elif how == "archive":
            assert archive_cycle(cycle_id) is (cycle_id in self.cycles)
            if cycle_id in self.cycles:
                self.cycles[cycle_id].status = "ARCHIVED"
        elif how == "delete":
            assert delete_cycle(cycle_id) is (self.cycles.pop(cycle_id, None) is not None)
        else:
            left = {key: cycle for key, cycle in self.cycles.items() if cycle.status == "ACTIVE"}
            assert delete_archived_cycles() == len(self.cycles) - len(left)
            self.cycles = left

    # Stages and steps

    @rule(target=stage_ids, cycle_id=cycle_ids, stage_num=numbers, name=titles)
    def ask_for_a_stage(self, cycle_id: int, stage_num: int, name: str) -> Any:
        if cycle_id not in self.cycles:
            with pytest.raises(StageError):
                get_or_create_stage(cycle_id, stage_num, name)
            return multiple()
        stages = self.cycles[cycle_id].stages
        stage_id = get_or_create_stage(cycle_id, stage_num, name)
        existing = {stage.stage_num: key for key, stage in stages.items()}
        assert existing.get(stage_num, stage_id) == stage_id
        stages.setdefault(stage_id, Stage(stage_num, name))
        return stage_id

    @rule(target=step_ids, stage_id=stage_ids, step_num=numbers, name=titles)
    def ask_for_a_step(self, stage_id: int, step_num: int, name: str) -> Any:
        if stage_id not in self.stages:
            with pytest.raises(StepError):
                get_or_create_step(stage_id, step_num, name)
            return multiple()
        steps = self.stages[stage_id].steps
        step_id = get_or_create_step(stage_id, step_num, name)
        existing = {step.step_num: key for key, step in steps.items()}
        assert existing.get(step_num, step_id) == step_id
        steps.setdefault(step_id, Step(step_num, name))
        return step_id

    # Runs as bookkeeping

    @rule(target=run_ids, step_id=step_ids)
    def create_a_run(self, step_id: int) -> Any:
        if step_id not in self.steps:
            with pytest.raises(StepError):
                create_step_run(step_id, "tester")
            return multiple()
        runs = self.steps[step_id].runs
        run_id, run_num = create_step_run(step_id, "tester")
        runs[run_id] = Run(len(runs) + 1)
        assert run_num == len(runs)
        return run_id

    @rule(run_id=run_ids, status=st.sampled_from(StepStatus), error=st.none() | titles, output=st.none() | outputs)
    def update_a_run(self, run_id: int, status: str, error: str | None, output: dict[str, Any] | None) -> None:
        run = self.runs.get(run_id)
        if run is not None and run.status not in {"ACTIVE", status}:
            with pytest.raises(StepError, match=f"has ended as {run.status}"):
                update_step_run(run_id, status, error, output)
            return
        assert update_step_run(run_id, status, error, output) is (run is not None)
        if run is not None:
            run.status = status
            run.error = run.error if error is None else error
            run.output = run.output if output is None else output

    # Runs as work

    @rule(target=works, step_id=step_ids, fingerprint=fingerprints, rerun=st.booleans())
    def begin_work(self, step_id: int, fingerprint: str | None, rerun: bool) -> Any:
        block = track_step(step_id, fingerprint=fingerprint, rerun=rerun)
        step = self.steps.get(step_id)
        newest = step.newest_that_counts() if step else None
        if step is None or (newest and newest.status == "ACTIVE" and not newest.silent):
            with pytest.raises(StepError, match="at work already" if step else "There is no step"):
                block.__enter__()
            return multiple()

        seen = block.__enter__()
        run = Run(len(step.runs) + 1, tracked=True)
        step.runs[seen.id] = run
        assert (seen.run_num, seen.step_id) == (run.run_num, step_id)
        if newest and newest.status == "COMPLETED" and newest.fingerprint == fingerprint and not rerun:
            run.status, run.work_run_num = "SKIPPED", newest.work_run_num or newest.run_num
            run.output, run.fingerprint = newest.output, newest.fingerprint
            assert (seen.skipped, seen.work_run_num, seen.output) == (True, run.work_run_num, run.output or {})
            block.__exit__(None, None, None)
            return multiple()
        if newest and newest.status == "ACTIVE":
            newest.status, newest.error = "FAILED", "worker lost"
        assert (seen.skipped, seen.work_run_num) == (False, run.run_num)
        work = Work(block, seen, run, fingerprint)
        self.at_work.append(work)
        return work

    @rule(step_id=step_ids, fingerprint=fingerprints, rerun=st.booleans(), output=outputs, wrong=wrongs)
    def work_from_begin_to_end(
        self, step_id: int, fingerprint: str | None, rerun: bool, output: dict[str, Any], wrong: type[Exception] | None
    ) -> None:
        work = self.begin_work(step_id, fingerprint, rerun)
        if isinstance(work, Work):
            self.end_work(work, output, wrong)

    @rule(target=run_ids, work=works)
    def meddle_with_work_by_hand(self, work: Work) -> int:
        return work.seen.id

    @rule(work=works)
    def hear_nothing_of_a_worker(self, work: Work) -> None:
        silenced = execute_command(
            "UPDATE irp_step_run SET heartbeat_ts = '2000-01-01 00:00+00' WHERE id = %s AND status = 'ACTIVE'",
            (work.seen.id,),
        )
        work.run.silent = bool(silenced)

    @rule(target=works, work=works, fingerprint=fingerprints)
    def take_the_place_of_a_silent_worker(self, work: Work, fingerprint: str | None) -> Any:
        self.hear_nothing_of_a_worker(work)
        return self.begin_work(work.seen.step_id, fingerprint, rerun=False)

    @rule(work=consumes(works), output=outputs, wrong=wrongs)
    def end_work(self, work: Work, output: dict[str, Any], wrong: type[BaseException] | None) -> None:
        self.at_work.remove(work)
        holds_lease = work.run.status == "ACTIVE" and work.seen.id in self.runs
        work.seen.output = output
        if wrong is not None:
            error = wrong("wrong")
            assert work.block.__exit__(wrong, error, None) is False
            assert hasattr(error, "__notes__") is not holds_lease
            if holds_lease:
                work.run.status, work.run.output = "FAILED", None
                work.run.error = "cancelled" if wrong is KeyboardInterrupt else "ValueError: wrong"
        elif holds_lease:
            work.block.__exit__(None, None, None)
            work.run.status, work.run.error, work.run.output = "COMPLETED", None, output
            work.run.fingerprint, work.run.work_run_num = work.fingerprint, work.run.run_num
        else:
            with pytest.raises(StepError, match="lost its lease"):
                work.block.__exit__(None, None, None)

    # What must be so at any time

    @invariant()
    def the_cycles_are_those_of_the_model(self) -> None:
        rows = fetch_all("SELECT id, cycle_name, status FROM irp_cycle")
        assert {row["id"]: (row["cycle_name"], row["status"]) for row in rows} == {
            key: (cycle.name, cycle.status) for key, cycle in self.cycles.items()
        }

    @invariant()
    def the_stages_and_steps_are_those_of_the_model(self) -> None:
        rows = fetch_all("SELECT id, cycle_id, stage_num, stage_name FROM irp_stage")
        assert sorted(tuple(row.values()) for row in rows) == sorted(
            (key, cycle_id, stage.stage_num, stage.name)
            for cycle_id, cycle in self.cycles.items()
            for key, stage in cycle.stages.items()
        )
        rows = fetch_all("SELECT id, stage_id, step_num, step_name, last_run_num FROM irp_step")
        assert sorted(tuple(row.values()) for row in rows) == sorted(
            (key, stage_id, step.step_num, step.name, len(step.runs))
            for stage_id, stage in self.stages.items()
            for key, step in stage.steps.items()
        )

    @invariant()
    def the_runs_are_those_of_the_model(self) -> None:
        rows = {row["id"]: row for row in fetch_all("SELECT * FROM irp_step_run")}
        assert rows.keys() == self.runs.keys()
        for run_id, run in self.runs.items():
            row = rows[run_id]
            assert (row["run_num"], row["status"], row["tracked"]) == (run.run_num, run.status, run.tracked)
            assert (row["output_data"], row["input_hash"]) == (run.output, run.fingerprint)
            assert row["work_run_num"] == run.work_run_num
            assert (row["completed_ts"] is None) is (run.status == "ACTIVE")
            assert (row["error_message"] is None) is (run.error is None)
            assert (row["error_message"] or "").startswith(run.error or "")

    @invariant()
    def the_active_cycle_is_the_youngest(self) -> None:
        active = [key for key, cycle in self.cycles.items() if cycle.status == "ACTIVE"]
        assert get_active_cycle_id() == (active[-1] if active else None)

    # What is read when somebody asks

    @rule(step_id=step_ids, cycle_id=cycle_ids, name=names)
    def look(self, step_id: int, cycle_id: int, name: str) -> None:
        self.look_at_a_step(step_id)
        self.look_at_the_stages_of_a_cycle(cycle_id)
        self.look_at_a_cycle(name)
        self.look_at_all_cycles()

    def look_at_a_step(self, step_id: int) -> None:
        info, newest = get_step_info(step_id), get_last_step_run(step_id)
        step = self.steps.get(step_id)
        assert (info and info["step_name"]) == (step and step.name)
        assert (newest and newest["run_num"]) == ((len(step.runs) or None) if step else None)

    def look_at_the_stages_of_a_cycle(self, cycle_id: int) -> None:
        stages = self.cycles[cycle_id].stages if cycle_id in self.cycles else {}
        listed = list_stages_for_cycle(cycle_id).to_dict("records")
        assert [row["id"] for row in listed] == sorted(stages, key=lambda key: stages[key].stage_num)
        assert all(get_stage_by_id(row["id"]) == row for row in listed)

    def look_at_a_cycle(self, name: str) -> None:
        cycle = next((cycle for cycle in self.cycles.values() if cycle.name == name), None)
        found = get_cycle_by_name(name)
        assert (found and found["status"]) == (cycle and cycle.status)
        stages = sorted(cycle.stages.values(), key=lambda stage: stage.stage_num) if cycle else []
        steps = [
            (stage, step) for stage in stages for step in sorted(stage.steps.values(), key=lambda step: step.step_num)
        ]
        progress = get_cycle_progress(name)
        assert [(row["stage_num"], row["step_num"]) for row in progress.to_dict("records")] == [
            (stage.stage_num, step.step_num) for stage, step in steps
        ]
        for row, (_, step) in zip(progress.to_dict("records"), steps, strict=True):
            runs = list(step.runs.values())
            assert row["last_status"] == (runs[-1].status if runs else None)
            assert pd.notna(row["last_completed"]) is any(run.status == "COMPLETED" for run in runs)
        assert len(get_step_history(name)) == sum(len(step.runs) for _, step in steps)

    def look_at_all_cycles(self) -> None:
        rows = get_cycle_status().to_dict("records")
        assert [row["id"] for row in rows] == sorted(self.cycles, reverse=True)
        for row in rows:
            cycle = self.cycles[row["id"]]
            steps = [step for stage in cycle.stages.values() for step in stage.steps.values()]
            active = [run for step in steps for run in step.runs.values() if run.status == CycleStatus.ACTIVE]
            assert (row["stages"], row["steps"], row["active_step_runs"]) == (
                len(cycle.stages),
                len(steps),
                len(active),
            )


@pytest.fixture(scope="module")
def leases_without_a_clock() -> Iterator[None]:
    """Only the model says when a worker was not heard of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heartbeat, "HEARTBEAT_SECONDS", 3600)
        for module in (lease_module, lost_runs, step_start):
            patch.setattr(module, "LEASE_SECONDS", 86_400)
        yield


TestTheRecords = pytest.mark.usefixtures("test_schema", "leases_without_a_clock")(Records.TestCase)
TestTheRecords.settings = settings(slow_machine, max_examples=40, stateful_step_count=40)


# --- names --------------------------------------------------------------------------------------------------------

LEGAL = frozenset(string.ascii_letters + string.digits + "_-.")
FULLWIDTH_Q, FULLWIDTH_1 = "\N{FULLWIDTH LATIN CAPITAL LETTER Q}", "\N{FULLWIDTH DIGIT ONE}"


def is_cycle_name(text: str) -> bool:
    return 1 <= len(text) <= 100 and set(text) <= LEGAL and ".." not in text and text != "."


def can_be_sent(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


names_of_any_kind = (
    st.text()
    | st.text(sorted(LEGAL), min_size=1, max_size=110)
    | st.text(st.sampled_from([*sorted(LEGAL), *"\n\r\t '\"\\;%$/:\x00\ud800é", FULLWIDTH_Q, FULLWIDTH_1]), max_size=12)
)

hostile = [
    '"; drop schema public cascade; --',
    "'; DROP TABLE irp_cycle; --",
    "a" * 64,
    "a" * 101,
    "",
    "pg_catalog",
    "Überschwemmung",
    "洪水",
    "NUL\x00",
    "half a pair \ud800",
    "%s",
    "%(name)s",
    "../../etc/passwd",
    "Q1\n",
    "\nQ1",
    FULLWIDTH_Q + FULLWIDTH_1,
    "Q1\u200b",
]


def with_hostile_names(test: Any) -> Any:
    for name in hostile:
        test = example(name)(test)
    return test


@pytest.mark.usefixtures("test_schema")
class TestTheNameOfACycle:
    @with_hostile_names
    @given(names_of_any_kind)
    @settings(slow_machine)
    def test_is_refused_or_kept_as_it_is(self, name: str) -> None:
        execute_command("DELETE FROM irp_cycle")
        if is_cycle_name(name):
            cycle_id = create_cycle(name)
            found = get_cycle_by_name(name)
            assert found is not None
            assert (found["id"], found["cycle_name"]) == (cycle_id, name)
        else:
            with pytest.raises(CycleError, match=re.escape(repr(name))):
                create_cycle(name)
            assert execute_scalar("SELECT count(*) FROM irp_cycle") == 0

    @with_hostile_names
    @given(names_of_any_kind)
    @settings(slow_machine)
    def test_that_nobody_has_finds_nothing(self, name: str) -> None:
        execute_command("DELETE FROM irp_cycle")
        for look in (get_cycle_by_name, get_cycle_progress, get_step_history):
            if can_be_sent(name):
                found = look(name)
                assert found is None or len(found) == 0
            else:
                with pytest.raises(DatabaseError, match="cannot be sent"):
                    look(name)

    @with_hostile_names
    @given(names_of_any_kind)
    @settings(slow_machine)
    def test_is_checked_by_the_database_as_by_the_helpers(self, name: str) -> None:
        """So that a row that came in another way can be a partition and a folder, too."""
        execute_command("DELETE FROM irp_cycle")
        try:
            with transaction():
                execute_command("INSERT INTO irp_cycle (cycle_name) VALUES (%s)", (name,))
        except DatabaseError:
            assert not is_cycle_name(name)
        else:
            assert check_cycle_name(name) == name


@pytest.mark.usefixtures("test_schema")
class TestTextThatIsKept:
    @with_hostile_names
    @given(names_of_any_kind)
    @settings(slow_machine)
    def test_comes_back_as_it_was(self, text: str) -> None:
        assume(can_be_sent(text))
        execute_command("DELETE FROM irp_cycle")
        stage_id = get_or_create_stage(create_cycle("Q1"), 1, text)
        step_id = get_or_create_step(stage_id, 1, text, text)
        run_id, _ = create_step_run(step_id, text)
        update_step_run(run_id, "FAILED", text, {text: [text]})
        info, run = get_step_info(step_id), get_last_step_run(step_id)
        assert info is not None
        assert run is not None
        assert {info["stage_name"], info["step_name"], info["notebook_path"], run["started_by"]} == {text}
        assert (run["error_message"], run["output_data"]) == (text, {text: [text]})
