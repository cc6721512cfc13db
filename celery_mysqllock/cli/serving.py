"""A small HTTP server for one face of the command line, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import ipaddress
import signal
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

host_option = click.option(
    "--host", default="127.0.0.1", show_default=True, help="Where to listen: an address or name."
)


class Handler(BaseHTTPRequestHandler):
    """Answers one request; who derives from it says how."""

    server_version, sys_version = "mysqllock", ""
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds for a client to say what it wants
    #: What goes with every answer.
    fixed_headers: ClassVar[Mapping[str, str]] = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }

    def answer(
        self, status: int, content: str, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send the whole answer, without the content to a HEAD request.

        Args:
            status: HTTP's.
            content: The text.
            kind: Its media type.
            headers: More headers.
        """
        body = content.encode()
        self.send_response(status)
        fixed = {"Content-Type": kind, "Content-Length": str(len(body)), **self.fixed_headers}
        for name, value in (fixed | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: a page that looks every few seconds would fill the terminal."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True


def serve(handler: type[Handler], host: str, port: int, what: str) -> None:
    """Listen, say where, and answer until Ctrl-C or SIGTERM.

    Raises:
        click.ClickException: Nobody can listen there.
    """
    address = host.strip("[]")
    server_type = type("Server", (_Server,), {"address_family": _family(address)})
    try:
        server = server_type((address, port), handler)
    except OSError as error:
        raise click.ClickException(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
    shown = f"[{address}]" if ":" in address else address
    click.echo(f"{what}: http://{shown}:{server.server_address[1]}/")
    before = signal.signal(signal.SIGTERM, _end)
    try:
        with server:
            server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _end(*_: object) -> NoReturn:
    raise KeyboardInterrupt
