"""A cycle through Dagster, in this process: what its steps do, when they do it again, and how they fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    Config,
    DagsterInstance,
    ExecuteInProcessResult,
    JobDefinition,
    OpExecutionContext,
    RetryPolicy,
    graph,
)

from irp_pipeline import settings
from irp_pipeline.definitions import definitions
from irp_pipeline.demo import LOCATIONS_OF, write_sample
from irp_pipeline.hashes import file_sha256
from irp_pipeline.helpers.configuration import get_active_configuration
from irp_pipeline.helpers.cycle import archive_cycle, create_cycle, get_cycle_by_name, get_step_history
from irp_pipeline.helpers.database import execute_command, execute_scalar, fetch_all
from irp_pipeline.helpers.job_request import JobError, Requests
from irp_pipeline.helpers.stage import get_or_create_stage
from irp_pipeline.helpers.step import get_or_create_step, track_step
from irp_pipeline.orchestration.jobs import STAGES, selection
from irp_pipeline.orchestration.partitions import cycles
from irp_pipeline.orchestration.resources import DatabaseResource
from irp_pipeline.orchestration.tracking import CycleOfRun, StageSpec, step
from irp_pipeline.workbook import Workbook, read_workbook, write_workbook

CYCLE = "Q1-2024"
PORTFOLIO = "residential"  # one of the two in the sample
LOCATIONS = LOCATIONS_OF[PORTFOLIO]
STEPS = [
    "initialize_environment",
    "validate_configuration",
    "create_batches",
    "extract_exposure",
    "control_totals",
    "validate_exposure",
    "build_portfolios",
    "profile_exposure",
]


# --- the example of the documentation: a step is one function, and its place in a graph --------------------------


@step(stage=StageSpec(7, "Rates"), number=1, retry_policy=RetryPolicy(max_retries=3))
def fetch_rates(cycle: CycleOfRun, context: OpExecutionContext) -> dict[str, Any]:
    """Fetch the exchange rates of the cycle's day."""
    if context.retry_number < 2:
        raise ConnectionError("the exchange is closed")
    (cycle.folder / "rates.txt").write_text("GBP 1.27")
    return {"rates": 1, "fetched for": cycle.name, "source": None, "currencies": ["GBP"]}


@graph
def rates() -> None:
    """A stage of one step."""
    fetch_rates()


# --- steps of the tests -------------------------------------------------------------------------------------------


class Factor(Config):
    """The config of a step."""

    factor: float = 1.0


@step(stage=StageSpec(8, "Own"), number=1)
def scale(config: Factor) -> dict[str, float]:
    """Depend on config."""
    return {"factor": config.factor}


@step(stage=StageSpec(8, "Own"), number=2)
def break_down() -> None:
    """Have a defect."""
    raise ZeroDivisionError("no accounts to divide by")


@step(stage=StageSpec(8, "Own"), number=3)
def hand_out_secrets() -> dict[str, object]:
    """Return what has no JSON form."""
    return {"opened": object()}


@graph
def scaling() -> None:
    """One step with config."""
    scale()


@graph
def broken() -> None:
    """Two steps, the first of which fails."""
    scale(break_down())


@graph
def unspeakable() -> None:
    """One step whose output cannot be recorded."""
    hand_out_secrets()


def job_of(stage: Any) -> JobDefinition:
    job: JobDefinition = stage.to_job(partitions_def=cycles, resource_defs={"database": DatabaseResource()})
    return job


# --- running ------------------------------------------------------------------------------------------------------


def _without_engine(selected: list[str] | None) -> list[str]:
    """Leave out the stages that need a risk engine; those are the business of test_engine_stages."""
    wanted = selected or [stage.name for stage in STAGES]
    return [name for name in wanted if name not in {"submit", "monitor", "report"}]


