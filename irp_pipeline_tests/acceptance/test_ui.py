"""``irp ui`` as people start it: its door against the pages of others, and its processes when they die or are ended."""

import base64
import json
import os
import shutil
import signal
import socket
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from irp_pipeline import embedded
from irp_pipeline.helpers.cycle import create_cycle, get_cycle_by_name
from irp_pipeline.helpers.database import dispose_engine, init_database
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline_tests.support.processes import REPOSITORY, Process, children_of, is_alive, started
from irp_pipeline_tests.support.waiting import wait_until

SCHEMA = "behind_the_door"
CONFIG = json.dumps(
    {
        "ops": {"archive_cycle": {"config": {"name": "CYCLE"}}},
        "resources": {"database": {"config": {"db_schema": SCHEMA}}},
    }
)
ARCHIVE = f"""
mutation {{launchRun(executionParams: {{mode: "default", runConfigData: {json.dumps(CONFIG)},
  executionMetadata: {{tags: []}},
  selector: {{repositoryLocationName: "irp_pipeline.definitions", repositoryName: "__repository__",
  jobName: "archive_cycle"}}}}) {{__typename ... on PythonError {{message}}}}}}
"""
# What is executed leaves a trace beside itself; what is read names a folder of definitions that are not ours.
EXECUTED = "import pathlib; pathlib.Path(__file__).with_suffix('.executed').touch()\n"


