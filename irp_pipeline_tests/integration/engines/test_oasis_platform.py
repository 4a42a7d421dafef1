"""The engine of an Oasis Platform: a whole analysis, crashes and faults between any two requests, and errors.

The Platform is a stand-in whose worker is real Oasis LMF. If ``IRP_TEST_OASIS_PLATFORM_URL`` is set, it is a real one:
``IRP_TEST_OASIS_PLATFORM_USER`` and ``_PASSWORD`` are for it, and ``IRP_TEST_OASIS_PLATFORM_MODEL`` is the supplier,
name and version there, separated by blanks, of the model ``grid`` of :mod:`irp_pipeline_tests.support.tiny_models`.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator

from irp_pipeline import settings
from irp_pipeline.engines import ENGINES, EngineError, JobPhase, JobState, check_result, engine
from irp_pipeline.engines.oasis_platform import connection as connections
from irp_pipeline.engines.oasis_platform.connection import Connection
from irp_pipeline.engines.oasis_platform.declaration import OASIS_PLATFORM
from irp_pipeline.engines.oasis_platform.engine import PlatformEngine, platform_version
from irp_pipeline.exposure.portfolio import folder_hash
from irp_pipeline.files import make_folder
from irp_pipeline.hashes import file_sha256
from irp_pipeline.helpers.batch import recon_batch, submit_batch, track_batch
from irp_pipeline.helpers.constants import BatchStatus
from irp_pipeline.helpers.database import transaction
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.result import finished_jobs
from irp_pipeline.losses import Figure, Segmentation
from irp_pipeline.vocabulary import Perspective
from irp_pipeline_tests.support import faulty_proxy as faults
from irp_pipeline_tests.support import platform_stand_in as stand_in
from irp_pipeline_tests.support.dying import dies
from irp_pipeline_tests.support.faulty_proxy import Fault, FaultyProxy, faulty_proxy
from irp_pipeline_tests.support.oasis_jobs import run_job
from irp_pipeline_tests.support.recording_engine import PORTFOLIO, jobs_of, make_batch, recording_engine
from irp_pipeline_tests.support.tiny_models import account, place, write_model, write_portfolio

REAL = os.environ.get("IRP_TEST_OASIS_PLATFORM_URL")
AT_WORK = {JobPhase.QUEUED, JobPhase.RUNNING}
ENDED = {JobPhase.FINISHED, JobPhase.FAILED, JobPhase.CANCELLED}
only_stand_in = pytest.mark.skipif(REAL is not None, reason="takes too long at a real Platform")


@dataclass(frozen=True)
class Server:
    """A Platform, and who may use it."""

    url: str
    user: str
    password: str
    model: tuple[str, str, str]
    portfolio: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("platform")
    # Worth something else each time, so that a real Platform does not know it yet.
    worth = 100_000 + uuid.uuid4().int % 100_000 if REAL else 123_456
    locations = [place("1", BuildingTIV=worth), place("2", Longitude=1.5), place("3", Latitude=59.0)]
    portfolio = write_portfolio(folder / "portfolio", locations, [account(LayerLimit=50_000)])
    (portfolio / "ri_info.csv").write_text(
        "ReinsNumber,ReinsLayerNumber,ReinsPeril,CededPercent,PlacedPercent,ReinsCurrency,InuringPriority,ReinsType,"
        "RiskLevel,UseReinsDates\n1,1,WTC,0.4,1,GBP,1,QS,LOC,N\n"
    )
    (portfolio / "ri_scope.csv").write_text("ReinsNumber,PortNumber,AccNumber,CededPercent\n1,1,A1,0.4\n")
    if REAL:
        user, password = (os.environ[f"IRP_TEST_OASIS_PLATFORM_{name}"] for name in ("USER", "PASSWORD"))
        supplier, name, version = os.environ["IRP_TEST_OASIS_PLATFORM_MODEL"].split()
        yield Server(REAL, user, password, (supplier, name, version), portfolio)
        return
    write_model(folder / "model", "grid")
    command = [sys.executable, "-m", stand_in.__name__, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
            names = (stand_in.SUPPLIER, stand_in.NAME, stand_in.VERSION)
            yield Server(url, stand_in.USER, stand_in.PASSWORD, names, portfolio)
        finally:
            process.terminate()


@pytest.fixture(autouse=True)
def access(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRP_OASIS_PLATFORM_URL", server.url)
    monkeypatch.setenv("IRP_OASIS_PLATFORM_USER", server.user)
    monkeypatch.setenv("IRP_OASIS_PLATFORM_PASSWORD", server.password)
    for variable in ("CLIENT_ID", "CLIENT_SECRET", "TOKEN_URL"):
        monkeypatch.delenv(f"IRP_OASIS_PLATFORM_{variable}", raising=False)
    monkeypatch.setattr(connections, "_PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    with faulty_proxy(server.url) as proxy:
        monkeypatch.setenv("IRP_OASIS_PLATFORM_URL", proxy.url)
        yield proxy


@dataclass(frozen=True)
class Job:
    """A job of a machine: the folder of its jobs, and the job's key."""

    server: Server
    jobs: Path
    key: str

    @property
    def engine(self) -> PlatformEngine:
        return PlatformEngine(self.jobs)

    @property
    def folder(self) -> Path:
        return self.jobs / self.key

    def request(self, **changes: Any) -> dict[str, Any]:
        supplier, name, version = self.server.model
        analysis = {
            "name": "wind", "engine": "oasis_platform", "portfolio": "property", "currency": "GBP", "samples": 10,
            "model_supplier": supplier, "model_name": name, "model_version": version,
            "perspectives": ["GUL", "IL", "RI"], "return_periods": [5, 10, 50], "event_losses": False,
            "period_losses": True, "segments": ["LocNumber"],
        }  # fmt: skip
        portfolio = self.server.portfolio
        return {
            "analysis": analysis | changes,
            "inputs": {
                file.name: {"key": f"portfolios/{portfolio.name}/{file.name}", "sha256": file_sha256(file)}
                for file in portfolio.glob("*.csv")
            },
            "exposure_hash": folder_hash(portfolio),
        }

    def submit(self, **changes: Any) -> "Job":
        assert self.engine.submit({self.key: self.request(**changes)}) == {}
        return self

    def state(self) -> JobState:
        return self.engine.states([self.key])[self.key]

    def until(self, there: Callable[[JobState], object]) -> JobState:
        """Track the job until it is somewhere, or has ended; seldom while Oasis LMF computes, which takes a while."""
        began = time.monotonic()
        while True:
            state = self.state()
            if there(state) or state.phase in ENDED:
                return state
            time.sleep(0.5 if REAL or time.monotonic() - began > 2 else 0.01)

    def end(self) -> JobState:
        return self.until(lambda state: False)

    def elsewhere(self, jobs: Path) -> "Job":
        """The same job on another machine."""
        return Job(self.server, jobs, self.key)

    def analyses(self) -> list[dict[str, Any]]:
        return [dict(one) for one in at_platform(self.server).analyses.search({"name": f"irp-{self.key}"}).json()]

    def portfolios(self) -> list[dict[str, Any]]:
        name = f"irp-{folder_hash(self.server.portfolio)}"
        return [dict(one) for one in at_platform(self.server).portfolios.search({"name": name}).json()]

    def forget(self) -> None:
        """Delete all of the job."""
        platform = at_platform(self.server)
        for analysis in self.analyses():
            platform.analyses.delete(analysis["id"])
        for portfolio in self.portfolios():
            platform.portfolios.delete(portfolio["id"])
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def at_platform(server: Server) -> Connection:
    login = {"auth_type": "simple", "username": server.user, "password": server.password}
    return Connection(settings.PlatformAccess(server.url, login))


