"""How a connection is encrypted: MySQL's ssl_mode and certificate files, as an SSL context."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.mysql.tls_socket import guard

if TYPE_CHECKING:
    from collections.abc import Mapping

#: From the weakest to the strongest: plain; encrypted if the server can; encrypted; the certificate
#: is signed by a known authority; and it is for this host.
MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
# Celery's broker_use_ssl may use Python's names for MySQL's options.
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
    """The encryption of a connection, with the names of MySQL's clients.

    Attributes:
        mode: ``DISABLED`` does not encrypt, ``PREFERRED`` does if the server can, ``REQUIRED``
            always, ``VERIFY_CA`` also verifies the server's certificate, ``VERIFY_IDENTITY`` also
            the host name in it.
        ca: Path of the authorities' certificates, None for the system's.
        cert: Path of the client's certificate, None for none.
        key: Path of the client's key, None when it is in ``cert``.
    """

    mode: str = "VERIFY_IDENTITY"
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @classmethod
    def read(cls, options: Mapping[str, Any] | bool | None, source: str) -> Tls | None:  # noqa: FBT001 - Celery's setting
        """Read Celery's ``broker_use_ssl``, or the ``ssl_...`` options of a URL.

        Args:
            options: ``True`` for ``VERIFY_IDENTITY``; a mapping with ``mode``, ``ca``, ``cert`` and
                ``key``, with or without the prefix ``ssl_``, or with Python's names (``ca_certs``,
                ``certfile``, ``keyfile``, ``cert_reqs``, ``check_hostname``); nothing for None.
            source: The name of the setting, for the message.

        Raises:
            SettingsError: An option or the mode is unknown.
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
        """Return the settings.

        Raises:
            SettingsError: The mode is unknown.
        """
        if self.mode not in MODES:
            raise SettingsError(
                f"{source} has ssl_mode={self.mode!r}; it takes {', '.join(MODES)}."
            )
        return self

    def as_options(self) -> dict[str, str]:
        """Return the same as options of a URL."""
        values = {name: getattr(self, name) for name in _OPTIONS}
        return {f"ssl_{name}": value for name, value in values.items() if value is not None}

    def context(self) -> ssl.SSLContext | None:
        """Return the context that wraps the socket, None for the driver's default.

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
    """Return the context of connections that verify nothing and have no certificate.

    There is one for the whole process. The driver would make one for each connection and load the
    system's authorities into it without using them: 18 ms each time, and OpenSSL locks that a fork
    in another thread leaves locked in the child for ever.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return guard(context)


def _mode_of(options: Mapping[str, Any]) -> str:
    """Return the mode that corresponds to Python's ``cert_reqs`` and ``check_hostname``."""
    reqs = options.get("cert_reqs", options.get("ssl_cert_reqs", ssl.CERT_REQUIRED))
    if reqs in (ssl.CERT_NONE, "CERT_NONE", "none"):
        return "REQUIRED"
    checks = options.get("check_hostname", options.get("ssl_check_hostname", True))
    return "VERIFY_IDENTITY" if checks else "VERIFY_CA"