@pytest.fixture(scope="module", autouse=True)
def home() -> Iterator[Path]:
    """An ``IRP_HOME`` with a server of its own, open to others as an older version may have left it."""
    folder = Path(tempfile.mkdtemp(prefix="irp-door-"))
    with pytest.MonkeyPatch.context() as environment:
        for name in ("DAGSTER_HOME", "IRP_EXECUTOR", "DB_SERVER", "IRP_DATABASE_URL", "IRP_DAGSTER_DATABASE_URL"):
            environment.delenv(name, raising=False)
        environment.setenv("IRP_HOME", str(folder))
        dispose_engine()
        init_database(SCHEMA)
        yield folder
        dispose_engine()
    embedded.stop(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the UI is started in, full of files that are not for it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in ("gql", "dagster", "yaml", "sitecustomize", "usercustomize", "irp_pipeline"):
        (folder / f"{name}.py").write_text(EXECUTED)
    (folder / ".env").write_text("DB_SCHEMA=of_the_env_file\n")
    (folder / "workspace.yaml").write_text("load_from: [{python_file: gql.py}]\n")
    (folder / "dagster.yaml").write_text("no: instance\n")
    (folder / "pyproject.toml").write_text('[tool.dagster]\nmodule_name = "gql"\n')
    return folder


class Ui:
    """A running UI."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, address: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """Return the status and the text that a request is answered with."""
        request = urllib.request.Request(  # noqa: S310 - our own server
            self.address + address,
            None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode(),
            {name.replace("_", "-"): value for name, value in headers.items()},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def ask(self, query: str) -> Any:
        status, text = self.answer("/graphql", {"query": query}, Content_Type="application/json")
        assert status == 200, text
        return json.loads(text)["data"]

    def handshake(self, **headers: str) -> str:
        """Return the first line that a websocket is answered with."""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            "GET /graphql HTTP/1.1", f"Host: {headers.pop('Host', self.address.removeprefix('http://'))}",
            "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: graphql-ws", *(f"{name}: {value}" for name, value in headers.items()), "", "",
        ]  # fmt: skip
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall("\r\n".join(lines).encode())
            return connection.makefile("rb").readline().decode().strip()

    def is_ready(self) -> bool:
        return "The UI is ready" in self.process.output

    def services(self) -> dict[str, psutil.Process]:
        """Return the processes by their role."""
        found = {}
        for process in psutil.Process(self.process.pid).children():
            try:
                command = process.cmdline()
            except psutil.Error:  # it has just ended
                continue
            if "irp_pipeline.orchestration.services" in command:
                found[command[command.index("irp_pipeline.orchestration.services") + 1]] = process
        return found

    def is_loaded(self) -> bool:
        query = "{workspaceOrError {... on Workspace {locationEntries {locationOrLoadError {__typename}}}}}"
        try:
            entries = self.ask(query)["workspaceOrError"]["locationEntries"]
        except (OSError, AssertionError):
            return False
        return [entry["locationOrLoadError"]["__typename"] for entry in entries] == ["RepositoryLocation"]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def ui(home: Path, elsewhere: Path) -> Iterator[Ui]:
    home.chmod(0o755)
    (home / "old").mkdir(mode=0o755)
    (home / "old" / "report.html").touch(mode=0o644)
    port = free_port()
    # -P keeps the folder from the path of this one process, as the program "irp" does; its children do not inherit it.
    command = ("irp_pipeline.cli", "ui", "--port", str(port), "--db-schema", SCHEMA)
    with started(*command, folder=elsewhere, options=["-P"], PYTHONPATH="") as process:
        page = Ui(process, port)
        wait_until(page.is_ready, "the UI says that it is ready", process)
        assert page.is_loaded()  # at once
        yield page
        process.send(signal.SIGTERM)
        assert process.end() == 0, process.output


def status_of(cycle: str) -> str:
    with schema_context(SCHEMA):
        found = get_cycle_by_name(cycle)
    assert found is not None
    return str(found["status"])


def connections_of(process: psutil.Process) -> list[Any]:
    try:
        return process.net_connections(kind="inet")
    except psutil.NoSuchProcess:  # a run that has just ended
        return []


class TestTheDoor:
    def test_keeps_a_foreign_page_from_archiving_a_cycle(self, ui: Ui):
        cycle = "Q1-attacked"
        with schema_context(SCHEMA):
            create_cycle(cycle)
        document = ARCHIVE.replace("CYCLE", cycle)
        by_address = f"/graphql?query={urllib.parse.quote(document)}"
        foreign = {"Host": "evil.example", "Origin": "http://evil.example"}
        json_type = {"Content_Type": "application/json"}
        assert ui.answer(by_address, **foreign)[0] == 421
        assert ui.answer(by_address, Origin="http://evil.example")[0] == 403
        assert ui.answer(by_address)[0] == 405
        assert ui.answer(by_address.replace("?", "%0A?"))[0] == 405
        assert ui.answer("/graphql", {"query": document}, Origin="http://evil.example", **json_type)[0] == 403
        assert ui.answer("/graphql", {"query": document}, Sec_Fetch_Site="same-site", **json_type)[0] == 403
        assert ui.answer(by_address, b"", Content_Type="text/plain")[0] == 415
        assert ui.answer("/graphql", {"query": document}, Content_Type="text/plain; application/json")[0] == 415
        assert ui.ask("{runsOrError {... on Runs {count}}}") == {"runsOrError": {"count": 0}}
        assert status_of(cycle) == "ACTIVE"
        # The request itself is right: the own page archives the cycle with it.
        answer = ui.answer("/graphql", {"query": document}, Origin=ui.address, **json_type)
        assert "LaunchRunSuccess" in answer[1], answer
        wait_until(lambda: status_of(cycle) == "ARCHIVED", "the own page has archived the cycle", ui.process)

    def test_has_the_pages_of_cycles_behind_it_which_only_read(self, ui: Ui):
        with schema_context(SCHEMA):
            create_cycle("Q2-shown")
        status, text = ui.answer("/irp/cycles")
        assert (status, "Q2-shown" in text) == (200, True)
        assert ui.answer("/irp")[0] == 200
        assert "irp run Q2-shown" in ui.answer("/irp/cycles/Q2-shown", Sec_Fetch_Site="cross-site")[1]  # from a mail
        assert ui.answer("/irp/cycles/none")[0] == 404
        assert ui.answer("/irp/cycles", Host="evil.example")[0] == 421
        assert ui.answer("/irp/cycles", {}, Content_Type="application/json")[0] == 405
        assert ui.answer("/irp/cycles", {}, Content_Type="application/json", Origin="http://evil.example")[0] == 403
        assert "__typename" in ui.ask("{__typename}")  # Dagster's own pages are where they were

    def test_says_in_one_line_why_it_is_closed(self, ui: Ui):
        status, text = ui.answer("/", Host="evil.example")
        assert (status, text.count("\n")) == (421, 1)
        assert "IRP_UI_HOSTS" in text

    def test_lets_websockets_of_the_own_page_in_and_no_others(self, ui: Ui):
        assert "101" in ui.handshake()
        assert "101" in ui.handshake(Origin=ui.address)
        assert "403" in ui.handshake(Origin="http://evil.example")
        assert "421" in ui.handshake(Host="evil.example", Origin="http://evil.example")

    def test_shows_the_page_under_each_of_its_names(self, ui: Ui):
        for host in (f"127.0.0.1:{ui.port}", f"localhost:{ui.port}", f"[::1]:{ui.port}"):
            status, page = ui.answer("/runs", Host=host)
            assert status == 200
            assert page.startswith("<!DOCTYPE html>")

    def test_is_on_this_machine_only(self, ui: Ui):
        listening = [
            connection.laddr.ip
            for process in (psutil.Process(ui.process.pid), *children_of(ui.process))
            for connection in connections_of(process)
            if connection.status == psutil.CONN_LISTEN
        ]
        assert set(listening) == {"127.0.0.1"}


def test_nothing_in_the_folder_it_is_started_in_is_executed_or_read(ui: Ui, elsewhere: Path):
    assert list(elsewhere.glob("*.executed")) == []
    assert {process.cwd() for process in ui.services().values()}.isdisjoint({str(elsewhere)})
    for process in ui.services().values():
        assert process.environ()["PYTHONSAFEPATH"] == "1"
        assert process.environ()["DB_SCHEMA"] == SCHEMA


def test_all_in_its_home_is_the_owners_alone_whatever_existed_before(ui: Ui, home: Path):
    data = home / "postgres" / "data"
    places = [home, *(path for path in home.rglob("*") if data not in path.parents)]
    assert home / "old" / "report.html" in places
    assert [path for path in places if not path.is_symlink() and path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("role", ["daemon", "webserver", "code-server"])
def test_what_is_killed_is_started_again(ui: Ui, role: str):
    before = ui.services()[role]
    before.kill()
    wait_until(lambda: ui.services().get(role, before).pid != before.pid, f"there is a new {role}", ui.process)
    wait_until(ui.is_loaded, "the UI answers", ui.process)
    assert f"The {role.replace('-', ' ')} ended by SIGKILL; it is started again in " in ui.process.output


def test_a_second_one_is_refused_and_says_how_to_end_the_first(ui: Ui):
    with started("irp_pipeline.cli", "ui", "--port", str(free_port())) as second:
        assert second.end() == 1
        assert "A UI of this Dagster instance is running already" in second.output
        assert f"kill {ui.process.pid}" in second.output
        assert len(second.output.splitlines()) == 1


@pytest.fixture
def other_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of a test's own, on the server of the others."""
    folder = Path(tempfile.mkdtemp(prefix="irp-door-"))
    url = embedded.ensure_running(home).render_as_string(hide_password=False)
    monkeypatch.setenv("IRP_DATABASE_URL", url)
    monkeypatch.setenv("IRP_HOME", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_the_webserver_by_itself_has_the_door_too(tmp_path: Path):
    port = free_port()
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text("load_from: []\n")
    command = ("irp_pipeline.orchestration.webserver", "--port", str(port), "--workspace", str(workspace))
    with started(*command, DAGSTER_HOME=str(REPOSITORY), IRP_UI_HOSTS="irp.example.com") as process:
        page = Ui(process, port)

        def status(**headers: str) -> int:
            try:
                return page.answer("/server_info", **headers)[0]
            except OSError:
                return 0  # it does not listen yet

        wait_until(status, "the webserver answers", process)
        assert status() == 200
        assert status(Host="irp.example.com") == 200
        assert status(Host="evil.example.com") == 421
        assert page.answer("/irp/style.css")[0] == 200
        process.send(signal.SIGINT)
        assert process.end() == 0, process.output


def test_a_port_that_is_taken_is_told_in_one_line(other_home: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with started("irp_pipeline.cli", "ui", "--port", str(port)) as process:
            assert process.end() == 1
            assert process.output == (
                f"Error: The UI cannot listen on port {port} of 127.0.0.1: another program listens there. Choose "
                "another one with --port\n"
            )


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_when_it_is_ended(other_home: Path, number: signal.Signals):
    port = free_port()
    with started("irp_pipeline.cli", "ui", "--port", str(port)) as process:
        page = Ui(process, port)
        wait_until(page.is_ready, "the UI is ready", process)
        left = children_of(process)
        place = next(word for word in page.services()["daemon"].cmdline() if "irp-ui-" in word)
        assert len(left) >= 3
        process.send(number)
        assert process.end() == (-number if number is signal.SIGKILL else 0), process.output
        wait_until(lambda: not any(is_alive(one) for one in left), "all of its processes are gone")
        wait_until(lambda: not Path(place).exists(), "its folder is gone")
        # After a kill the daemon may complain that the code server is gone before it ends itself.
        assert number is signal.SIGKILL or "Traceback" not in process.output
