"""The page of what people add: its examples are taken from it, put where it says, and run.

Risk engine, batch type and metric are distributions beside this project, which is used as it is. Step, command and OED
table are changes of a copy of it.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import psycopg2
import pytest
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT
from psycopg2.sql import SQL, Identifier

from irp_pipeline import settings
from irp_pipeline_tests.support.blocks import ROOT, read_page
from irp_pipeline_tests.support.distributions import change_files, write_distribution, write_files

PAGE = read_page(ROOT / "docs" / "extending.md")
CYCLE = "Q1-2024"
LOCATIONS = """\
PortNumber,AccNumber,LocNumber,CountryCode,Latitude,Longitude,LocPerilsCovered,LocCurrency,ConstructionCode,\
OccupancyCode,BuildingTIV,OtherTIV,ContentsTIV,BITIV
1,A1,1,GB,51.50,-0.12,WEC,GBP,5100,1050,400000,0,100000,0
1,A1,2,GB,52.48,-1.89,WEC,GBP,5100,1050,600000,0,80000,0
"""
MEAN = 2000.0
"""The annual loss in the mean: 0.2 % of the buildings."""
ANALYSIS = {"portfolio": "property", "engine": "flat_rate", "rate": "rate.txt", "years": 50, "return_periods": "5; 10",
            "perspectives": "GUL"}  # fmt: skip
SHEETS: dict[str, list[dict[str, Any]]] = {
    "Metadata": [{"setting": "currency", "value": "GBP"}],
    "Portfolios": [{"name": "property", "source": "csv", "location": "location.csv"}],
    "Analyses": [{"name": "houses", **ANALYSIS}, {"name": "shops", **ANALYSIS}],
    "Groupings": [{"name": "all", "members": "houses; shops"}],
}


@dataclass(frozen=True)
class Place:
    """A folder and a database of its own, and what is on the path.

    Attributes:
        folder: where commands run.
        environment: what they have in their environment.
    """

    folder: Path
    environment: Mapping[str, str]

    def with_path(self, *folders: Path) -> "Place":
        return replace(self, environment={**self.environment, "PYTHONPATH": os.pathsep.join(map(str, folders))})

    @property
    def cycle_folder(self) -> Path:
        return self.folder / ".irp" / "cycles" / "public" / CYCLE

    def python(self, *arguments: str, status: int | None = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert status in {None, done.returncode}, done.stdout + done.stderr
        return done

    def irp(self, *arguments: str, status: int | None = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "irp_pipeline.cli", *arguments, status=status, **variables)

    def answer(self, *arguments: str, **variables: str) -> Any:
        return json.loads(self.irp(*arguments, "--json", status=None, **variables).stdout)

    def findings(self, **variables: str) -> dict[str, tuple[str, str]]:
        """What `irp doctor` finds, by subject."""
        found = self.answer("doctor", **variables)["findings"]
        return {finding["subject"]: (finding["state"], finding["found"]) for finding in found}

    def begin_cycle(self, sheets: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self.irp("db", "init")
        self.irp("cycle", "create", CYCLE)
        self.cycle_folder.mkdir(parents=True)
        (self.cycle_folder / "location.csv").write_text(LOCATIONS)
        (self.cycle_folder / "rate.txt").write_text("0.002\n")
        self.fill(self.cycle_folder / "configuration.xlsx", sheets)

    def fill(self, workbook: Path, sheets: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Fill an empty workbook as a person would; the empty one is made once for what is on the path."""
        path = hashlib.sha256(self.environment.get("PYTHONPATH", "").encode()).hexdigest()[:8]
        empty = self.folder / f"empty_{path}.xlsx"
        if not empty.exists():
            self.irp("config", "template", str(empty))
        book = openpyxl.load_workbook(empty)
        for name, rows in sheets.items():
            sheet = book[name]
            headers = [cell.value for cell in sheet[1]]
            settings_at = {cell.value: cell.row for cell in sheet["A"]} if name == "Metadata" else {}
            for number, row in enumerate(rows, start=2):
                if name == "Metadata":
                    sheet.cell(settings_at[row["setting"]], 2, row["value"])
                    continue
                for column, value in row.items():
                    sheet.cell(number, headers.index(column) + 1, value)
        book.save(workbook)