@dataclass(frozen=True)
class Launcher:
    """Launches the cycle of the tests in their schema, as a user would."""

    instance: DagsterInstance
    schema: str

    def __call__(
        self,
        job: JobDefinition | None = None,
        *,
        cycle: str | None = CYCLE,
        ops: Mapping[str, Any] | None = None,
        from_stage: str | None = None,
        only: str | None = None,
        **database: Any,
    ) -> ExecuteInProcessResult:
        config: dict[str, Any] = {
            "resources": {"database": {"config": {"db_schema": self.schema, **database}}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        }
        return (job or definitions.get_job_def("run_cycle")).execute_in_process(
            run_config=config | ({"ops": dict(ops)} if ops else {}),
            instance=self.instance,
            tags={"dagster/partition": cycle} if cycle else {},
            op_selection=None if job else _without_engine(selection(from_stage, only)),
            raise_on_error=False,
        )


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def launch(instance: DagsterInstance, test_schema: str) -> Launcher:
    return Launcher(instance, test_schema)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder)
    return folder


@pytest.fixture
def folder(test_schema: str, sample: Path) -> Iterator[Path]:
    """The folder of an open cycle, with the sample in it."""
    settings.make_irp_home()
    create_cycle(CYCLE)
    folder = settings.cycle_dir(test_schema, CYCLE)
    shutil.copytree(sample, folder)
    yield folder
    execute_command("DELETE FROM irp_cycle")
    shutil.rmtree(folder)


def newest(cycle: str = CYCLE) -> dict[str, str]:
    """How the newest run of each step ended."""
    history = get_step_history(cycle)
    ended: dict[str, str] = {}
    for row in history.to_dict("records"):
        name = str(row["step_name"]).lower().replace(" ", "_")
        ended.setdefault(name, str(row["status"]))
    return ended


def runs_of(name: str) -> list[dict[str, Any]]:
    """The runs of a step, the oldest first."""
    return fetch_all(
        """
        SELECT r.run_num, r.status, r.error_message, r.output_data, r.started_by, r.dagster_run_id, r.work_run_num
          FROM irp_step_run r JOIN irp_step s ON s.id = r.step_id
         WHERE s.step_name = %s ORDER BY r.run_num
        """,
        (name.replace("_", " ").capitalize(),),
    )


def worked(result: ExecuteInProcessResult) -> list[str]:
    """The steps that did their work in a run: neither skipped nor failed nor never reached."""
    return [row[0] for row in _recorded(result, "COMPLETED")]


def skipped(result: ExecuteInProcessResult) -> list[str]:
    return [row[0] for row in _recorded(result, "SKIPPED")]


def _recorded(result: ExecuteInProcessResult, status: str) -> list[tuple[str]]:
    rows = fetch_all(
        """
        SELECT lower(replace(s.step_name, ' ', '_')) AS name
          FROM irp_step_run r JOIN irp_step s ON s.id = r.step_id JOIN irp_stage g ON g.id = s.stage_id
         WHERE r.dagster_run_id = %s AND r.status = %s ORDER BY g.stage_num, s.step_num
        """,
        (result.run_id, status),
    )
    return [(row["name"],) for row in rows]


def failure(result: ExecuteInProcessResult) -> tuple[str, str]:
    """The step that failed a run, and what a user reads of it in the UI."""
    assert not result.success
    events = [event for event in result.all_events if event.is_step_failure]
    assert len(events) == 1
    data = events[0].step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return events[0].node_name, data.user_failure_data.description
    assert data.error is not None
    return events[0].node_name, (data.error.cause or data.error).message


def contents_of_schema(schema: str) -> dict[str, str]:
    """Every row of every table with the transaction that wrote it, and every sequence."""
    tables = fetch_all("SELECT tablename AS name FROM pg_tables WHERE schemaname = %s ORDER BY 1", (schema,))
    found = {
        row["name"]: execute_scalar(
            f"SELECT md5(coalesce(string_agg(t.xmin::text || t::text, ';' ORDER BY t.ctid), '')) "
            f'FROM "{schema}"."{row["name"]}" t'
        )
        for row in tables
    }
    sequences = fetch_all("SELECT sequencename AS name, last_value FROM pg_sequences WHERE schemaname = %s", (schema,))
    return found | {row["name"]: str(row["last_value"]) for row in sequences}


