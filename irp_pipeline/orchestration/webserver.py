"""Dagster's webserver behind a door that only lets in its own pages and the programs of its user.

Dagster's webserver answers to any Host name, takes mutations by GET and in the body of a form, and does not check the
Origin: any page that is open in the user's browser could use it to launch runs. The door is in front of the
application, for HTTP and websockets:

===================================  =========================  ====================================================
request                              answer                     against
===================================  =========================  ====================================================
under a Host name of somebody else   421                        a name that is made to point here (DNS rebinding)
that changes something, by GET       405                        an image or a link of another page
that changes something, not in JSON  415                        a form of another page
that changes something, or reads     403                        a script, a link or a frame of another page
data, from another page's Origin
websocket of another page            refused at the handshake   a script of another page
===================================  =========================  ====================================================

A request without Origin comes from a program, and is let in: a browser always sends one with a request for a change.

Behind the same door, under ``/irp``, are the pages of :mod:`irp_pipeline.pages`, which only read. Links to them may be
on pages of others, such as mails.

``irp ui`` starts it. By itself, where daemon and code server are services of their own:
``python -m irp_pipeline.orchestration.webserver --port 3000 --workspace workspace.yaml``.

https://fetch.spec.whatwg.org/#origin-header, https://w3c.github.io/webappsec-fetch-metadata/
"""

import argparse
from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from socket import create_server, socket
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_JSON: Final = frozenset({"application/json", "application/graphql"})
_OF_OTHER_PAGES: Final = frozenset({"cross-site", "same-site"})
"""``Sec-Fetch-Site`` of requests from another origin; another port of this machine is the same site."""
_DATA: Final = ("/graphql", "/notebook", "/dagit", "/download_debug", "/logs", "/report_")
"""Prefixes of paths that return data, or run the content of a file: other pages have no reason to request them."""
_PORT_OF_SCHEME: Final = {"http": 80, "https": 443}


def own_hosts(port: int, more: Collection[str] = ()) -> frozenset[str]:
    """Return the values of the header Host to which the webserver answers.

    Args:
        port: where it listens on this machine.
        more: names of a proxy in front of it, with a port unless it is 80 or 443.
    """
    hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
    if port in _PORT_OF_SCHEME.values():
        hosts |= {"127.0.0.1", "localhost", "[::1]"}
    for host in more:
        hosts.add(host.lower())
        if urlsplit(f"//{host}").port is None:
            hosts |= {f"{host.lower()}:{default}" for default in _PORT_OF_SCHEME.values()}
    return frozenset(hosts)


class Door:
    """An ASGI application that passes requests of its own pages, and of programs, to another application.

    Args:
        application: the application behind the door.
        hosts: the accepted values of the header Host, in lower case.
    """

    def __init__(self, application: Application, hosts: Collection[str]) -> None:
        self._application = application
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] not in {"http", "websocket"}:
            await self._application(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._application(scope, receive, _unframed(send))
        elif scope["type"] == "http":
            await _answer(send, "http.response", *refusal)
        elif "websocket.http.response" in scope.get("extensions", {}):
            await _answer(send, "websocket.http.response", *refusal)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1][:100]})

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return status and reason, or None."""
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return 421, (
                f"This is the UI of {' and '.join(sorted(self._hosts))}, and not of {', '.join(hosts)[:100]!r}. "
                "Names of a proxy in front of it belong into IRP_UI_HOSTS."
            )
        is_foreign = not all(self._is_own(origin) for origin in origins) or bool(
            _OF_OTHER_PAGES & set(_values(scope, b"sec-fetch-site"))
        )
        changes = scope["type"] == "websocket" or scope["method"] not in _READING
        if is_foreign and (changes or scope["path"].startswith(_DATA)):
            return 403, "The pages of another site may not ask for this."
        if scope["type"] == "websocket":
            return None
        if changes and not _is_json(_values(scope, b"content-type")):
            return 415, "What changes something is asked for with the content type application/json."
        if not changes and _asks_for_change(scope):
            return 405, "What changes something is asked for by POST."
        return None

    def _is_own(self, origin: str) -> bool:
        scheme, _, host = origin.lower().partition("://")
        return scheme in _PORT_OF_SCHEME and host in self._hosts


def serve(listening: socket, workspace: Path, hosts: Collection[str]) -> None:
    """Serve the UI of the Dagster instance until a signal ends it.

    Args:
        listening: the socket that browsers connect to.
        workspace: a ``workspace.yaml``: where the definitions are.
        hosts: as for :class:`Door`.
    """
    import uvicorn
    from dagster import DagsterInstance
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.cli import (
        DEFAULT_DB_STATEMENT_TIMEOUT,
        DEFAULT_POOL_MAX_OVERFLOW,
        DEFAULT_POOL_RECYCLE,
    )
    from dagster_webserver.version import __version__

    from irp_pipeline.orchestration import internals, notebook_page
    from irp_pipeline.pages.application import routes

    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_RECYCLE, DEFAULT_POOL_MAX_OVERFLOW)
        with internals.workspace(instance, workspace, __version__) as context:
            application = create_app_from_workspace_process_context(context, live_data_poll_rate=2000)
            of_dagster = application.router.routes  # the last one takes any path
            of_dagster[:0] = [*routes(), *notebook_page.routes(of_dagster)]
            config = uvicorn.Config(Door(application, hosts), log_level="warning", timeout_graceful_shutdown=3)
            with suppress(KeyboardInterrupt):  # uvicorn has shut down properly, and raises to report the signal
                uvicorn.Server(config).run(sockets=[listening])


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the UI at an address, under the names of this machine and those in ``IRP_UI_HOSTS``."""
    from irp_pipeline import settings

    given = parser().parse_args(arguments)
    with create_server((given.host, given.port)) as listening:
        serve(listening, given.workspace, own_hosts(given.port, settings.ui_hosts()))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments of :func:`main`."""
    found = argparse.ArgumentParser()
    found.add_argument("--host", default="127.0.0.1", help="the address where it listens")
    found.add_argument("--port", type=int, default=3000, help="the port where it listens")
    found.add_argument("--workspace", type=Path, required=True, help="a workspace.yaml: where the definitions are")
    return found


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for header, value in scope["headers"] if header.lower() == name]


def _is_json(content_types: list[str]) -> bool:
    return len(content_types) == 1 and content_types[0].partition(";")[0].strip().lower() in _JSON


def _asks_for_change(scope: Scope) -> bool:
    """Tell whether the URL contains a GraphQL document with anything but queries, whatever its path."""
    from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse

    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if name == "query":
            try:
                document = parse(value, no_location=True)
            except GraphQLError:
                continue  # it is not GraphQL
            except RecursionError:
                return True
            operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
            if any(operation.operation is not OperationType.QUERY for operation in operations):
                return True
    return False


def _unframed(send: Send) -> Send:
    """Forbid other pages to show an answer in a frame, where users might click on it without knowing."""

    async def with_header(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"x-frame-options", b"SAMEORIGIN")]}
        await send(message)

    return with_header


async def _answer(send: Send, kind: str, status: int, text: str) -> None:
    content = f"{text}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(content)).encode())]
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": content})


if __name__ == "__main__":
    main()