@pytest.fixture
def job(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv("IRP_DATABASE_URL", settings.database_url().render_as_string(hide_password=False))
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    cycle = make_folder(tmp_path / "home" / "cycles" / "public" / "Q1")
    shutil.copytree(server.portfolio, cycle / "portfolios" / server.portfolio.name)
    return Job(server, make_folder(cycle / "jobs"), str(uuid.uuid4()))


def is_at_work(state: JobState) -> bool:
    return "worker" in (state.message or "") or "generated" in (state.message or "")


def is_computed(state: JobState) -> bool:
    return "losses are computed" in (state.message or "") or "compute its losses" in (state.message or "")


# A whole analysis


@pytest.mark.skipif(not REAL, reason="only a real Platform has its OpenAPI document")
def test_the_stand_in_speaks_as_the_platforms_document_says(server: Server, tmp_path: Path) -> None:
    """Check each kind of reply of the stand-in, and that the Platform has each of its paths."""
    session = at_platform(server).analyses.session
    document = session.get(f"{server.url}/v2/schema/", params={"format": "json"}).json()
    write_model(tmp_path / "model", "grid")
    platform = stand_in.Platform(tmp_path)
    settings = {"model_supplier_id": "tests", "model_name_id": "grid", "number_of_samples": 1, "model_settings": {}}
    for method, path, sent in (
        ("GET", "/v2/models/", None),
        ("GET", "/v2/models/{id}/settings/", None),
        ("GET", "/v2/models/{id}/versions/", None),
        ("POST", "/v2/portfolios/", {"name": "x"}),
        ("GET", "/v2/portfolios/", None),
        ("POST", "/v2/analyses/", {"name": "x", "portfolio": 1, "model": 1}),
        ("POST", "/v2/analyses/{id}/settings/", settings),
        ("POST", "/v2/analyses/{id}/generate_inputs/", {}),
        ("POST", "/v2/analyses/{id}/cancel/", {}),
        ("GET", "/v2/analyses/", None),
    ):
        operation = document["paths"][path][method.lower()]
        body = json.dumps(sent).encode()
        reply = platform.answer(method, path.replace("{id}", "1"), {}, body, "application/json")
        told = [(reply, [of["content"]["application/json"]["schema"] for of in operation["responses"].values()])]
        if sent and "requestBody" in operation:
            told.append((sent, [operation["requestBody"]["content"]["application/json"]["schema"]]))
        for content, schemas in told:
            schema = {"anyOf": schemas, "components": document["components"]}
            problems = list(Draft4Validator(nullable(schema)).iter_errors(content))
            assert problems == [], (method, path, problems[0].context)


def nullable(schema: Any) -> Any:
    """A schema whose fields may all be null: those of the Platform's replies are, whatever its document says."""
    if isinstance(schema, list):
        return [nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    nulls = {"type": "null"}
    return {
        key: {name: {"anyOf": [nulls, nullable(of)]} for name, of in value.items()}
        if key == "properties"
        else nullable(value)
        for key, value in schema.items()
    }


def test_an_analysis_has_the_figures_and_tables_of_the_engine_on_this_machine(job: Job, tmp_path: Path) -> None:
    started = job.engine
    assert started.states([job.key]) == {job.key: JobState(JobPhase.UNKNOWN)}
    job.submit()
    started.wake()
    seen: list[str | None] = []
    state = job.until(lambda state: seen.append(state.message))
    assert (state.phase, state.message) == (JobPhase.FINISHED, None)
    assert state.result is not None
    assert check_result(state.result, currency="GBP") is None
    [by_location] = map(Segmentation.from_json, state.result["segments"])
    assert [(of.values, bool(of.summaries)) for of in by_location.segments] == [
        (("1",), True),
        (("2",), True),
        (("3",), False),  # outside of the model's region
    ]
    found = [Figure.from_json(figure) for figure in state.result["figures"]]
    for perspective in Perspective:
        means = {of.segment: of.loss for of in found if (of.perspective, of.metric) == (perspective, "AAL")}
        assert means["1",] + means["2",] == pytest.approx(means[()], rel=1e-6)
    assert any("generate" in (message or "") for message in seen)
    assert any("losses" in (message or "") for message in seen)
    provenance = state.result["provenance"]
    assert provenance["model"] == " ".join(job.server.model[:2])
    assert provenance["not_checked"] == []
    assert provenance["not_modelled_totals"]["locations"] == 1
    assert {"gul_plt_sample", "il_ept", "ri_palt", "not_modelled"} <= state.result["files"].keys()
    assert "RUNNING" in job.engine.log(job.key)
    assert [file.name for file in job.folder.iterdir() if file.name == "fetched"] == []

    if not REAL:  # the stand-in's worker is the same Oasis LMF
        return
    model = write_model(tmp_path / "model", "grid")
    analysis = job.request()["analysis"] | {"engine": "oasis_stochastic"}
    local = run_job(tmp_path / "local", job.server.portfolio, analysis, model)
    assert local.error is None
    assert local.outcome["figures"] == state.result["figures"]
    assert local.provenance["occurrence_hash"] == provenance["occurrence_hash"]
    for name, file in state.result["files"].items():
        assert (job.folder / file["path"]).read_bytes() == (local.folder / local.outcome["files"][name]).read_bytes()


def test_a_second_analysis_uploads_nothing_again(job: Job, proxy: FaultyProxy) -> None:
    job.submit().until(lambda state: state.message)
    proxy.seen.clear()
    other = Job(job.server, job.jobs, str(uuid.uuid4())).submit(samples=5, perspectives=["GUL"], segments=[])
    assert other.until(lambda state: state.message).phase in AT_WORK
    assert proxy.requests("POST", "portfolios") == 0
    assert proxy.requests("POST", "analyses/$") == 1
    assert len(job.portfolios()) == 1
    for one in (job, other):
        one.engine.cancel([one.key])


# Crashes


def test_a_crash_between_any_two_requests_leaves_one_portfolio_and_one_analysis(job: Job) -> None:
    goal = is_computed
    if REAL:  # a whole analysis takes a minute there
        goal = is_at_work
    else:
        job.submit().end()  # so that the worker has computed it
    sessions = [(connections._Session, "request")]
    for point in count(1, step=2):  # before each request; after one is before the next
        job.forget()
        job.submit()
        died = dies(lambda: job.until(goal), point, sessions)
        assert goal(job.until(goal)), point
        assert [len(job.portfolios()), len(job.analyses())] == [1, 1], point
        if not died:
            break
        if REAL:
            job.engine.cancel([job.key])
    assert point > 40


@only_stand_in
def test_a_crash_while_results_are_fetched_leaves_none_or_all_of_them(job: Job) -> None:
    whole = job.submit().end().result
    assert whole is not None
    sessions = [(connections._Session, "request"), (Path, "rename")]
    for point in count(1, step=3):
        (job.folder / "result.json").unlink()
        died = dies(job.state, point, sessions)
        there = sorted(file.name for file in (job.folder / "results").glob("*.parquet"))
        assert len(there) in {0, len(list((job.folder / "results").iterdir()))}
        state = job.end()
        assert state.phase is JobPhase.FINISHED, (point, state.message)
        assert state.result is not None
        assert (state.result["files"], state.result["figures"]) == (whole["files"], whole["figures"])
        if not died:
            break
    assert point > 10


# Faults


@pytest.mark.parametrize("what", [faults.LOSE_REQUEST, faults.LOSE_REPLY, faults.TWICE, 429, 503])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/analyses/"),
        ("GET", "/models/"),
        ("POST", "/portfolios/$"),
        ("POST", "/location_file/"),
        ("POST", "/analyses/$"),
        ("POST", "/settings/"),
        ("POST", "/generate_inputs/"),
        ("POST", "/access_token/"),
    ],
)
def test_a_fault_at_a_request_leaves_one_analysis_at_work(
    job: Job, proxy: FaultyProxy, what: str | int, method: str, path: str
) -> None:
    job.forget()
    job.submit()
    proxy.faults.append(Fault(what, method, path, headers={"Retry-After": "0"}))
    state = job.until(is_at_work)
    assert state.phase in AT_WORK, state.message
    [fault] = proxy.faults
    assert fault.times == 0
    if what == faults.LOSE_REPLY and method == "POST" and "token" not in path:
        assert proxy.requests(method, path) == 1  # it was found instead
    begun = [one for one in job.analyses() if one["status"] != "NEW"]
    assert [one["id"] for one in begun] == [min(one["id"] for one in job.analyses())]
    job.engine.cancel([job.key])
    assert job.end().phase is JobPhase.CANCELLED
    job.forget()


