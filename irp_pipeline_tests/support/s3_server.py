"""An S3 server in a process of its own (moto's, over HTTP), behind a gate that a test can close."""

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from irp_pipeline_tests.support.gate import Gate
from irp_pipeline_tests.support.waiting import wait_until


@contextmanager
def s3_server(host: str = "127.0.0.1") -> Iterator[Gate]:
    """Run an S3 server; yield a gate before it, at an address of this machine."""
    with (
        s3_server_itself() as port,
        closing(Gate(lambda: socket.create_connection(("127.0.0.1", port)), host)) as gate,
    ):
        yield gate


@contextmanager
def s3_server_itself() -> Iterator[int]:
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
    with s3_server() as gate, pytest.MonkeyPatch.context() as environment:
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
