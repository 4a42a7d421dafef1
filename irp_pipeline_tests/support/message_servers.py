"""Servers that take messages, for HTTP and for mail, each in a thread, with what they took."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "T0P-S3CR3T"


class WebServer:
    """Takes what is posted to it. It answers with ``status``, after calling ``on_post``.

    Attributes:
        posted: what was posted, decoded from JSON.
        url: its address for apprise, with a secret in it.
    """

    def __init__(self, port: int) -> None:
        self.posted: list[Any] = []
        self.status = 200
        self.on_post: Callable[[], None] = lambda: None
        self.url = f"json://127.0.0.1:{port}/hooks/{SECRET}"


@contextmanager
def web_server() -> Iterator[WebServer]:
    """Run a web server."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            taken.on_post()
            self.send_response(taken.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        taken = WebServer(server.server_port)
        with _served(server):
            yield taken


class MailServer:
    """Takes mails.

    Attributes:
        mails: the mails that were taken, and their recipients.
        url: its address for apprise, which sends to ``risk@example.com``.
    """

    def __init__(self, port: int) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self.url = f"mailto://127.0.0.1:{port}?from=irp@example.com&to=risk@example.com"


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """Run a mail server that speaks as much of SMTP as a client needs: RFC 5321, section 4.5.1."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            recipients: list[str] = []
            self.wfile.write(b"220 of the tests\r\n")
            for line in self.rfile:
                word = line[:4].upper()
                if word == b"RCPT":
                    recipients.append(line.decode().partition("<")[2].partition(">")[0])
                if word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    content = b"".join(iter(self.rfile.readline, b".\r\n"))
                    mail = message_from_bytes(content, policy=policy.default)
                    taken.mails.append((recipients, mail))
                self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 well\r\n")
                if word == b"QUIT":
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        taken = MailServer(server.server_address[1])
        with _served(server):
            yield taken


@contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
