"""A stand-in for an Oasis Platform: the part of its API that the engine uses, as its OpenAPI document describes it.

``python -m irp_pipeline_tests.support.platform_stand_in FOLDER`` serves on a free port of 127.0.0.1, which it prints.
It has one user, and one model, which is in ``FOLDER/model``. Its worker is real Oasis LMF, once for each portfolio and
settings. An analysis goes on by one status each time that somebody looks at it, if its work is done.

A test compares it with a real Platform's document, if there is one: ``IRP_TEST_OASIS_PLATFORM_URL``.
"""

import base64
import email.parser
import email.policy
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "analyst", "open sesame"
CLIENT, SECRET = "pipeline", "not so secret"
SUPPLIER, NAME, VERSION = "tests", "tiny-grid", "2"
FILES = ("location_file", "accounts_file", "reinsurance_info_file", "reinsurance_scope_file")
RESULT_FILES = ("input_file", "output_file", "input_generation_traceback_file", "run_traceback_file")
_OASIS_FLAGS = dict(zip(FILES, ("-x", "-y", "-i", "-s"), strict=True))
_NEXT = {
    "INPUTS_GENERATION_QUEUED": "INPUTS_GENERATION_STARTED",
    "INPUTS_GENERATION_STARTED": "READY",
    "RUN_QUEUED": "RUN_STARTED",
    "RUN_STARTED": "RUN_COMPLETED",
}
_CAN_GENERATE = {"NEW", "READY", "INPUTS_GENERATION_ERROR", "INPUTS_GENERATION_CANCELLED", "RUN_COMPLETED", "RUN_ERROR"}
_CAN_RUN = {"READY", "RUN_COMPLETED", "RUN_CANCELLED", "RUN_ERROR"}


class RefusedError(Exception):
    """A reply with another status than 200."""

    def __init__(self, status: int, content: object) -> None:
        super().__init__(status)
        self.status, self.content = status, content