def test_a_run_that_is_asked_for_twice_runs_once(job: Job, proxy: FaultyProxy) -> None:
    job.submit()
    proxy.faults.append(Fault(faults.LOSE_REPLY, "POST", "/run/"))
    assert job.end().phase is JobPhase.FINISHED
    assert proxy.requests("POST", "/run/") == 1


def test_files_that_are_cut_off_are_fetched_again(job: Job, proxy: FaultyProxy) -> None:
    job.submit()
    proxy.faults += [Fault(faults.CUT, "GET", "/output_file/"), Fault(faults.LOSE_REPLY, "GET", "/input_file/")]
    assert job.end().phase is JobPhase.FINISHED


def test_a_platform_that_goes_away_keeps_jobs_as_they_are_until_it_is_back(job: Job, proxy: FaultyProxy) -> None:
    job.submit()
    job.until(lambda state: state.message)
    proxy.faults.append(Fault(faults.LOSE_REQUEST, times=None))
    away = job.state()
    assert away.phase is JobPhase.RUNNING
    assert f"The Oasis Platform at {proxy.url} cannot be reached" in str(away.message)
    with pytest.raises(EngineError, match="cannot be reached for GET /"):
        job.engine.cancel([job.key])
    proxy.faults.clear()
    assert job.end().phase in {JobPhase.CANCELLED, JobPhase.FINISHED}


