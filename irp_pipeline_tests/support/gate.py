"""A gate before a server: a test can let the server be away, or let it answer that requests are too many."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import sqlalchemy as sa

_THROTTLED = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


class Gate:
    """Passes connections on to a server, refuses them, or answers that they are too many.

    Args:
        connect: makes a connection to the server.
        host: the address of the gate.

    Attributes:
        port: its port.
    """

    def __init__(self, connect: Callable[[], socket.socket], host: str = "127.0.0.1") -> None:
        self._connect = connect
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
        self._end_connections()

    def throttle(self) -> None:
        """Answer every new request with 503 Slow Down, as an object store does."""
        self._is_throttling = True
        self._end_connections()

    def open(self) -> None:
        """Pass connections on again."""
        self._is_throttling = False
        if self._listener.fileno() == -1:
            self._listener = socket.create_server((self._host, self.port))
            self._listen()

    def close(self) -> None:
        if self._listener.fileno() != -1:
            self.refuse()

    def _end_connections(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

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
            with self._connect() as server:
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


class DatabaseGate(Gate):
    """A gate before the tests' PostgreSQL server.

    Args:
        server: the database.
        host: the address of the gate.

    Attributes:
        url: the database through the gate.
    """

    def __init__(self, server: sa.URL, host: str = "127.0.0.1") -> None:
        super().__init__(lambda: _connection_to(server), host)
        query = {name: value for name, value in server.query.items() if name not in {"host", "port"}}
        self.url = server.set(host=host, port=self.port, query=query)


def _connection_to(url: sa.URL) -> socket.socket:
    host = url.host or url.query.get("host") or "127.0.0.1"
    port = url.port or 5432
    if isinstance(host, str) and host.startswith("/"):
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server
    return socket.create_connection((str(host), port))


@contextmanager
def database_gate(server: sa.URL, host: str = "127.0.0.1") -> Iterator[DatabaseGate]:
    """Open a gate before a PostgreSQL server for the block."""
    with closing(DatabaseGate(server, host)) as gate:
        yield gate