class Platform:
    """What the Platform keeps."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._worker = ThreadPoolExecutor(1)
        self._work: dict[str, Future[str | None]] = {}
        self.portfolios: dict[int, dict[str, Any]] = {}
        self.analyses: dict[int, dict[str, Any]] = {}
        self.contents: dict[tuple[str, int, str], tuple[str, bytes]] = {}
        self.model_settings = json.loads(next(folder.glob("model/**/model_settings.json")).read_text())

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes, kind: str) -> object:
        """Answer a request of a user who is logged in."""
        with self._lock:
            for verb, pattern, reply in self._routes(query, body, kind):
                if verb == method and (match := re.fullmatch(pattern, path)):
                    return reply(*match.groups())
        raise RefusedError(404, {"detail": "Not found."})

    def _routes(self, query: dict[str, str], body: bytes, kind: str) -> list[tuple[str, str, Callable[..., object]]]:
        def sent() -> dict[str, Any]:
            return dict(json.loads(body or b"{}"))

        def named(objects: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
            wanted = query.get("name", "").casefold()
            return [self._shown(one) for one in objects.values() if wanted in ("", one["name"].casefold())]

        return [
            ("GET", "/server_info/", lambda: {"version": "stand-in", "config": {}, "components": {}}),
            ("GET", "/v2/models/", lambda: [_model()]),
            ("GET", "/v2/models/1/settings/", lambda: self.model_settings),
            ("GET", "/v2/models/1/versions/", _versions),
            ("GET", "/v2/portfolios/", lambda: named(self.portfolios)),
            ("POST", "/v2/portfolios/", lambda: self._new_portfolio(sent())),
            ("POST", rf"/v2/portfolios/(\d+)/({'|'.join(FILES)})/", lambda of, file: self._take(of, file, body, kind)),
            ("GET", rf"/v2/portfolios/(\d+)/({'|'.join(FILES)})/", lambda of, file: self._file("portfolio", of, file)),
            ("GET", "/v2/analyses/", lambda: named(self.analyses)),
            ("POST", "/v2/analyses/", lambda: self._new_analysis(sent())),
            ("DELETE", r"/v2/analyses/(\d+)/", lambda of: self.analyses.pop(self._found(of)["id"])),
            ("DELETE", r"/v2/portfolios/(\d+)/", lambda of: self.portfolios.pop(int(of))),
            ("POST", r"/v2/analyses/(\d+)/settings/", lambda of: self._set(of, sent())),
            ("POST", r"/v2/analyses/(\d+)/generate_inputs/", self._generate),
            ("POST", r"/v2/analyses/(\d+)/run/", self._run),
            ("POST", r"/v2/analyses/(\d+)/cancel/", self._cancel),
            (
                "GET",
                rf"/v2/analyses/(\d+)/({'|'.join(RESULT_FILES)})/",
                lambda of, file: self._file("analysis", of, file),
            ),
        ]

    def _new_portfolio(self, sent: dict[str, Any]) -> dict[str, Any]:
        new = {"id": max(self.portfolios, default=0) + 1, "name": sent["name"], **_times(), **dict.fromkeys(FILES)}
        none = dict.fromkeys(("exposure_status", "validation_status", "exposure_transform_status"), "NONE")
        new |= {"currency_conversion_json": None, "reporting_currency": "", "storage_links": "", "groups": [], **none}
        self.portfolios[new["id"]] = new
        return new

    def _take(self, of: str, file: str, body: bytes, kind: str) -> dict[str, Any]:
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
            b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body
        )
        part = next(iter(message.iter_parts()))
        name, content = str(part.get_filename()), part.get_payload(decode=True)
        assert isinstance(content, bytes)
        self.contents["portfolio", int(of), file] = (part.get_content_type(), content)
        self.portfolios[int(of)][file] = {
            "uri": "http://127.0.0.1/", "name": name, "stored": "x.csv", "converted_uri": None,
            "converted_stored": None, "conversion_state": "NONE", "conversion_log_fie": None,
        }  # fmt: skip
        return {"created": _now(), "file": "x.csv", "filename": name, "groups": [], "conversion_state": "NONE"}

    def _new_analysis(self, sent: dict[str, Any]) -> dict[str, Any]:
        if sent["portfolio"] not in self.portfolios:
            raise RefusedError(400, {"portfolio": [f'Invalid pk "{sent["portfolio"]}" - object does not exist.']})
        nothing = dict.fromkeys(
            (*RESULT_FILES, "settings_file", "settings", "lookup_errors_file", "lookup_success_file",
             "lookup_validation_file", "summary_levels_file", "run_log_file", "task_started", "task_finished",
             "run_mode", "analysis_chunks", "lookup_chunks")
        )  # fmt: skip
        new = {
            **nothing, "id": max(self.analyses, default=0) + 1, "name": sent["name"], "portfolio": sent["portfolio"],
            "model": sent["model"], "status": "NEW", "complex_model_data_files": [], "priority": 4,
            "num_events_total": 0, "num_events_complete": 0, "groups": [], "sub_task_count": 0,
            "sub_task_list": "http://127.0.0.1/", "sub_task_error_ids": [], "storage_links": "http://127.0.0.1/",
            "chunking_configuration": "http://127.0.0.1/", "status_count": dict.fromkeys(
                ("TOTAL_IN_QUEUE", "TOTAL", "PENDING", "QUEUED", "STARTED", "COMPLETED", "CANCELLED", "ERROR"), 0),
            **_times(),
        }  # fmt: skip
        self.analyses[new["id"]] = new
        return new

    def _set(self, of: str, settings: dict[str, Any]) -> dict[str, Any]:
        self._found(of)["settings_file"] = f"http://127.0.0.1/v2/analyses/{of}/settings_file/"
        self.contents["analysis", int(of), "settings_file"] = ("application/json", json.dumps(settings).encode())
        names = {"file": "x.json", "filename": "analysis_settings.json"}
        return {"created": _now(), **names, "groups": [], "conversion_state": "NONE"}

    def _generate(self, of: str) -> dict[str, Any]:
        return self._begin(self._found(of), _CAN_GENERATE, "INPUTS_GENERATION_QUEUED")

    def _run(self, of: str) -> dict[str, Any]:
        return self._begin(self._found(of), _CAN_RUN, "RUN_QUEUED")

    def _begin(self, analysis: dict[str, Any], before: set[str], status: str) -> dict[str, Any]:
        if analysis["status"] not in before:
            raise RefusedError(400, {"status": [f"Analysis status must be one of [{', '.join(sorted(before))}]"]})
        if not analysis["settings_file"] and status == "RUN_QUEUED":
            raise RefusedError(400, {"settings_file": ["Must not be null"]})
        analysis |= {"status": status, "run_mode": "V2", "task_started": _now(), "task_finished": None}
        return analysis

    def _cancel(self, of: str) -> dict[str, Any]:
        analysis = self._found(of)
        if analysis["status"] not in _NEXT:
            raise RefusedError(400, {"status": ["Analysis is not running or queued"]})
        stage = "RUN" if analysis["status"].startswith("RUN") else "INPUTS_GENERATION"
        analysis |= {"status": f"{stage}_CANCELLED", "task_finished": _now()}
        return analysis

    def _file(self, what: str, of: str, file: str) -> tuple[str, bytes]:
        if (content := self.contents.get((what, int(of), file))) is None:
            raise RefusedError(404, {"detail": "Not found."})
        return content

    def _found(self, of: str) -> dict[str, Any]:
        if int(of) not in self.analyses:
            raise RefusedError(404, {"detail": "Not found."})
        return self.analyses[int(of)]

    def _shown(self, one: dict[str, Any]) -> dict[str, Any]:
        """Return an object as it is, and let it go on if it is an analysis whose work is done."""
        shown = dict(one)
        if one.get("status") in _NEXT:
            work = self._work_of(one)
            if one["status"] == "INPUTS_GENERATION_STARTED" and work.done() and (said := work.result()) is not None:
                one |= {"status": "INPUTS_GENERATION_ERROR", "task_finished": _now()}
                self._keep(one, "input_generation_traceback_file", "text/plain", said.encode())
            elif not one["status"].endswith("STARTED") or work.done():
                one["status"] = _NEXT[one["status"]]
                if one["status"] in {"READY", "RUN_COMPLETED"}:
                    self._finish(one)
        return shown

    def _finish(self, analysis: dict[str, Any]) -> None:
        part = "input" if analysis["status"] == "READY" else "output"
        log = "input_generation_traceback_file" if part == "input" else "run_traceback_file"
        archive = self._run_folder(analysis) / f"{part}.tar.gz"
        self._keep(analysis, f"{part}_file", "application/gzip", archive.read_bytes())
        self._keep(analysis, log, "text/plain", f"RUNNING: the {part} of {analysis['name']}\n".encode())
        analysis["task_finished"] = _now()

    def _keep(self, analysis: dict[str, Any], file: str, kind: str, content: bytes) -> None:
        analysis[file] = f"http://127.0.0.1/v2/analyses/{analysis['id']}/{file}/"
        self.contents["analysis", analysis["id"], file] = (kind, content)

    def _run_folder(self, analysis: dict[str, Any]) -> Path:
        digest = hashlib.sha256(self.contents["analysis", analysis["id"], "settings_file"][1])
        for file in FILES:
            digest.update(self.contents.get(("portfolio", analysis["portfolio"], file), ("", b""))[1])
        return self._folder / digest.hexdigest()[:16]

    def _work_of(self, analysis: dict[str, Any]) -> Future[str | None]:
        folder = self._run_folder(analysis)
        if folder.name not in self._work:
            folder.mkdir()
            arguments = ["-a", str(folder / "settings.json")]
            (folder / "settings.json").write_bytes(self.contents["analysis", analysis["id"], "settings_file"][1])
            for file, flag in _OASIS_FLAGS.items():
                if content := self.contents.get(("portfolio", analysis["portfolio"], file)):
                    (folder / f"{file}.csv").write_bytes(content[1])
                    arguments += [flag, str(folder / f"{file}.csv")]
            self._work[folder.name] = self._worker.submit(_compute, self._folder, folder, arguments)
        return self._work[folder.name]


def _compute(platform: Path, folder: Path, arguments: list[str]) -> str | None:
    """Run Oasis LMF, and pack what a worker of the Platform hands over; return what it printed if it failed."""
    configuration = next(platform.glob("model/**/oasislmf.json"))
    command = [str(Path(sys.executable).with_name("oasislmf")), "model", "run", "-C", str(configuration)]
    done = subprocess.run(
        [*command, *arguments, "-r", str(folder / "run"), "-n", "1", "--resource-monitor-interval", "9999"],
        cwd=folder,
        env=os.environ
        | {
            "NUMBA_DISABLE_JIT": "1",
            "OASIS_TMPDIR": str(folder),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    if done.returncode != 0:  # a worker's log ends with the exception, which the command line does not show
        said = (done.stdout + done.stderr).split(" - ERROR - ")[-1]
        return f"{done.stdout}{done.stderr}\nTraceback (most recent call last):\n  …\noasislmf.OasisException: {said}"
    for part in ("input", "output"):
        with tarfile.open(folder / f"{part}.tar.gz", "w:gz") as tar:
            tar.add(folder / "run" / part, arcname="/" if part == "input" else part)
    shutil.rmtree(folder / "run")
    return None


def _model() -> dict[str, Any]:
    return {
        "id": 1, "supplier_id": SUPPLIER, "model_id": NAME, "version_id": VERSION, **_times(), "data_files": [],
        "resource_file": "http://127.0.0.1/", "settings": "http://127.0.0.1/", "versions": "http://127.0.0.1/",
        "scaling_configuration": "http://127.0.0.1/", "chunking_configuration": "http://127.0.0.1/",
        "run_mode": "V2", "groups": [], "storage_links": "http://127.0.0.1/", "namespace": "",
    }  # fmt: skip


def _versions() -> dict[str, str]:
    return {"ver_ktools": "1", "ver_oasislmf": "2.5", "ver_platform": "", "ver_ods": "5.0", "ver_oed": "5.0"}


def _times() -> dict[str, str]:
    return {"created": _now(), "modified": _now()}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP for the Platform."""

    platform: Platform
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and content in one packet
    tokens: set[str] = set()  # noqa: RUF012 - of the whole server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        try:
            content = self._answer(url.path, query, body)
            status = 200
        except RefusedError as error:
            status, content = error.status, error.content
        kind, sent = content if isinstance(content, tuple) else ("application/json", json.dumps(content).encode())
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - so called by http.server

    def _answer(self, path: str, query: dict[str, str], body: bytes) -> object:
        if path == "/healthcheck/":
            return {"status": "OK"}
        if path == "/access_token/":
            known = ({"username": USER, "password": PASSWORD}, {"client_id": CLIENT, "client_secret": SECRET})
            if json.loads(body) not in known:
                raise RefusedError(401, {"detail": "No active account found with the given credentials"})
            return self._token()
        if path == "/token":  # of an OpenID provider
            secret = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
            if self.headers["Authorization"] != f"Basic {secret}" or body != b"grant_type=client_credentials":
                raise RefusedError(401, {"error": "invalid_client"})
            return self._token()
        bearer = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if bearer not in self.tokens:
            raise RefusedError(401, {"detail": "Given token not valid for any token type"})
        if path == "/refresh_token/":
            return self._token()
        return self.platform.answer(self.command, path, query, body, self.headers.get("Content-Type") or "")

    def _token(self) -> dict[str, Any]:
        number = len(self.tokens)
        names = {"access_token": f"access-{number}", "refresh_token": f"refresh-{number}"}
        self.tokens.update(names.values())
        return names | {"token_type": "Bearer", "expires_in": 3600.0}

    def log_message(self, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    Handler.platform = Platform(Path(sys.argv[1]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
