"""A TLS socket that does not report the error of another connection as its own.

OpenSSL keeps the errors of a thread in one queue, and tells a socket to wait for more data only
while that queue is empty. The Python of Debian 13 leaves a broken pipe in it (issue 148594 of
python/cpython), and any C library may. The next read of every healthy connection of the thread then
fails with the error of the broken one.
"""

from __future__ import annotations

import errno
import ssl
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from celery_mysqllock.mysql.threads import has_eventlet

if TYPE_CHECKING:
    from collections.abc import Callable

    _Socket = ssl.SSLSocket
else:
    _Socket = object

_NO_CIPHER = "none"


def guard(context: ssl.SSLContext) -> ssl.SSLContext:
    """Make the context wrap sockets with one that retries, and return it."""
    context.sslsocket_class = _retrying(context.sslsocket_class)  # gevent has one of its own
    if has_eventlet():
        # its contexts take no notice of that class
        wrap = context.wrap_socket

        def wrap_socket(*arguments: Any, **named: Any) -> ssl.SSLSocket:  # noqa: ANN401 - eventlet's
            wrapped = wrap(*arguments, **named)
            wrapped.__class__ = _retrying(type(wrapped))
            return wrapped

        context.wrap_socket = wrap_socket  # type: ignore[method-assign]
    return context


def forget_errors() -> None:
    """Empty OpenSSL's queue of errors for this thread.

    Python has no call for that, but empties the queue when a context is given unknown ciphers.
    """
    try:
        _context().set_ciphers(_NO_CIPHER)
    except ssl.SSLError:
        return


def _retrying(base: type[ssl.SSLSocket]) -> type[ssl.SSLSocket]:
    return type("TlsSocket", (_Retrying, base), {})


@cache
def _context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _Retrying(_Socket):
    """Tries again with an empty queue when the error may be that of another connection."""

    def read(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - bytes or a number
        """Read; a connection that is really broken fails twice."""
        return _twice(partial(super().read, *arguments, **named))

    def send(self, *arguments: Any, **named: Any) -> int:  # noqa: ANN401 - gevent has one more
        """Send; likewise."""
        sent: int = _twice(partial(super().send, *arguments, **named))
        return sent


def _twice(call: Callable[[], Any]) -> Any:  # noqa: ANN401 - as `call`
    try:
        done = call()
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        raise
    except TimeoutError:
        forget_errors()
        raise
    except OSError:
        done = None
    if done:
        return done
    forget_errors()
    try:
        return call()
    except ValueError as error:  # another thread has closed it meanwhile
        raise OSError(errno.EBADF, str(error)) from error
    finally:
        forget_errors()
