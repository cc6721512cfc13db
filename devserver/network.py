"""A TCP proxy in front of a server that can drop traffic silently or answer nonsense."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from celery_mysqllock.mysql import Address

if TYPE_CHECKING:
    from typing import Self


class Network:
    """Forwards connections to a server until it is cut; after that nothing arrives.

    Neither end of a connection notices the cut: no FIN, no RST, as when a cable is pulled.

    Args:
        url: The server's URL.

    Attributes:
        url: The URL of the server behind this network.
    """

    def __init__(self, url: str) -> None:
        address = Address.parse(url)
        self._server = (address.host, address.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = replace(address, host="127.0.0.1", port=self._listener.getsockname()[1]).url()
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = [self._listener]
        self._cut = self._closed = False
        self._forgotten: set[socket.socket] = set()
        self._from_server: set[socket.socket] = set()
        self._clients: dict[int, int] = {}
        self._nonsense: bytes | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._thread.join()
        for sock in self._sockets:
            sock.close()
        self._selector.close()

    def cut(self) -> None:
        """From now on nothing arrives."""
        self._cut = True

    def mend(self) -> None:
        """Deliver what was sent since the cut, and all that follows."""
        self._cut = False

    def forget(self) -> None:
        """Drop all traffic of the open connections; new ones work.

        So does a firewall that was restarted, or that forgot an idle flow.
        """
        self._forgotten.update(self._sockets[1:])

    def answer(self, nonsense: bytes | None) -> None:
        """Send this instead of the server's answers; None to forward those again."""
        self._nonsense = nonsense

    def _run(self) -> None:
        while not self._closed:
            if self._cut:
                threading.Event().wait(0.02)
                continue
            for key, _ in self._selector.select(0.02):
                if self._cut:
                    break
                if key.fileobj is self._listener:
                    self._connect()
                else:
                    self._forward(key)

    def client_port(self, port: int) -> int:
        """Return the client's port of the connection that the server sees as `port`, else 0."""
        return self._clients.get(port, 0)

    def _connect(self) -> None:
        client, (_, client_port) = self._listener.accept()
        try:
            server = socket.create_connection(self._server)
        except OSError:  # it is down
            client.close()
            return
        self._clients[server.getsockname()[1]] = client_port
        self._sockets += [client, server]
        self._from_server.add(server)
        self._selector.register(client, selectors.EVENT_READ, server)
        self._selector.register(server, selectors.EVENT_READ, client)

    def _forward(self, key: selectors.SelectorKey) -> None:
        source, target = cast("socket.socket", key.fileobj), key.data
        data = b""
        with contextlib.suppress(OSError):
            data = source.recv(65536)
        if source in self._forgotten:
            return
        if data and self._nonsense is not None and source in self._from_server:
            data = self._nonsense
        with contextlib.suppress(OSError):
            if data:
                target.sendall(data)
                return
            target.shutdown(socket.SHUT_WR)
        self._selector.unregister(source)
