"""The page of an executed notebook: which files it shows, and that it runs nothing in the browser."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import nbconvert
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from irp_pipeline.orchestration import notebook_page
from irp_pipeline_tests.support.notebooks import write_notebook

OF_CYCLE = "cycles/public/Q1-2024/executed_notebooks/report"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IRP_HOME", str(tmp_path))
    # Where the templates of nbconvert are, if it is installed in another environment than this Python.
    monkeypatch.setenv("JUPYTER_PATH", str(Path(nbconvert.__file__).parents[4] / "share" / "jupyter"))
    write_notebook(tmp_path / OF_CYCLE / "capital.ipynb", "print('of the cycle')")
    write_notebook(tmp_path / "notebooks" / "capital.ipynb", "print('a source')")
    return tmp_path


def get(path: str) -> tuple[int, str, dict[str, str]]:
    """Ask for the notebook of a path; what is not for the page says so."""

    async def of_dagster(_: Any) -> PlainTextResponse:
        return PlainTextResponse("Dagster was asked", 418)

    application = Starlette(routes=notebook_page.routes([Route("/notebook", of_dagster)]))
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    query = urlencode({"path": path}).encode()
    about = {"method": "GET", "path": "/notebook", "query_string": query, "headers": []}
    asyncio.run(application({"type": "http", **about}, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode(), headers


def test_a_notebook_of_a_cycle_is_shown_without_scripts(home):
    status, body, headers = get(str(home / OF_CYCLE / "capital.ipynb"))
    assert status == 200
    assert "of the cycle" in body
    assert headers["content-security-policy"].startswith("sandbox; default-src 'none'")


@pytest.mark.parametrize(
    "path",
    [
        "notebooks/capital.ipynb",
        f"{OF_CYCLE}/../../../../../notebooks/capital.ipynb",
        f"{OF_CYCLE}/../../configuration.xlsx",
        f"{OF_CYCLE}/link.ipynb",
        "cycles/public/executed_notebooks/capital.ipynb",
        "\0",
    ],
)
def test_any_other_file_is_left_to_dagster(home, path):
    (home / OF_CYCLE / "link.ipynb").symlink_to(home / "notebooks" / "capital.ipynb")
    assert get(str(home / path))[:2] == (418, "Dagster was asked")


def test_a_notebook_that_is_gone_is_told(home):
    assert get(str(home / OF_CYCLE / "gone.ipynb"))[:2] == (404, "There is no such notebook on this machine.")