# --- doing the work, and not doing it twice -----------------------------------------------------------------------


def test_the_first_launch_does_the_work_and_three_more_do_nothing_again(launch: Launcher, folder: Path):
    first = launch()
    assert first.success
    assert worked(first) == STEPS
    output = contents_of_folder(folder)
    for _ in range(3):
        again = launch()
        assert again.success
        assert skipped(again) == STEPS
        assert worked(again) == []
    assert contents_of_folder(folder) == output
    assert [run["work_run_num"] for run in runs_of("build_portfolios")] == [1, 1, 1, 1]
    assert execute_scalar("SELECT count(*) FROM irp_batch") == 1
    assert execute_scalar("SELECT count(*) FROM irp_configuration") == 1


def contents_of_folder(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_what_a_step_found_out_is_in_its_run_and_in_the_metadata_of_its_op(launch: Launcher, folder: Path):
    result = launch(started_by="ada")
    (run,) = runs_of("extract_exposure")
    assert run["output_data"][f"{PORTFOLIO} location records"] == LOCATIONS
    assert run["started_by"] == "ada"
    assert run["dagster_run_id"] == result.run_id
    assert metadata(result, "extract_exposure") >= {
        (f"{PORTFOLIO} location records", LOCATIONS),
        ("run", 1),
        ("skipped", False),
    }
    assert metadata(launch(), "extract_exposure") >= {
        (f"{PORTFOLIO} location records", LOCATIONS),
        ("skipped", True),
        ("work done in run", 1),
    }


def metadata(result: ExecuteInProcessResult, name: str) -> set[tuple[str, Any]]:
    (event,) = (e for e in result.all_events if e.node_handle and e.is_successful_output and e.node_name == name)
    return {(key, value.value) for key, value in event.step_output_data.metadata.items()}


def test_each_portfolio_is_left_behind_as_a_model_reads_it(launch: Launcher, folder: Path):
    launch()
    written = folder / "portfolios" / PORTFOLIO
    assert {path.name for path in written.iterdir()} == {"location.csv", "account.csv", "ri_info.csv", "ri_scope.csv"}
    assert len((written / "location.csv").read_text().splitlines()) == LOCATIONS + 1


def test_a_stage_runs_alone(launch: Launcher, folder: Path):
    for job in ("setup", "extract", "process"):
        assert launch(definitions.get_job_def(job)).success
    assert set(newest().values()) == {"COMPLETED"}
    assert skipped(launch()) == STEPS


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"from_stage": "extract"}, STEPS[3:]),
        ({"only": "control_totals"}, ["control_totals"]),
        ({"from_stage": "setup"}, STEPS),
    ],
)
def test_a_part_of_the_cycle_can_be_chosen(launch: Launcher, folder: Path, chosen: dict[str, Any], expected: list[str]):
    launch()
    again = launch(**chosen, rerun_completed=True)
    assert again.success
    assert worked(again) == expected


def test_a_rerun_does_everything_again(launch: Launcher, folder: Path):
    launch()
    assert worked(launch(rerun_completed=True)) == STEPS
    assert skipped(launch()) == STEPS


def test_a_rerun_of_an_earlier_step_that_ends_with_the_same_content_makes_no_later_step_run_again(
    launch: Launcher, folder: Path
):
    launch()
    assert worked(launch(only="extract_exposure", rerun_completed=True)) == ["extract_exposure"]
    assert skipped(launch()) == STEPS


def test_a_new_workbook_makes_the_steps_run_again_that_use_what_changed_in_it(launch: Launcher, folder: Path):
    launch()
    change_workbook(folder, lambda content: content["analyses"].pop())
    again = launch()
    assert worked(again) == ["validate_configuration", "create_batches", "validate_exposure"]
    assert skipped(launch()) == STEPS
    kept = fetch_all("SELECT status, jsonb_array_length(configuration_data->'analyses') AS analyses "
                     "FROM irp_configuration ORDER BY id")  # fmt: skip
    assert kept == [{"status": "VALID", "analyses": 3}, {"status": "ACTIVE", "analyses": 2}]
    assert runs_of("create_batches")[1]["output_data"]["analysis jobs"] == 2