@pytest.fixture(scope="module")
def new_place(unsynced_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Makes places."""
    server = settings.database_url()
    connection = psycopg2.connect(server.set(drivername="postgresql").render_as_string(hide_password=False))
    connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    names: list[str] = []

    def make() -> Place:
        name = f"extending_{os.getpid()}_{len(names)}"
        names.append(name)
        with connection.cursor() as cursor:
            cursor.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        url = server.set(database=name).render_as_string(hide_password=False)
        cleared = ("IRP_", "DB_SCHEMA", "DAGSTER_HOME", "PYTHONPATH")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(cleared)}
        folder = tmp_path_factory.mktemp("place")
        return Place(folder, {**kept, "IRP_DATABASE_URL": url, "IRP_HOME": str(folder / ".irp")})

    yield make
    with connection.cursor() as cursor:
        for name in names:
            for database in (name, f"{name}_dagster"):
                cursor.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(database)))
    connection.close()


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The distributions of the page, as they lie when they are installed."""
    blocks = [block for block in PAGE.blocks if not block.argument.startswith("irp_pipeline/")]
    return write_files(blocks, tmp_path_factory.mktemp("distributions"))


@pytest.fixture(scope="module")
def place(new_place: Any, distributions: list[Path]) -> Place:
    """A cycle that ran with engine and metric of the page; this project is as it is."""
    made: Place = new_place().with_path(*distributions)
    made.begin_cycle(SHEETS)
    made.irp("run", CYCLE)
    return made


@pytest.fixture(scope="module")
def found(place: Place) -> dict[str, tuple[str, str]]:
    """What `irp doctor` finds there."""
    return place.findings()


@pytest.fixture(scope="module")
def broken(place: Place, distributions: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("broken")
    torn = {
        "irp_pipeline.engines": {"torn": "irp_torn:TORN"},
        "irp_pipeline.metrics": {"TORN": "irp_torn:TORN"},
        "irp_pipeline.batch_types": {"torn": "irp_torn:TORN"},
    }
    return place.with_path(
        *distributions,
        write_distribution(folder / "torn", "irp-torn", torn, irp_torn="import no_such_module"),
        write_distribution(
            folder / "other", "irp-other-rate", {"irp_pipeline.engines": {"flat_rate": "irp_flat_rate:FLAT_RATE"}}
        ),
    )


@pytest.fixture(scope="module")
def copy(new_place: Any, distributions: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "irp_pipeline", folder / "irp_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "dagster.yaml"):
        shutil.copy(ROOT / name, folder / name)
    of_project = [block for block in PAGE.blocks if block.argument.startswith("irp_pipeline/")]
    write_files(of_project, folder)
    assert change_files(of_project, folder)
    made: Place = new_place().with_path(folder, *distributions)
    of_table = {"location": "location.csv", "claims": "claims.csv"}
    sheets = {**SHEETS, "Portfolios": [{"name": "property", "source": "csv", **of_table}]}
    made.begin_cycle(sheets)
    (made.cycle_folder / "claims.csv").write_text("PortNumber,AccNumber,AccCurrency,PolNumber\n1,A1,GBP,P1\n")
    made.irp("run", CYCLE)
    return made


def test_the_page_names_what_its_examples_touch() -> None:
    changed = {block.argument for block in PAGE.blocks if block.word == "change"}
    text = PAGE.path.read_text(encoding="utf-8")
    of_table = " ".join(re.findall(r"^\| \[(?:a step|a command|an OED table)\].*$", text, re.MULTILINE))
    for file in changed:
        folder = "its stage's module" if "/stages/" in file else file
        assert folder in of_table, f"{file} is not in the table at the top"


class TestEngine:
    def test_its_columns_are_in_the_template_with_help(self, place: Place) -> None:
        book = openpyxl.load_workbook(place.cycle_folder / "configuration.xlsx")
        headers = {cell.value: cell for cell in book["Analyses"][1]}
        assert "as a share of the insured value" in headers["rate"].comment.text
        assert "Must be filled: with flat_rate" in headers["rate"].comment.text
        assert "no; only with oasis_stochastic or oasis_platform or flat_rate" in headers["return_periods"].comment.text
        assert "Flat rate: a share" in headers["engine"].comment.text
        offered = [validation.formula1 for validation in book["Analyses"].data_validations.dataValidation]
        assert '"oasis_deterministic,oasis_stochastic,oasis_platform,flat_rate"' in offered

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"years": 0}, "(years): 0 must be between 1 and 100,000"),
            ({"rate": None}, "(rate): is empty, but flat_rate needs it"),
            ({"return_periods": "5; 100"}, "(return_periods): 100 is more than the 50 simulated years"),
            ({"rate": "location.csv"}, "(rate): the file location.csv must hold one number"),
            ({"rate": "gone.txt"}, "(rate): there is no 'gone.txt' in "),
            ({"model": "storm"}, "(model): must be empty: flat_rate does not use it, only oasis_stochastic does"),
            ({"engine": "oasis_deterministic", "loss_factor": 0.5, "return_periods": None},
             "(rate): must be empty: oasis_deterministic does not use it, only flat_rate does"),
        ],
    )  # fmt: skip
    def test_its_rules_and_checks_hold_for_the_workbook(self, place: Place, changes: Any, problem: str) -> None:
        workbook = place.cycle_folder / "wrong.xlsx"
        first, second = SHEETS["Analyses"]
        place.fill(workbook, {**SHEETS, "Analyses": [{**first, **changes}, second]})
        assert problem in place.irp("config", "check", str(workbook), status=1).stderr

    def test_they_hold_for_an_override_too(self, place: Place) -> None:
        job = str(place.answer("job", "list", CYCLE)["jobs"][0]["id"])
        override = ("job", "resubmit", job, "--reason", "a test", "--override")
        assert "must be between 1 and 100,000" in place.irp(*override, '{"years": -1}', status=1).stderr
        assert (
            "there is no parameter 'yeers'; did you mean 'years'?"
            in place.irp(*override, '{"yeers": 10}', status=1).stderr
        )

    def test_a_cycle_runs_with_it(self, place: Place) -> None:
        figures = place.answer("results", CYCLE)["figures"]
        averages = {item["analysis_name"]: item["loss"] for item in figures if item["metric"] == "AAL"}
        assert averages == pytest.approx({"houses": MEAN, "shops": MEAN, "all": 2 * MEAN})

    def test_what_it_hashes_is_in_the_request_and_makes_the_job_run_again(self, place: Place) -> None:
        rate = place.cycle_folder / "rate.txt"
        text = rate.read_text()
        for file in (place.cycle_folder / "jobs").glob("*/request.json"):
            request = json.loads(file.read_text())["request"]
            assert (request["rate"], request["rate_hash"]) == (str(rate), hashlib.sha256(text.encode()).hexdigest())
        try:
            rate.write_text("0.004\n")
            said = place.irp("explain", CYCLE, "submit_jobs").stdout
            assert "4 jobs are to be submitted again; the first is job 1: its request changed" in said
        finally:
            rate.write_text(text)

    def test_doctor_names_it_and_looks_for_what_it_needs(self, place: Place, found: dict[str, tuple[str, str]]) -> None:
        assert found["risk engine flat_rate"] == (
            "ok",
            "of irp-flat-rate: Flat rate: a share of the insured value in each simulated year.",
        )
        assert found["flat-rate-licence"] == ("note", "not installed, and only needed for analyses with flat rates")
        assert place.findings(FLAT_RATE_LICENCE="77")["flat-rate-licence"] == ("ok", "77")

    def test_analyses_of_other_engines_say_what_they_said_without_it(self, place: Place) -> None:
        script = """
from irp_pipeline.workbook import Analysis
fields = {"name": "a", "portfolio": "p", "engine": "oasis_deterministic", "perspectives": "GUL", "loss_factor": 1}
print(Analysis.model_validate(fields).model_dump_json())
"""
        there, without = place.python("-c", script), place.with_path().python("-c", script)
        assert json.loads(there.stdout) == json.loads(without.stdout)

    def test_of_a_cycle_whose_engine_is_gone_the_records_are_there_and_the_error_says_so(self, place: Place) -> None:
        gone = place.with_path()
        assert len(gone.answer("results", CYCLE)["figures"]) == len(place.answer("results", CYCLE)["figures"])
        said = gone.irp("report", CYCLE, status=1).stderr
        assert "The analysis 'houses' is for the risk engine 'flat_rate', which is not installed here" in said
        assert "Traceback" not in said

    def test_nothing_here_was_changed_for_it(self, place: Place) -> None:
        said = place.python("-c", "import irp_pipeline, irp_flat_rate; print(irp_pipeline.__file__)").stdout
        assert Path(said.strip()).parent == ROOT / "irp_pipeline"
        assert not [
            file for file in (ROOT / "irp_pipeline").rglob("*.py") if "flat_rate" in file.read_text(encoding="utf-8")
        ]


