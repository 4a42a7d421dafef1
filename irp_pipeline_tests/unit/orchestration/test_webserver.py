"""The door in front of Dagster's webserver: which requests reach what is behind it."""

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from irp_pipeline.orchestration.webserver import Door, own_hosts

HOSTS = own_hosts(3000, ["irp.example.com", "proxy:8443"])
OWN = {"host": "127.0.0.1:3000"}
JSON = {"content-type": "application/json"}
MUTATION = "mutation { launchRun { __typename } }"


class Behind:
    """The application behind the door, which remembers what reached it."""

    def __init__(self) -> None:
        self.reached = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached += 1
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"behind the door"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.accept"})


def ask(
    method: str, address: str = "/graphql", *, kind: str = "http", raw: list[tuple[str, str]] | None = None, **more: Any
) -> list[dict[str, Any]]:
    """Return what is sent for a request; its headers are those of ``headers``, or ``raw`` if they repeat."""
    path, _, query = address.partition("?")
    headers = raw if raw is not None else list({**OWN, **more.get("headers", {})}.items())
    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "extensions": more.get("extensions", {}),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    behind = Behind()
    asyncio.run(Door(behind, HOSTS)(scope, receive, send))
    assert bool(behind.reached) == (sent[0].get("status") == 200 or sent[0]["type"] == "websocket.accept")
    return sent


def status(*request: Any, **more: Any) -> int:
    sent = ask(*request, **more)
    assert sent[1]["body"].count(b"\n") <= 1  # one line
    return int(sent[0]["status"])


class TestHosts:
    @pytest.mark.parametrize(
        "host",
        ["127.0.0.1:3000", "localhost:3000", "LocalHost:3000", "[::1]:3000", "irp.example.com", "irp.example.com:443",
         "IRP.example.com:80", "proxy:8443"],
    )  # fmt: skip
    def test_of_its_own_are_answered(self, host):
        assert status("GET", "/", headers={"host": host}) == 200

    @pytest.mark.parametrize(
        "host",
        ["evil.example", "evil.example:3000", "127.0.0.1", "127.0.0.1:3001", "localhost.:3000", "proxy", "0.0.0.0:3000",
         "127.0.0.1:3000.evil.example", "127.0.0.1:3000@evil.example", "127.0.0.1:3000,evil.example", "",
         "irp.example.com:3000", "sub.irp.example.com"],
    )  # fmt: skip
    def test_of_others_are_not(self, host):
        for method, address in (("GET", "/"), ("GET", "/graphql?query={version}"), ("POST", "/graphql")):
            assert status(method, address, headers={"host": host} | JSON) == 421

    def test_that_are_missing_or_repeated_are_not(self):
        assert status("GET", "/", raw=[]) == 421
        assert status("GET", "/", raw=[("host", "127.0.0.1:3000"), ("host", "evil.example")]) == 421

    def test_are_checked_for_websockets(self):
        sent = ask("", kind="websocket", headers={"host": "evil.example"})
        assert [message["type"] for message in sent] == ["websocket.close"]

    def test_on_the_usual_port_need_none(self):
        assert "localhost" in own_hosts(80)
        assert "localhost" not in own_hosts(3000)


class TestOtherPages:
    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1:8000"},
            {"origin": "http://127.0.0.1"},
            {"origin": "file://"},
            {"origin": "http://127.0.0.1:3000.evil.example"},
            {"origin": "chrome-extension://127.0.0.1:3000"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ],
    )
    def test_change_and_read_nothing(self, headers):
        assert status("POST", headers=headers | JSON) == 403
        assert status("GET", "/graphql?query={version}", headers=headers) == 403
        assert status("GET", "/notebook?path=/tmp/x.ipynb", headers=headers) == 403
        assert ask("", kind="websocket", headers=headers)[0]["type"] == "websocket.close"

    def test_are_told_why_their_websocket_is_refused_where_the_server_can(self):
        sent = ask(
            "", kind="websocket", headers={"origin": "http://x.example"}, extensions={"websocket.http.response": {}}
        )
        assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 403)

    def test_may_link_to_a_page(self):
        assert status("GET", "/runs", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}) == 200

    def test_cannot_show_a_page_in_a_frame(self):
        assert (b"x-frame-options", b"SAMEORIGIN") in ask("GET", "/")[0]["headers"]

    @pytest.mark.parametrize("repeated", ["origin", "Origin"])
    def test_cannot_hide_behind_a_second_origin(self, repeated):
        raw = [*OWN.items(), *JSON.items(), ("origin", "http://127.0.0.1:3000"), (repeated, "http://evil.example")]
        assert status("POST", raw=raw) == 403


class TestChanges:
    @pytest.mark.parametrize("path", ["/graphql", "/graphql/", "/graphql\n", "/other"])
    @pytest.mark.parametrize(
        "document",
        [
            MUTATION,
            "query A { version } mutation B { x }",
            "subscription { x }",
            "# a comment\nmutation { x }",
            "fragment F on Q { x } mutation { x }",
            "\ufeffmutation{x}",
        ],
    )
    def test_by_get_are_refused(self, path, document):
        assert status("GET", f"{path}?query={quote(document)}") == 405
        assert status("HEAD", f"{path}?query={quote(document)}") == 405
        assert status("GET", f"{path}?query=%7Bversion%7D&qu%65ry={quote(document)}") == 405

    def test_by_get_that_are_too_deep_to_be_read_are_refused(self):
        assert status("GET", f"/graphql?query={'%7Ba' * 20_000}") in {200, 405}

    @pytest.mark.parametrize("document", ["{ version }", "query Q { version }", "no graphql"])
    def test_are_not_what_only_reads(self, document):
        assert status("GET", f"/graphql?query={quote(document)}") == 200

    @pytest.mark.parametrize(
        "content_type",
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "",
         "text/plain; application/json", "text/plain;charset=application/json", "application/jsonx"],
    )  # fmt: skip
    def test_in_what_a_form_can_send_are_refused(self, content_type):
        assert status("POST", f"/graphql?query={quote(MUTATION)}", headers={"content-type": content_type}) == 415
        assert status("POST", "/report_asset_materialization/a", headers={"content-type": content_type}) == 415

    def test_without_a_content_type_or_with_two_are_refused(self):
        assert status("POST", f"/graphql?query={quote(MUTATION)}") == 415
        raw = [*OWN.items(), ("content-type", "text/plain"), *JSON.items()]
        assert status("POST", raw=raw) == 415

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-origin"},
            {"origin": "http://localhost:3000"},
            {"origin": "https://irp.example.com", "host": "irp.example.com"},
            {"content-type": "application/json; charset=utf-8"},
            {"content-type": "Application/JSON"},
        ],
    )
    def test_of_own_pages_and_of_programs_go_through(self, headers):
        assert status("POST", headers=JSON | headers) == 200
        assert ask("", kind="websocket", headers=headers)[0]["type"] == "websocket.accept"


def test_what_is_no_request_goes_through():
    seen: list[str] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(Door(behind, HOSTS)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]
