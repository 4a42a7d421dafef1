"""A way to the tests' server that can be cut: what a process behind it has in an outage of the database."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import sqlalchemy as sa


@dataclass
class Way:
    """A port on this machine that leads to the server.

    Attributes:
        url: the database through it.
    """

    url: sa.URL
    _server: sa.URL
    _listener: socket.socket
    _open: list[socket.socket] = field(default_factory=list)
    _is_cut: bool = False

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        self._is_cut = True
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let connections through again."""
        self._is_cut = False

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # the block has ended
                return
            if self._is_cut:
                client.close()
                continue
            server = self._to_server()
            self._open += [client, server]
            threading.Thread(target=_carry, args=(client, server), daemon=True).start()

    def _to_server(self) -> socket.socket:
        host = self._server.host or self._server.query.get("host") or "127.0.0.1"
        port = self._server.port or 5432
        if isinstance(host, str) and host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{host}/.s.PGSQL.{port}")
            return server
        return socket.create_connection((str(host), port))


def _carry(one: socket.socket, other: socket.socket) -> None:
    with one, other, suppress(OSError):
        while True:
            for ready in select.select([one, other], [], [])[0]:
                content = ready.recv(65_536)
                if not content:
                    return
                (other if ready is one else one).sendall(content)


@contextmanager
def way_to(server: sa.URL, host: str = "127.0.0.1") -> Iterator[Way]:
    """Open a way to a server for the block, at an address of this machine."""
    with socket.create_server((host, 0)) as listener:
        port = listener.getsockname()[1]
        query = {name: value for name, value in server.query.items() if name not in {"host", "port"}}
        way = Way(server.set(host=host, port=port, query=query), server, listener)
        threading.Thread(target=way.serve, daemon=True).start()
        yield way
        way.cut()
        listener.shutdown(socket.SHUT_RDWR)