class TestBatchType:
    def test_its_batch_runs_within_the_cycle_when_the_analyses_are_complete(self, place: Place) -> None:
        first, second, *_ = place.answer("batch", "list", CYCLE)["batches"]
        assert (first["batch_type"], second["batch_type"]) == ("analysis", "sensitivity")
        assert (first["status"], second["status"]) == ("COMPLETED", "COMPLETED")
        assert second["submitted_ts"] >= first["completed_ts"]
        history = place.answer("history", CYCLE)["runs"]
        (output,) = (run["output_data"] for run in history if run["step_name"] == "Track jobs")
        assert output["sensitivity completed"] == pytest.approx({"houses_long": MEAN, "shops_long": MEAN})

    def test_a_preview_shows_its_jobs_and_what_the_engine_lacks(self, place: Place) -> None:
        preview = ("batch", "preview", CYCLE, "sensitivity")
        found = place.answer(*preview)
        assert [(job["name"], job["parameters"]["years"]) for job in found["jobs"]] == [
            ("houses_long", 500),
            ("shops_long", 500),
        ]
        assert ({job["novelty"] for job in found["jobs"]}, found["problems"]) == ({"unchanged"}, [])
        said = place.irp(*preview, status=1, FLAT_RATE_LICENCE_ENDS="2020-01-31").stdout
        assert (
            "flat_rate: the licence ended on 2020-01-31: ask for a new one (needed by 2 jobs: houses_long, shops_long)"
            in " ".join(said.split())
        )
        assert "sensitivity" in place.irp("batch", "types").stdout

    def test_its_jobs_are_made_and_run(self, place: Place, distributions: list[Path]) -> None:
        (script,) = (file for folder in distributions for file in folder.glob("run_sensitivity.py"))
        assert place.python(str(script)).stdout.split() == ["COMPLETED", "houses_long", "shops_long"]

    def test_doctor_names_it_and_looks_for_what_it_needs(self, found: dict[str, tuple[str, str]]) -> None:
        assert found["batch type sensitivity"][0] == "ok"
        assert found["irp-flat-rate"] == ("ok", "1.0")