def test_the_workbook_of_before_can_come_back(launch: Launcher, folder: Path, sample: Path):
    launch()
    change_workbook(folder, lambda content: content["analyses"].pop())
    launch()
    shutil.copy(sample / "configuration.xlsx", folder)
    assert worked(launch()) == ["validate_configuration", "create_batches", "validate_exposure"]
    cycle = get_cycle_by_name(CYCLE)
    assert cycle is not None
    active = get_active_configuration(cycle["id"])
    assert active is not None
    assert len(active["configuration_data"]["analyses"]) == 3


def test_a_workbook_elsewhere_can_be_named(launch: Launcher, folder: Path, tmp_path: Path):
    shutil.move(folder / "configuration.xlsx", tmp_path)
    for portfolio in LOCATIONS_OF:
        shutil.move(folder / portfolio, tmp_path)
    named = {"validate_configuration": {"config": {"workbook": str(tmp_path / "configuration.xlsx")}}}
    assert launch(ops={"setup": {"ops": named}}).success


def test_a_changed_source_file_is_extracted_again_with_all_that_follows(launch: Launcher, folder: Path):
    launch()
    change_locations(folder, lambda lines: lines[:-1])
    again = launch()
    assert skipped(again) == STEPS[:3]
    assert worked(again) == STEPS[3:]
    assert runs_of("control_totals")[1]["output_data"][f"{PORTFOLIO} locations"] == LOCATIONS - 1


def test_amounts_in_another_currency_than_the_losses_fail_the_cycle_unless_the_model_converts_them(
    launch: Launcher, folder: Path
):
    def state_losses_in_euro(content: dict[str, Any]) -> None:
        content["metadata"]["currency"] = "EUR"

    def convert(content: dict[str, Any]) -> None:
        content["analyses"] = [analysis for analysis in content["analyses"] if not analysis["loss_factor"]]
        for analysis in content["analyses"]:
            analysis["model_options"] = {"reporting_currency": "EUR", "currency_conversion_json": "rates.json"}

    change_workbook(folder, state_losses_in_euro)
    assert not launch().success
    (run,) = runs_of("validate_exposure")
    assert "is GBP, but losses are in EUR" in run["error_message"]
    change_workbook(folder, convert)
    assert launch().success


def test_the_config_of_a_step_is_part_of_what_its_result_depends_on(launch: Launcher, folder: Path):
    def with_factor(factor: float) -> ExecuteInProcessResult:
        return launch(job_of(scaling), ops={"scale": {"config": {"factor": factor}}})

    assert worked(with_factor(1.0)) == ["scale"]
    assert skipped(with_factor(1.0)) == ["scale"]
    assert worked(with_factor(2.0)) == ["scale"]


# --- failing and going on -----------------------------------------------------------------------------------------


def test_a_defect_is_recorded_as_failed_and_stops_the_run(launch: Launcher, folder: Path):
    assert failure(launch(job_of(broken))) == ("break_down", "ZeroDivisionError: no accounts to divide by\n")
    (run,) = runs_of("break_down")
    assert run["status"] == "FAILED"
    assert run["error_message"].startswith("ZeroDivisionError: no accounts to divide by")
    assert "in break_down" in run["error_message"]
    assert runs_of("scale") == []


def test_output_that_cannot_be_recorded_fails_the_step(launch: Launcher, folder: Path):
    name, message = failure(launch(job_of(unspeakable)))
    assert name == "hand_out_secrets"
    assert "cannot be recorded" in message
    assert runs_of("hand_out_secrets")[0]["status"] == "FAILED"