def test_an_expired_login_is_renewed(job: Job, proxy: FaultyProxy) -> None:
    job.submit().until(lambda state: state.message)
    proxy.faults.append(Fault(401, "GET", "/analyses/"))
    assert "401" not in str(job.state().message)
    assert proxy.requests("POST", "/refresh_token/") == 1
    job.engine.cancel([job.key])


def test_a_login_that_cannot_be_renewed_is_made_anew(job: Job, proxy: FaultyProxy) -> None:
    job.submit().until(lambda state: state.message)
    proxy.faults += [Fault(401, "GET", "/analyses/"), Fault(401, "POST", "/refresh_token/")]
    assert "has expired, and cannot be renewed" in str(job.state().message)
    assert "at the Oasis Platform: " in str(job.until(lambda state: state.message).message)
    assert proxy.requests("POST", "/access_token/") == 2
    job.engine.cancel([job.key])


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            Fault(401, times=None),
            "does not accept the credentials for GET /healthcheck/ (401: made up). Check IRP_OASIS",
        ),
        (Fault(403, path="/analyses/", times=None), "does not allow GET /v2/analyses/ (403: made up). Ask its admin"),
        (
            Fault(404, path="/healthcheck/", times=None),
            "(404: made up). It was deleted, or IRP_OASIS_PLATFORM_URL is n",
        ),
        (
            Fault(500, path="/analyses/", times=None),
            "failed at GET /v2/analyses/ (500: made up). Its server's log says",
        ),
        (Fault(429, times=None, headers={"Retry-After": "60"}), "(429: made up); it asks to wait 60 s"),
        (Fault(200, path="/analyses/", times=None), "with something else than JSON of the API"),
    ],
)
def test_an_error_says_where_what_and_what_to_do(job: Job, proxy: FaultyProxy, fault: Fault, said: str) -> None:
    job.submit()
    proxy.faults.append(fault)
    state = job.state()
    assert state.phase is JobPhase.RUNNING
    assert proxy.url in str(state.message)
    assert said in str(state.message)
    assert job.server.password not in str(state.message)