class TestMetric:
    WANTED = 2 * 45.5 / 51 * MEAN
    """Of 50 years, the mean of the 10 worst."""

    def test_it_is_among_the_results(self, place: Place) -> None:
        figures = place.answer("results", CYCLE)["figures"]
        losses = {
            item["analysis_name"]: item["loss"]
            for item in figures
            if (item["metric"], item["return_period"]) == ("TVAR", 5)
        }
        assert losses == pytest.approx({"houses": self.WANTED, "shops": self.WANTED, "all": 2 * self.WANTED})
        assert "Tail value at risk" in place.irp("results", CYCLE).stdout

    def test_it_is_in_the_exported_files(self, place: Place) -> None:
        folder = place.cycle_folder / "results"
        for table in (pd.read_csv(folder / "results.csv"), pd.read_parquet(folder / "results.parquet")):
            found = table[(table["metric"] == "TVAR") & (table["analysis_name"] == "all")]
            assert sorted(found["return_period"]) == [5, 10]

    def test_it_is_in_the_report(self, place: Place) -> None:
        for name in ("report.html", "report.md"):
            report = (place.cycle_folder / "report" / name).read_text(encoding="utf-8")
            assert "Tail value at risk" in report
            assert f"{self.WANTED:,.0f}" in report

    def test_doctor_names_it(self, found: dict[str, tuple[str, str]]) -> None:
        assert found["metric TVAR"] == (
            "ok",
            "of irp-tail: The mean of the annual losses from a return period on.",
        )

    def test_without_it_the_figures_are_recorded_again_and_the_others_stay(
        self, place: Place, distributions: list[Path]
    ) -> None:
        without = place.with_path(*(folder for folder in distributions if folder.name != "irp-tail"))
        said = without.irp("explain", CYCLE, "group_results").stdout
        assert said.split()[0] == "run"
        assert "metrics" in said