def test_adding_a_step_takes_a_function_and_a_graph_and_each_retry_is_a_run_of_its_own(launch: Launcher, folder: Path):
    assert launch(job_of(rates)).success
    runs = runs_of("fetch_rates")
    assert [run["status"] for run in runs] == ["FAILED", "FAILED", "COMPLETED"]
    assert "the exchange is closed" in runs[0]["error_message"]
    assert runs[2]["output_data"] == {"rates": 1, "fetched for": CYCLE, "source": None, "currencies": ["GBP"]}
    assert (folder / "rates.txt").read_text() == "GBP 1.27"
    assert skipped(launch(job_of(rates))) == ["fetch_rates"]


def test_a_mistyped_cycle_creates_archives_and_changes_nothing(launch: Launcher, folder: Path, test_schema: str):
    before = contents_of_schema(test_schema)
    name, message = failure(launch(cycle="Q1-2042"))
    assert name == "initialize_environment"
    assert "no cycle 'Q1-2042'" in message
    assert CYCLE in message  # the cycles that are open
    assert contents_of_schema(test_schema) == before
    assert not settings.cycle_dir(test_schema, "Q1-2042").exists()


def test_a_run_without_a_cycle_says_how_to_name_one(launch: Launcher, folder: Path, test_schema: str):
    before = contents_of_schema(test_schema)
    name, message = failure(launch(cycle=None))
    assert name == "initialize_environment"
    assert "dagster/partition" in message
    assert contents_of_schema(test_schema) == before


def test_an_archived_cycle_takes_no_more_work(launch: Launcher, folder: Path, test_schema: str):
    cycle = get_cycle_by_name(CYCLE)
    assert cycle is not None
    archive_cycle(cycle["id"])
    before = contents_of_schema(test_schema)
    assert failure(launch()) == (
        "initialize_environment",
        f"The cycle {CYCLE!r} in schema {test_schema!r} is archived and takes no more work. To take that back: irp cycle reopen {CYCLE}",  # noqa: E501
    )
    assert contents_of_schema(test_schema) == before


def test_an_unknown_schema_fails_the_first_step_and_is_not_made(launch: Launcher, folder: Path):
    name, message = failure(launch(db_schema="no_such_schema"))
    assert name == "initialize_environment"
    assert "no_such_schema" in message
    assert execute_scalar("SELECT count(*) FROM pg_namespace WHERE nspname = 'no_such_schema'") == 0


def test_what_cannot_be_a_schema_fails_the_first_step(launch: Launcher, folder: Path):
    name, message = failure(launch(db_schema="pg_catalog"))
    assert name == "initialize_environment"
    assert "pg_catalog" in message


def test_a_missing_workbook_is_named_and_the_cycle_goes_on_when_it_is_there(
    launch: Launcher, folder: Path, sample: Path
):
    (folder / "configuration.xlsx").unlink()
    name, message = failure(launch())
    assert name == "validate_configuration"
    assert f"There is no workbook {folder / 'configuration.xlsx'}" in message
    assert newest() == {"initialize_environment": "COMPLETED", "validate_configuration": "FAILED"}
    shutil.copy(sample / "configuration.xlsx", folder)
    assert_goes_on_from("validate_configuration", launch)


def break_the_file(folder: Path) -> None:
    (folder / "configuration.xlsx").write_text("not a workbook")


def break_a_cell(folder: Path) -> None:
    from openpyxl import load_workbook

    book = load_workbook(folder / "configuration.xlsx")
    header = [cell.value for cell in book["Portfolios"][1]]
    book["Portfolios"].cell(2, header.index("location") + 1).value = "property/nowhere.csv"
    book.save(folder / "configuration.xlsx")


def name_another_cycle(folder: Path) -> None:
    change_workbook(folder, lambda content: content["metadata"].update(cycle_name="Q4-1999"))


