"""How a connection is encrypted: MySQL's ssl_mode and its files, as a context for the socket."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.mysql.tls_socket import guard

if TYPE_CHECKING:
    from collections.abc import Mapping

#: From the weakest to the strongest: plain; encrypted if the server can; encrypted; with a
#: certificate of a known authority; which is also the host's own.
MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
# Celery's broker_use_ssl has Python's names for what MySQL calls otherwise.
_PYTHON_NAMES = {
    "ca_certs": "ca",
    "certfile": "cert",
    "keyfile": "key",
    "ssl_ca_certs": "ca",
    "ssl_certfile": "cert",
    "ssl_keyfile": "key",
}
_OPTIONS = ("mode", "ca", "cert", "key")


@dataclass(frozen=True)
class Tls:
    """An encrypted connection, in the words of MySQL's clients.

    Attributes:
        mode: ``DISABLED`` does not encrypt, ``PREFERRED`` does if the server can, ``REQUIRED`` in
            any case, ``VERIFY_CA`` also checks who signed the server's certificate,
            ``VERIFY_IDENTITY`` also that it is the host's.
        ca: Path of the authorities' certificates, None for the system's.
        cert: Path of the client's certificate, None for none.
        key: Path of its key, None when it is in ``cert``.
    """

    mode: str = "VERIFY_IDENTITY"
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @classmethod
    def read(cls, options: Mapping[str, Any] | bool | None, source: str) -> Tls | None:  # noqa: FBT001 - Celery's setting
        """Read Celery's ``broker_use_ssl``, or the ``ssl_...`` options of a URL.

        Args:
            options: ``True`` for an encrypted connection to a host that proves its name; a mapping
                with ``mode``, ``ca``, ``cert`` and ``key``, with or without ``ssl_`` before them,
                or with Python's names (``ca_certs``, ``certfile``, ``keyfile``, ``cert_reqs``,
                ``check_hostname``); nothing for an unencrypted one.
            source: What the user has set, for the message.

        Raises:
            SettingsError: An option is unknown, or the mode is none.
        """
        if not options:
            return None
        if options is True:
            return cls()
        known: dict[str, Any] = {}
        for name, value in options.items():
            option = _PYTHON_NAMES.get(name, name.removeprefix("ssl_"))
            if option in ("cert_reqs", "check_hostname"):
                known.setdefault("mode", _mode_of(options))
            elif option in _OPTIONS:
                known[option] = value
            else:
                raise SettingsError(
                    f"{source} has the unknown option {name!r}; known are "
                    f"{', '.join(f'ssl_{option}' for option in _OPTIONS)}."
                )
        return cls(**known).checked(source)

    def checked(self, source: str) -> Tls:
        """The settings themselves, when the mode is one.

        Raises:
            SettingsError: It is none.
        """
        if self.mode not in MODES:
            raise SettingsError(
                f"{source} has ssl_mode={self.mode!r}; it takes {', '.join(MODES)}."
            )
        return self

    def as_options(self) -> dict[str, str]:
        """The options of a URL that say the same."""
        values = {name: getattr(self, name) for name in _OPTIONS}
        return {f"ssl_{name}": value for name, value in values.items() if value is not None}

    def context(self) -> ssl.SSLContext | None:
        """What the socket is wrapped with, None where it need not be.

        Raises:
            SettingsError: A file cannot be read.
        """
        if self.mode in ("DISABLED", "PREFERRED"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
        except OSError as error:
            raise SettingsError(f"A certificate or key cannot be read: {error}") from error
        context.check_hostname = self.mode == "VERIFY_IDENTITY"
        if self.mode == "REQUIRED":
            context.verify_mode = ssl.CERT_NONE
        return guard(context)


@cache
def trusting_context() -> ssl.SSLContext:
    """What a connection is encrypted with that checks nothing and has no certificate.

    One for the whole process. The driver would make its own for each connection and load the
    system's authorities into it, of which it makes no use: 18 ms each time, and OpenSSL locks
    that a fork in another thread leaves locked in the child for ever.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return guard(context)


def _mode_of(options: Mapping[str, Any]) -> str:
    """The mode that Python's ``cert_reqs`` and ``check_hostname`` stand for."""
    reqs = options.get("cert_reqs", options.get("ssl_cert_reqs", ssl.CERT_REQUIRED))
    if reqs in (ssl.CERT_NONE, "CERT_NONE", "none"):
        return "REQUIRED"
    checks = options.get("check_hostname", options.get("ssl_check_hostname", True))
    return "VERIFY_IDENTITY" if checks else "VERIFY_CA"