def test_what_the_user_may_not_do_fails_the_job(job: Job, proxy: FaultyProxy) -> None:
    job.submit()
    proxy.faults.append(Fault(403, "POST", "/generate_inputs/"))
    state = job.end()
    assert state.phase is JobPhase.FAILED
    assert "does not allow POST /v2/analyses/" in str(state.message)
    job.forget()


def test_wrong_credentials_are_told_without_them(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRP_OASIS_PLATFORM_PASSWORD", "not the password")
    message = str(job.submit().state().message)
    assert "does not accept the credentials for POST /access_token/ (401: No active account found" in message
    assert "not the password" not in message
    kept = "".join(file.read_text() for file in job.folder.glob("*.json"))
    assert "not the password" not in kept


@only_stand_in
@pytest.mark.parametrize("provider", ["", "/token"])
def test_a_client_logs_in_with_its_secret(
    job: Job, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    for variable in ("USER", "PASSWORD"):
        monkeypatch.delenv(f"IRP_OASIS_PLATFORM_{variable}")
    monkeypatch.setenv("IRP_OASIS_PLATFORM_CLIENT_ID", stand_in.CLIENT)
    monkeypatch.setenv("IRP_OASIS_PLATFORM_CLIENT_SECRET", stand_in.SECRET)
    monkeypatch.setenv("IRP_OASIS_PLATFORM_TOKEN_URL", provider and f"{proxy.url}{provider}")
    assert platform_version("Oasis Platform") == f"stand-in at {proxy.url}"
    assert proxy.requests("POST", provider or "/access_token/") == 1
    proxy.faults.append(Fault(401, "GET", "/analyses/"))
    assert job.state().phase is JobPhase.UNKNOWN  # the login was renewed


def test_nothing_listens_there(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRP_OASIS_PLATFORM_URL", "http://127.0.0.1:9")
    assert "cannot be reached for GET /healthcheck/: no connection is accepted there" in str(
        job.submit().state().message
    )


# What a job may be


def test_a_model_that_the_platform_does_not_have_fails_the_job(job: Job) -> None:
    state = job.submit(model_version="no such version").end()
    assert state.phase is JobPhase.FAILED
    assert "and the version 'no such version'. Its models are: " in str(state.message)
    assert " ".join(job.server.model) in str(state.message)


def test_what_oasis_lmf_says_is_the_reason_of_a_failure(job: Job) -> None:
    nowhere = write_portfolio(job.jobs.parent / "portfolios" / "nowhere", [place("1", Latitude=59.0)], [account()])
    other = Job(
        Server(job.server.url, job.server.user, job.server.password, job.server.model, nowhere), job.jobs, job.key
    )
    state = other.submit(perspectives=["GUL"]).end()
    assert state.phase is JobPhase.FAILED
    assert "No successful lookup results" in str(state.message)
    assert "Traceback" in other.engine.log(other.key) or "ERROR" in other.engine.log(other.key)
    other.forget()


def test_resubmitting_makes_another_analysis_of_the_same_portfolio(job: Job) -> None:
    job.submit().until(lambda state: state.message)
    job.engine.cancel([job.key])
    assert job.end().phase is JobPhase.CANCELLED
    again = Job(job.server, job.jobs, str(uuid.uuid4())).submit()
    again.until(lambda state: state.message)
    assert [again.analyses()[0]["portfolio"]] == [one["id"] for one in job.portfolios()]
    again.engine.cancel([again.key])


def test_a_job_that_is_cancelled_before_it_begins_never_comes_to_the_platform(job: Job) -> None:
    job.submit()
    job.engine.cancel([job.key])
    assert job.state() == JobState(JobPhase.CANCELLED, "It was cancelled before the Platform began it")
    assert job.analyses() == []


def test_submitting_asks_the_platform_nothing_and_can_be_repeated(job: Job, proxy: FaultyProxy) -> None:
    job.submit().submit()
    assert proxy.seen == []
    assert json.loads((job.folder / "platform_request.json").read_text())["request"] == job.request()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("IRP_OASIS_PLATFORM_URL", "", "is not set: set IRP_OASIS_PLATFORM_URL"),
        ("IRP_OASIS_PLATFORM_PASSWORD", "", "IRP_OASIS_PLATFORM_USER is set, but IRP_OASIS_PLATFORM_PASSWORD is not"),
        (
            "IRP_OASIS_PLATFORM_URL",
            "oasis.example.com",
            "IRP_OASIS_PLATFORM_URL is set, which is not usable: Value err",
        ),
        ("IRP_OASIS_PLATFORM_URL", "http://me:secret@there", "must not hold a password; use the variables for user"),
        (
            "IRP_OASIS_PLATFORM_TOKEN_URL",
            "http://there/token",
            "needs IRP_OASIS_PLATFORM_CLIENT_ID and IRP_OASIS_PLATF",
        ),
        ("IRP_OASIS_PLATFORM_CLIENT_SECRET", "hidden", "IRP_OASIS_PLATFORM_CLIENT_ID is not. Set both, or neither"),
    ],
)
def test_jobs_are_refused_without_an_address(
    job: Job, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    refusal = job.engine.submit({job.key: job.request()})[job.key]
    assert said in refusal
    assert "secret@" not in refusal
    assert "hidden" not in refusal


# Other machines


def test_another_machine_follows_cancels_and_takes_over(job: Job, tmp_path: Path) -> None:
    job.submit().until(is_at_work)
    there = job.elsewhere(make_folder(tmp_path / "there"))
    assert there.state().phase in AT_WORK
    while (state := there.state()).phase is not JobPhase.UNKNOWN:  # until the analysis needs somebody to take a step
        assert state.phase in AT_WORK
        time.sleep(0.5 if REAL else 0.01)
    assert there.engine.submit({there.key: job.request()}) == {}  # it has none of the files
    assert there.end().phase is JobPhase.FINISHED
    assert job.end().result == there.state().result
    assert len(job.analyses()) == 1


@only_stand_in
@pytest.mark.parametrize("attempt", range(5))
def test_two_machines_that_drive_a_job_at_once_begin_one_analysis(job: Job, tmp_path: Path, attempt: int) -> None:
    job.forget()
    cycle = tmp_path / "home" / "cycles" / "public" / "Q1-there"
    shutil.copytree(job.jobs.parent / "portfolios", cycle / "portfolios")
    there = job.elsewhere(make_folder(cycle / "jobs"))
    at_once = threading.Barrier(2)

    def drive(machine: Job) -> JobState:
        machine.submit()
        at_once.wait()
        return machine.until(is_computed)

    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(drive, (job, there)))
    assert all(map(is_computed, states)), states
    assert [one["status"] for one in job.analyses() if one["status"] != "NEW"] == [job.analyses()[0]["status"]]
    assert len(job.analyses()) == 1
    job.engine.cancel([job.key])


def test_another_machine_fetches_the_files_again(job: Job, tmp_path: Path) -> None:
    result = job.submit().end().result
    assert result is not None
    there = job.elsewhere(tmp_path / "there")
    folder = there.engine.folder(job.key)
    for file in result["files"].values():
        assert (folder / file["path"]).read_bytes() == (job.folder / file["path"]).read_bytes()


def test_a_folder_is_named_although_the_platform_is_away(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRP_OASIS_PLATFORM_URL", "http://127.0.0.1:9")
    assert job.engine.folder(job.key) == job.folder
    assert not job.folder.exists()


# In a cycle


def hand_over_and_take_back(batch_id: int) -> None:
    with transaction():
        submit_batch(batch_id)
        raise ZeroDivisionError


@pytest.mark.usefixtures("test_schema")
def test_a_batch_is_submitted_tracked_and_has_results(server: Server, job: Job, tmp_path: Path) -> None:
    home = make_folder(tmp_path / "home")
    with recording_engine(home):
        ENGINES.register(OASIS_PLATFORM)
        analysis = job.request()["analysis"]
        batch_id = make_batch([analysis, analysis | {"name": "nowhere", "model_version": "no such version"}])
        for file in server.portfolio.glob("*.csv"):
            shutil.copy(file, settings.cycle_dir(get_current_schema(), "Q1") / "portfolios" / PORTFOLIO)
        with pytest.raises(ZeroDivisionError):
            hand_over_and_take_back(batch_id)
        assert [one["status"] for one in jobs_of(batch_id)] == ["INITIATED", "INITIATED"]
        assert submit_batch(batch_id) == 2
        while not all(status.is_terminal for status in track_batch(batch_id)):
            time.sleep(0.5 if REAL else 0.01)
        computed, failed = jobs_of(batch_id)
        assert (computed["status"], failed["status"]) == ("FINISHED", "FAILED"), computed["error_message"]
        assert "has no model" in failed["error_message"]
        assert recon_batch(batch_id) is BatchStatus.FAILED
        assert server.password not in json.dumps([computed["request_data"], computed["result_data"]])
        [finished] = finished_jobs(batch_id)
        assert {figure.metric for figure in finished.figures} == {"AAL", "STD_DEV", "OEP", "AEP"}


# The rest


def test_the_engine_is_found_and_says_which_platform_it_uses(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(engine("oasis_platform", job.jobs), PlatformEngine)
    assert str(platform_version("Oasis Platform")).endswith(f" at {job.server.url}")
    monkeypatch.delenv("IRP_OASIS_PLATFORM_URL")
    assert platform_version("Oasis Platform") is None


def test_the_check_before_submission_asks_once_for_each_model(job: Job, proxy: FaultyProxy) -> None:
    engine = job.engine
    assert engine.check(job.request()) == ()
    asked = len(proxy.seen)
    assert engine.check(job.request(name="other", samples=3)) == ()
    assert len(proxy.seen) == asked
    (said,) = engine.check(job.request(model_name="Elsewhere"))
    assert "has no model with the supplier" in said
    assert "'Elsewhere'" in said
    assert len(proxy.seen) == asked + 1


def test_the_check_of_a_platform_that_does_not_answer_says_so_once(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRP_OASIS_PLATFORM_URL", "http://127.0.0.1:9/api")
    engine = job.engine
    (said,) = engine.check(job.request())
    assert "cannot be reached" in said
    assert engine.check(job.request(model_name="Elsewhere")) == (said,)
    monkeypatch.delenv("IRP_OASIS_PLATFORM_URL")
    (said,) = job.engine.check(job.request())
    assert "set IRP_OASIS_PLATFORM_URL" in said
