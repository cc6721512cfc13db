"""An encrypted socket that does not take the error of another connection for its own.

OpenSSL keeps the errors of a thread in one queue, and tells a socket to wait for more data only
while that queue is empty. Python, as Debian 13 has it, leaves a broken pipe in there (issue 148594
of python/cpython), and so may any library written in C. The next read of every healthy connection
of the thread then fails with the dead one's error.
"""

from __future__ import annotations

import errno
import ssl
from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    _Socket = ssl.SSLSocket
else:
    _Socket = object

_NO_CIPHER = "none"


def guard(context: ssl.SSLContext) -> ssl.SSLContext:
    """Have the context make sockets that look twice, and return it."""
    base = context.sslsocket_class  # gevent has its own
    context.sslsocket_class = type("TlsSocket", (_LooksTwice, base), {})
    return context


def forget_errors() -> None:
    """Empty OpenSSL's queue of errors for this thread.

    Python offers no such call, but empties the queue when a context is given ciphers that there
    are none of.
    """
    try:
        _context().set_ciphers(_NO_CIPHER)
    except ssl.SSLError:
        return


@cache
def _context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _LooksTwice(_Socket):
    """Asks again, with an empty queue, when an answer may be about another connection."""

    def read(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - bytes or a number
        """Read; a connection that is gone says so twice."""
        return _twice(partial(super().read, *arguments, **named))

    def send(self, *arguments: Any, **named: Any) -> int:  # noqa: ANN401 - gevent has one more
        """Send; as above."""
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