class TestWhatCannotBeUsed:
    def test_doctor_says_so(self, broken: Place) -> None:
        found = broken.findings()
        torn = (
            "The risk engine 'torn' of the distribution irp-torn cannot be loaded: ModuleNotFoundError: No module "
            "named 'no_such_module'. Correct or uninstall that distribution"
        )
        assert found["risk engine torn"] == ("wrong", torn)
        twice = (
            "The risk engine 'flat_rate' is declared by two distributions: irp-flat-rate and irp-other-rate. "
            "Uninstall one of them"
        )
        assert found["risk engine flat_rate"] == ("wrong", twice)
        assert (found["batch type torn"][0], found["metric TORN"][0]) == ("wrong", "wrong")

    def test_so_does_the_check_of_a_workbook_that_names_it(self, broken: Place) -> None:
        said = broken.irp("config", "check", str(broken.cycle_folder / "configuration.xlsx"), status=1).stderr
        assert "is declared by two distributions: irp-flat-rate and irp-other-rate" in said

    def test_so_do_jobs_and_batches_of_it(self, broken: Place) -> None:
        script = """
from irp_pipeline.helpers.job import job_log, list_jobs
from irp_pipeline.helpers.cycle import get_active_cycle_id
from irp_pipeline.helpers.batch import create_batch
for what in (lambda: job_log(list_jobs(get_active_cycle_id())[0]["id"]), lambda: create_batch("torn", 1, 1)):
    try:
        what()
    except Exception as error:
        print(type(error).__name__, error)
"""
        first, second = broken.python("-c", script).stdout.splitlines()
        assert first.startswith("UnknownEngineError The risk engine 'flat_rate' is declared by two distributions")
        assert second.startswith("BatchError The batch type 'torn' of the distribution irp-torn cannot be loaded")

    def test_a_metric_that_cannot_be_used_is_told_when_figures_are_recorded(self, place: Place, broken: Place) -> None:
        folders = broken.environment["PYTHONPATH"].split(os.pathsep)
        torn = place.with_path(*(Path(folder) for folder in folders if not folder.endswith("other")))
        said = torn.irp("run", CYCLE, "--only", "group_results", status=1)
        assert "The metric 'TORN' of the distribution irp-torn cannot be loaded" in said.stdout + said.stderr
        averages = [item for item in torn.answer("results", CYCLE)["figures"] if item["metric"] == "AAL"]
        assert len(averages) == 3

    def test_everything_else_goes_on(self, broken: Place) -> None:
        workbook = broken.folder / "deterministic.xlsx"
        broken.fill(workbook, {**SHEETS, "Groupings": [], "Portfolios": [
            {"name": "property", "source": "csv", "location": "location.csv", "account": "account.csv"}],
            "Analyses": [{"name": "houses", "portfolio": "property", "engine": "oasis_deterministic",
                          "loss_factor": 0.5, "perspectives": "GUL"}]})  # fmt: skip
        (broken.folder / "location.csv").write_text(LOCATIONS)
        (broken.folder / "account.csv").write_text("AccNumber\n")
        assert "is valid" in broken.irp("config", "check", str(workbook)).stdout


class TestChanges:
    """Step, command and OED table: changes of a copy of this project."""

    def test_the_step_ran_and_is_shown_and_skipped_when_nothing_changed(self, copy: Place) -> None:
        steps = {step["step"]: step for step in copy.answer("explain", CYCLE)["steps"]}
        assert steps["report.count_figures"]["foresight"] == "skip"
        assert "Count figures" in copy.irp("status", CYCLE).stdout
        history = copy.answer("history", CYCLE)["runs"]
        (counted,) = (run["output_data"] for run in history if run["step_name"] == "Count figures")
        assert counted["figures"] == len(copy.answer("results", CYCLE)["figures"])

    def test_the_command_answers(self, copy: Place) -> None:
        assert copy.irp("count", CYCLE).stdout.strip() == "4 jobs"
        assert copy.answer("count", CYCLE)["jobs"] == 4
        assert "Count the jobs of a cycle" in copy.irp("--help").stdout

    def test_the_table_is_extracted_checked_and_written_for_the_jobs(self, copy: Place) -> None:
        extracted = pd.read_parquet(copy.cycle_folder / "extracts" / "property" / "claims.parquet")
        assert extracted["PolNumber"].tolist() == ["P1"]
        written = copy.cycle_folder / "portfolios" / "property" / "claims.csv"
        assert written.read_text(encoding="utf-8").splitlines()[1:] == ['"1","A1","GBP","P1"']
        book = openpyxl.load_workbook(copy.cycle_folder / "configuration.xlsx")
        assert "claims" in [cell.value for cell in book["Portfolios"][1]]
        files = [str(copy.cycle_folder / name) for name in ("location.csv", "claims.csv")]
        said = copy.irp("exposure", "check", files[0], "--claims", files[1], "--losses", "GUL")
        assert "location.csv, claims.csv: nothing was found" in said.stdout + said.stderr