@pytest.mark.parametrize(
    ("break_workbook", "said"),
    [
        (break_the_file, ["configuration.xlsx"]),
        (break_a_cell, ["Portfolios", "2", "property/nowhere.csv"]),
        (name_another_cycle, ["Q4-1999", CYCLE]),
    ],
)
def test_a_broken_workbook_is_explained_and_the_cycle_goes_on_when_it_is_mended(
    launch: Launcher, folder: Path, sample: Path, break_workbook: Callable[[Path], None], said: Sequence[str]
):
    break_workbook(folder)
    name, message = failure(launch())
    assert name == "validate_configuration"
    for part in said:
        assert part in message
    assert execute_scalar("SELECT status FROM irp_configuration") == "ERROR"
    shutil.copy(sample / "configuration.xlsx", folder)
    assert_goes_on_from("validate_configuration", launch)


def test_a_broken_oed_file_is_explained_and_the_cycle_goes_on_when_it_is_mended(
    launch: Launcher, folder: Path, sample: Path
):
    def text_among_numbers(lines: list[str]) -> list[str]:
        return [*lines[:7], lines[7].replace(lines[7].split(",")[5], "north-ish", 1), *lines[8:]]

    change_locations(folder, text_among_numbers)
    name, message = failure(launch())
    assert name == "extract_exposure"
    assert "location.csv" in message
    assert "Latitude" in message
    assert "north-ish" in message
    shutil.copy(sample / PORTFOLIO / "location.csv", folder / PORTFOLIO)
    assert_goes_on_from("extract_exposure", launch)


def test_an_exposure_against_the_standard_is_explained_and_the_cycle_goes_on_when_it_is_mended(
    launch: Launcher, folder: Path, sample: Path
):
    change_locations(folder, lambda lines: [*lines[:4], lines[4].replace(",WEC,GBP,", ",WEC,XYZ,"), *lines[5:]])
    change_workbook(folder, lambda content: content["metadata"].update(strict_validation=True))
    name, message = failure(launch())
    assert name == "validate_exposure"
    assert "LocCurrency" in message
    assert "XYZ" in message
    assert "XYZ" in (folder / "extracts" / PORTFOLIO / "findings.txt").read_text()
    shutil.copy(sample / PORTFOLIO / "location.csv", folder / PORTFOLIO)
    again = launch()
    assert again.success
    assert skipped(again) == STEPS[:3]  # the mended file is another file: it is extracted again
    assert worked(again) == STEPS[3:]


def test_a_portfolio_with_errors_stops_its_own_analyses_and_not_the_others(launch: Launcher, folder: Path):
    change_locations(folder, lambda lines: [*lines[:4], lines[4].replace(",WEC,GBP,", ",WEC,XYZ,"), *lines[5:]])
    assert launch().success
    (run,) = runs_of("validate_exposure")
    assert list(run["output_data"]["refused portfolios"]) == [PORTFOLIO]
    assert not (folder / "portfolios" / PORTFOLIO / "location.csv").exists()
    other = next(name for name in LOCATIONS_OF if name != PORTFOLIO)
    assert (folder / "portfolios" / other / "location.csv").is_file()
    with pytest.raises(JobError, match="has errors"):
        request_for(PORTFOLIO)
    assert request_for(other)["exposure_hash"]


def request_for(portfolio: str) -> dict[str, Any]:
    """What an engine would be given for a job on a portfolio."""
    cycle = get_cycle_by_name(CYCLE)
    assert cycle is not None
    return Requests(cycle["id"], CYCLE, Path(), list(LOCATIONS_OF)).of({"portfolio": portfolio})


