"""Brokers for Celery: those of this machine, and a Redis that a test can stop and start."""

import os
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from shutil import which
from typing import NoReturn

import pytest
from kombu.connection import Connection

RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"
REDIS = "redis://127.0.0.1:6379/9"


def require(*brokers: str) -> None:
    """Skip the test, and say why, if a broker of this machine does not answer."""
    for broker in brokers:
        try:
            with Connection(broker, connect_timeout=2) as connection:
                connection.ensure_connection(max_retries=1, timeout=5)
        except OSError:
            place = Connection(broker).as_uri()  # without the password
            _missing(f"No broker answers at {place}: install RabbitMQ and Redis, and start them, to try Celery")


def _missing(said: str) -> NoReturn:
    if os.environ.get("IRP_TESTS_NEED_BROKERS"):
        pytest.fail(said)
    pytest.skip(said)


class OwnRedis:
    """A Redis that keeps nothing on disk, on a free port."""

    def __init__(self, folder: Path) -> None:
        program = which("redis-server")
        if program is None:
            _missing("There is no redis-server: install Redis to try an outage of the broker")
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = int(free.getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--port", str(self._port), "--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen([self._program, *options], stdout=subprocess.DEVNULL)
        for _ in range(500):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
                return
            time.sleep(0.02)
        pytest.fail("Redis does not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
