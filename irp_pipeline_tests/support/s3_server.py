"""An S3 server in a process of its own (moto's, over HTTP), behind a gate that a test can close."""

import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from irp_pipeline_tests.support.waiting import wait_until

_THROTTLED = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


class Gate:
    """Passes connections on to a server, refuses them, or answers that they are too many.

    Args:
        port: of the server, on 127.0.0.1.
        host: the address of the gate.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._server = port
        self._host = host
        self._is_throttling = False
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._listen()

    def refuse(self) -> None:
        """Refuse connections, and end those that there are: the server is away."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def throttle(self) -> None:
        """Answer every new request with 503 Slow Down."""
        self._is_throttling = True
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def open(self) -> None:
        """Pass connections on again."""
        self._is_throttling = False
        if self._listener.fileno() == -1:
            self._listener = socket.create_server((self._host, self.port))
            self._listen()

    def close(self) -> None:
        if self._listener.fileno() != -1:
            self.refuse()

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with closing(client), suppress(OSError):
            if self._is_throttling:
                client.recv(65_536)
                head = f"HTTP/1.1 503 Slow Down\r\nContent-Length: {len(_THROTTLED)}\r\nConnection: close\r\n\r\n"
                client.sendall(head.encode() + _THROTTLED)
                return
            with socket.create_connection(("127.0.0.1", self._server)) as server:
                self._connections |= {client, server}
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join()
                self._connections -= {client, server}


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(2**18):
            target.sendall(content)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def s3_server() -> Iterator[int]:
    """Run an S3 server; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "MOTO_IAM_LOAD_MANAGED_POLICIES": "false"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: _answers(port), "the S3 server answers")
        yield port
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.fixture(scope="session")
def s3_gate() -> Iterator[Gate]:
    """A gate to an S3 server; the environment names it, with made-up credentials."""
    variables = {
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",  # what is tried again is tried by the code under test
    }
    with s3_server() as port, closing(Gate(port)) as gate, pytest.MonkeyPatch.context() as environment:
        for name, value in (variables | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{gate.port}"}).items():
            environment.setenv(name, value)
        yield gate


@pytest.fixture
def bucket(s3_gate: Gate) -> Iterator[str]:
    """The address of an empty bucket."""
    import s3fs

    name = f"irp-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(name, region_name="eu-west-1")
    yield f"s3://{name}"
    s3_gate.open()


@pytest.fixture(params=["local", "shared", "s3"])
def files_anywhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An IRP_HOME of its own, with the files of cycles in it, in a shared folder or in an object store."""
    return _home(request, tmp_path, monkeypatch)


@pytest.fixture(params=["shared", "s3"])
def files_elsewhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An IRP_HOME of its own, with the files of cycles in a shared folder or in an object store."""
    return _home(request, tmp_path, monkeypatch)


def _home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("IRP_HOME", str(home))
    if request.param == "local":
        monkeypatch.delenv("IRP_FILES_URL", raising=False)
    elif request.param == "shared":
        monkeypatch.setenv("IRP_FILES_URL", (tmp_path / "shared folder").as_uri())
    else:
        monkeypatch.setenv("IRP_FILES_URL", f"{request.getfixturevalue('bucket')}/irp")
    return home
