"""Serves the WSGI application of ``web`` or ``metrics`` on waitress, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import ipaddress
import logging
import re
import signal
import socket
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

host_option = click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address or name to listen on."
)
names_option = click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="A further host name to accept in requests, such as that of a proxy.",
)
_OURSELVES = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9a-z_.-]+?)\.?)(?::[0-9]{0,5})?", re.ASCII)
_THREADS = 16
_CONNECTIONS = 500
_REQUEST_TIMEOUT = 30  # seconds for a client to send its request
_BODY = 64 * 1024  # bytes
_HEADERS = 32 * 1024  # bytes


class HostCheck:
    """A WSGI middleware that refuses requests for other host names than this machine's.

    Otherwise a site whose name resolves to this machine could read what is served (DNS rebinding).

    Args:
        application: The application.
        host: The address or name that it listens on. Unless that is a loopback address, requests
            may use any name.
        names: Further host names to accept, such as that of a proxy.
    """

    def __init__(self, application: WSGIApplication, host: str, names: Iterable[str]) -> None:
        self._application = application
        self._is_local = is_loopback(host)
        self._names = _OURSELVES | {host.strip("[]").lower(), *(name.lower() for name in names)}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        found = _HOST.fullmatch(str(environ.get("HTTP_HOST", "")).lower())
        if found is None:
            return plain(start_response, "400 Bad Request", "The Host of the request is none.\n")
        if self._is_local and (found[1] or found[2]) not in self._names:
            why = "It is not served under that name; see --allow-host.\n"
            return plain(start_response, "421 Misdirected Request", why)
        return self._application(environ, start_response)


def plain(start_response: StartResponse, status: str, text: str) -> Iterable[bytes]:
    """Send a plain-text response."""
    content = text.encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(content)))]
    start_response(status, headers)
    return [content]


def serve(application: WSGIApplication, host: str, port: int, what: str, prefix: str = "") -> None:
    """Listen, print the URL, and answer requests until Ctrl-C or SIGTERM.

    Args:
        application: The application.
        host: The address or name to listen on.
        port: The port, 0 for any free one.
        what: The command's name.
        prefix: The path of a proxy, if the proxy keeps it in the requests.

    Raises:
        click.ClickException: The address or port cannot be used.
    """
    from waitress import create_server  # noqa: PLC0415 - an extra, for two commands

    # a queue of requests needs no warning
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    address = host.strip("[]")
    listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        server = create_server(
            application,
            sockets=[listening],
            threads=_THREADS,
            connection_limit=_CONNECTIONS,
            channel_timeout=_REQUEST_TIMEOUT,
            cleanup_interval=5,
            max_request_body_size=_BODY,
            max_request_header_size=_HEADERS,
            clear_untrusted_proxy_headers=False,
            asyncore_use_poll=True,
            log_socket_errors=False,
            ident="mysqllock",
            url_prefix=prefix,
        )
    except OSError as error:
        listening.close()
        raise click.ClickException(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
    shown = f"[{address}]" if ":" in address else address
    before = signal.signal(signal.SIGTERM, _end)
    try:
        click.echo(f"{what}: http://{shown}:{listening.getsockname()[1]}/")
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
        signal.signal(signal.SIGTERM, before)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def missing_extra(command: str, extra: str) -> click.ClickException:
    """Return the error that says how to install the packages of an extra."""
    return click.ClickException(
        f"'mysqllock {command}' needs packages that are not installed: "
        f"pip install 'celery-mysqllock[{extra}]'."
    )


def _end(*_: object) -> NoReturn:
    raise KeyboardInterrupt
