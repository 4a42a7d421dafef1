"""An HTTP proxy that makes faults: it loses requests and replies, sends a request twice, throttles, fails, cuts bodies.

It stands before a real or a made-up server, so that the same tests run with both.
"""

import contextlib
import http.client
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

LOSE_REQUEST, LOSE_REPLY, TWICE, CUT = "lose the request", "lose the reply", "send it twice", "cut the reply"


@dataclass
class Fault:
    """What happens to the next requests of a kind.

    Attributes:
        what: one of the words of this module, or the status of a reply that the server has no part in.
        method: of the requests.
        path: a regular expression that is found in their path.
        times: how many of them; None: all.
        headers: of such a reply.
    """

    what: str | int
    method: str = ".*"
    path: str = ""
    times: int | None = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class FaultyProxy:
    """The proxy.

    Attributes:
        url: its address.
        faults: what is to come.
        seen: method, path and body of each request that came.
    """

    url: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)

    def requests(self, method: str, path: str = "") -> int:
        """How many requests of a kind came."""
        return sum(verb == method and re.search(path, of) is not None for verb, of, _ in self.seen)

    def take(self, method: str, path: str) -> Fault | None:
        """Return what happens to a request."""
        for fault in self.faults:
            if fault.times != 0 and re.fullmatch(fault.method, method) and re.search(fault.path, path):
                fault.times = None if fault.times is None else fault.times - 1
                return fault
        return None


@contextmanager
def faulty_proxy(target: str) -> Iterator[FaultyProxy]:
    """Serve a proxy before an address, on a free port of 127.0.0.1."""
    host, lock = urlsplit(target).netloc, threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and content in one packet

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                proxy.seen.append((self.command, self.path, body))
                fault = proxy.take(self.command, self.path)
            what = fault.what if fault else None
            if what == LOSE_REQUEST:
                self._hang_up()
            elif fault is not None and isinstance(what, int):
                self._reply(what, {**fault.headers, "Content-Type": "application/json"}, b'{"detail": "made up"}')
            else:
                status, headers, content = self._ask(body)
                if what == TWICE:
                    self._ask(body)
                if what == LOSE_REPLY:
                    self._hang_up()
                else:
                    self._reply(status, headers, content, cut=what == CUT)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - so called by http.server

        def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            with contextlib.closing(http.client.HTTPConnection(host, timeout=60)) as connection:
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                reply = connection.getresponse()
                return reply.status, {"Content-Type": reply.headers["Content-Type"] or ""}, reply.read()

        def _reply(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self._hang_up()

        def _hang_up(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = FaultyProxy(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
