"""The pages on a real HTTP server of their own, without Dagster's webserver and its door."""

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import uvicorn
from starlette.applications import Starlette

from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.pages.application import routes
from irp_pipeline_tests.support.waiting import wait_until


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: the status.
        headers: the headers, their names in lower case.
        text: the body.
    """

    status: int
    headers: dict[str, str]
    text: str


@dataclass(frozen=True)
class PageServer:
    """The pages at a port of this machine."""

    port: int

    def address(self, page: str) -> str:
        """Return the whole address of a page."""
        return f"http://127.0.0.1:{self.port}{page}"

    def get(self, page: str) -> Answer:
        """Ask for a page."""
        return self.ask("GET", page)

    def ask(self, method: str, page: str) -> Answer:
        """Make a request; a redirection is not followed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, page)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read().decode())
        finally:
            connection.close()


@contextmanager
def page_server() -> Iterator[PageServer]:
    """Serve the pages; their own schema is that of the caller."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(Starlette(routes=routes()), log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        with mock.patch.dict(os.environ, {"DB_SCHEMA": get_current_schema()}):
            thread.start()
            try:
                wait_until(lambda: server.started, "the pages are served")
                yield PageServer(listening.getsockname()[1])
            finally:
                server.should_exit = True
                thread.join()
