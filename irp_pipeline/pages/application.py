"""The application: routes, the headers of each response, and errors as pages.

It is read-only: any method other than GET and HEAD is refused. No page has scripts, so the policy allows none, nor
anything from elsewhere; only the report has its own (:data:`irp_pipeline.pages.answers._OF_REPORT`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from irp_pipeline.errors import IrpError
from irp_pipeline.pages import answers
from irp_pipeline.pages.addresses import PREFIX, Addresses
from irp_pipeline.pages.answers import PageError, answer
from irp_pipeline.pages.rendering import render
from irp_pipeline.postgres.errors import DatabaseError
from irp_pipeline.store import StoreError

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Application = Callable[[_Message, _Receive, _Send], Awaitable[None]]

_READING: Final = frozenset({"GET", "HEAD"})
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_AWAY: Final = ("08", "53", "57")
"""Classes of SQLSTATEs that pass: no connection, no resources, ended by an operator or by a time limit."""


def routes() -> list[BaseRoute]:
    """Return the routes of the pages, to be put before those of Dagster's webserver."""
    return [Route(PREFIX, _to_cycles), Mount(PREFIX, application())]


def application() -> Starlette:
    """Return the pages as an application, to be mounted at :data:`~irp_pipeline.pages.addresses.PREFIX`."""
    pages = {
        "/cycles": answers.cycles,
        "/cycles/{cycle}": answers.cycle,
        "/cycles/{cycle}/report": answers.report,
        "/cycles/{cycle}/results": answers.results,
        "/cycles/{cycle}/comparison": answers.comparison,
        "/batches/{id:int}": answers.batch,
        "/jobs/{id:int}": answers.job,
        "/jobs/{id:int}/log": answers.log,
        "/schemas": answers.schemas,
    }
    return Starlette(
        routes=[
            Route("/", _to_cycles),
            Route("/style.css", answers.stylesheet),
            *(Route(path, answer(make)) for path, make in pages.items()),
        ],
        middleware=[Middleware(_OnlyReading)],
        exception_handlers={HTTPException: _of_request, IrpError: _of_ours, Exception: _of_program},
    )


class _OnlyReading:
    """Refuses what is not GET or HEAD, and gives each response the headers that it has not."""

    def __init__(self, app: _Application) -> None:
        self._application = app

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "http" and scope["method"] not in _READING:
            refusal = _error_page(HTTPStatus.METHOD_NOT_ALLOWED, "These pages can only be read.", allow="GET, HEAD")
            await refusal(scope, receive, _with_headers(send))
        else:
            await self._application(scope, receive, _with_headers(send))


def _with_headers(send: _Send) -> _Send:
    async def with_headers(message: _Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            there = {name.lower() for name, _ in headers}
            more = [(name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in there]
            message = {**message, "headers": headers + more}
        await send(message)

    return with_headers


def _to_cycles(_: Request) -> Response:
    return RedirectResponse(Addresses().cycles())


def _of_request(_: Request, error: Exception) -> Response:
    """Answer a request that no page takes."""
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.BAD_REQUEST
    return _error_page(HTTPStatus(status), "There is no such page.")


def _of_ours(_: Request, error: Exception) -> Response:
    """Answer with an error for people: its message, without the statement that a database error carries."""
    message = str(error.args[0] if error.args else error).partition("\n")[0]
    return _error_page(HTTPStatus(_status_of(error)), message)


def _status_of(error: Exception) -> int:
    if isinstance(error, PageError):
        return error.status
    passes = isinstance(error, StoreError) or (
        isinstance(error, DatabaseError) and (error.disconnected or str(error.sqlstate).startswith(_AWAY))
    )
    return HTTPStatus.SERVICE_UNAVAILABLE if passes else HTTPStatus.INTERNAL_SERVER_ERROR


def _of_program(_: Request, __: Exception) -> Response:
    """Answer after a fault of the program; the webserver logs it."""
    return _error_page(HTTPStatus.INTERNAL_SERVER_ERROR, "The page has a fault: the output of the UI says which.")


def _error_page(status: HTTPStatus, message: str, **headers: str) -> HTMLResponse:
    content = render("error", at=Addresses(), schema=None, status=status.value, title=status.phrase, message=message)
    more = {"retry-after": "10"} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    return HTMLResponse(content, status.value, headers={**_HEADERS, **headers, **more})