def test_control_totals_that_differ_fail_and_say_which(launch: Launcher, folder: Path):
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    launch()
    extract = folder / "extracts" / PORTFOLIO / "location.parquet"
    table = pq.read_table(extract)
    column = table.schema.get_field_index("ContentsTIV")
    pq.write_table(table.set_column(column, "ContentsTIV", pc.add(table.column(column), 1.0)).slice(1), extract)
    _, message = failure(launch(only="control_totals", rerun_completed=True))
    assert f"{extract} has" in message  # another file than the recorded one is not even compared
    execute_command(
        "UPDATE irp_artefact SET sha256 = %s, bytes = %s WHERE artefact_key = %s",
        (file_sha256(extract), extract.stat().st_size, f"extracts/{PORTFOLIO}/location.parquet"),
    )
    name, message = failure(launch(only="control_totals", rerun_completed=True))
    assert name == "control_totals"
    assert message.startswith("The extract does not agree with its source:")
    assert f"{LOCATIONS}" in message.replace(",", "")
    assert f"{LOCATIONS - 1}" in message
    assert PORTFOLIO in message
    assert "contents" in message.lower()


def test_a_step_that_is_at_work_elsewhere_is_refused_with_the_name_of_the_other(launch: Launcher, folder: Path):
    cycle = get_cycle_by_name(CYCLE)
    assert cycle is not None
    step_id = get_or_create_step(
        get_or_create_stage(cycle["id"], 1, "Setup", stage_key="setup"),
        1,
        "Initialize environment",
        step_key="setup.initialize_environment",
    )
    with track_step(step_id) as first:
        name, message = failure(launch())
        assert name == "initialize_environment"
        assert f"run {first.run_num} on host" in message
    assert launch().success


def assert_goes_on_from(name: str, launch: Launcher) -> None:
    again = launch()
    assert again.success
    assert skipped(again) == STEPS[: STEPS.index(name)]
    assert worked(again) == STEPS[STEPS.index(name) :]


def change_workbook(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "configuration.xlsx"
    content = read_workbook(path, folder, models_dir=settings.models_folder()).to_json()
    change(content)
    write_workbook(path, Workbook.model_validate(content), overwrite=True)


def change_locations(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = folder / PORTFOLIO / "location.csv"
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


# --- opening and archiving ----------------------------------------------------------------------------------------


def test_cycles_are_opened_and_archived_by_jobs(launch: Launcher, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DB_SCHEMA", launch.schema)  # the default schema, whose cycles are partitions
    opened = launch(
        definitions.get_job_def("open_cycle"), cycle=None, ops={"open_cycle": {"config": {"name": "Q2-24"}}}
    )
    assert opened.success
    assert cycle_statuses() == {CYCLE: "ARCHIVED", "Q2-24": "ACTIVE"}
    assert launch.instance.get_dynamic_partitions("cycles") == ["Q2-24"]
    archived = launch(
        definitions.get_job_def("archive_cycle"), cycle=None, ops={"archive_cycle": {"config": {"name": "Q2-24"}}}
    )
    assert archived.success
    assert cycle_statuses() == {CYCLE: "ARCHIVED", "Q2-24": "ARCHIVED"}


def test_opening_a_cycle_in_another_schema_makes_no_partition(launch: Launcher, folder: Path):
    launch(definitions.get_job_def("open_cycle"), cycle=None, ops={"open_cycle": {"config": {"name": "Q2-24"}}})
    assert cycle_statuses()["Q2-24"] == "ACTIVE"
    assert launch.instance.get_dynamic_partitions("cycles") == []


def test_a_cycle_at_work_is_not_archived_by_opening_the_next(launch: Launcher, folder: Path):
    cycle = get_cycle_by_name(CYCLE)
    assert cycle is not None
    step_id = get_or_create_step(
        get_or_create_stage(cycle["id"], 1, "Setup", stage_key="setup"),
        1,
        "Initialize environment",
        step_key="setup.initialize_environment",
    )
    with track_step(step_id):
        for job, name in (("open_cycle", "Q2-24"), ("archive_cycle", CYCLE)):
            result = launch(definitions.get_job_def(job), cycle=None, ops={job: {"config": {"name": name}}})
            assert "at work" in failure(result)[1]
    assert cycle_statuses() == {CYCLE: "ACTIVE"}


def cycle_statuses() -> dict[str, str]:
    return {row["cycle_name"]: row["status"] for row in fetch_all("SELECT cycle_name, status FROM irp_cycle")}
