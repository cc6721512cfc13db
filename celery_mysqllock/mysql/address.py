"""The address of a database and the login for it: a mysql:// URL, parsed and checked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.mysql.tls import Tls

DEFAULT_PORT = 3306
DEFAULT_CONNECT_TIMEOUT = 5.0
_FORM = "mysql://user:password@host:3306/database"
#: Options of MySQL's clients that send the password in a way that an impostor could read: in clear
#: text, or encrypted with a key that the server sends.
CLEARTEXT, SERVER_KEY = "enable-cleartext-plugin", "get-server-public-key"
_QUERY_OPTIONS = ("connect_timeout", "unix_socket", "login_method")
_TLS_OPTIONS = ("ssl_ca", "ssl_cert", "ssl_key", "ssl_mode")


@dataclass(frozen=True)
class Address:
    """One database on one server, and the login for it.

    ``str()`` and ``repr()`` never show the password.

    Attributes:
        host: Name or address of the server.
        database: The database (schema) to use.
        user: The user that logs in.
        password: The user's password, empty for none.
        port: TCP port.
        unix_socket: Path of a socket file, which replaces host and port.
        connect_timeout: Seconds to wait for a connection.
        tls: How the connection is encrypted; None encrypts if the server can, except on a socket
            file.
        login_method: ``CLEARTEXT`` or ``SERVER_KEY`` to send the password in that way to a server
            that was not verified; None to refuse.
    """

    host: str
    database: str
    user: str
    password: str = field(default="", repr=False)
    port: int = DEFAULT_PORT
    unix_socket: str | None = None
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT
    tls: Tls | None = None
    login_method: str | None = None

    @classmethod
    def parse(cls, url: str, *, connect_timeout: float = DEFAULT_CONNECT_TIMEOUT) -> Address:
        """Read ``mysql://user:password@host:port/database``.

        Reserved characters in user, password and database are percent-encoded, as in any URL.
        The query may contain ``unix_socket`` (a path), ``connect_timeout`` (seconds; default: the
        argument), ``login_method``, and ``ssl_mode``, ``ssl_ca``, ``ssl_cert`` and ``ssl_key`` as
        MySQL's clients take them; see ``Tls``.

        Raises:
            SettingsError: The URL has another form; the message never contains the password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or DEFAULT_PORT
            _check_cut(parts)
        except ValueError as error:
            # not chained: urlsplit's message may quote the part of the URL with the password
            raise SettingsError(
                f"The URL has a port or host that cannot be read; it must be of "
                f"the form {_FORM}. Percent-encode '/', ':', '@', '#' and '?' in "
                f"the password ({type(error).__name__})."
            ) from None
        if parts.scheme != "mysql":
            raise SettingsError(
                f"The URL begins with {parts.scheme or 'no scheme'!r}; it must be of the form "
                f"{_FORM}. MariaDB is spelled mysql:// too."
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        address = cls(
            host=unquote(parts.hostname or "") or "localhost",
            database=unquote(parts.path.lstrip("/")),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            port=port,
            connect_timeout=connect_timeout,
        )
        return address.checked().with_options(options).checked()

    def checked(self) -> Address:
        """Return the address.

        Raises:
            SettingsError: It names no user or database, or has a wrong login method.
        """
        for part, value in (("user", self.user), ("database", self.database)):
            if not value:
                raise SettingsError(
                    f"{self}: the URL names no {part}; it must be of the form {_FORM}."
                )
        if self.login_method not in (None, CLEARTEXT, SERVER_KEY):
            raise SettingsError(
                f"{self}: login_method={self.login_method!r} is not allowed; it takes {CLEARTEXT} "
                f"and {SERVER_KEY}."
            )
        if "/" in self.database:
            raise SettingsError(f"{self}: a database name holds no '/'; the form is {_FORM}.")
        return self

    def with_options(self, options: dict[str, str]) -> Address:
        """Return the address with the options of a URL's query.

        Raises:
            SettingsError: An option is unknown or has a value that is not allowed.
        """
        known = (*_QUERY_OPTIONS, *_TLS_OPTIONS)
        for option in options:
            if option not in known:
                raise SettingsError(
                    f"{self}: unknown option {option!r} in the URL; known are {', '.join(known)}."
                )
        seconds = options.get("connect_timeout", str(self.connect_timeout))
        try:
            timeout = float(seconds)
        except ValueError:
            timeout = 0.0
        if timeout <= 0:
            raise SettingsError(
                f"{self}: connect_timeout={seconds!r} is no number of seconds above 0."
            )
        tls = {option: value for option, value in options.items() if option in _TLS_OPTIONS}
        return replace(
            self,
            connect_timeout=timeout,
            unix_socket=options.get("unix_socket"),
            tls=Tls.read(tls, str(self)) or self.tls,
            login_method=options.get("login_method"),
        )

    def with_tls(self, tls: Tls | None) -> Address:
        """Return the address with this encryption, unless its URL has one."""
        return self if self.tls else replace(self, tls=tls)

    @property
    def effective_tls(self) -> Tls:
        """``tls``, or its default."""
        return self.tls or Tls("DISABLED" if self.unix_socket else "PREFERRED")

    def url(self) -> str:
        """Return the URL with the password, for a child process's environment only."""
        return self._url(quote(self.password, safe=""))

    def __str__(self) -> str:
        return self._url("**", shows_timeout=False)

    def _url(self, password: str, *, shows_timeout: bool = True) -> str:
        login = quote(self.user, safe="") + (f":{password}" if self.password else "")
        options: dict[str, str] = {}
        if self.unix_socket:
            options["unix_socket"] = self.unix_socket
        if shows_timeout and self.connect_timeout != DEFAULT_CONNECT_TIMEOUT:
            options["connect_timeout"] = f"{self.connect_timeout:g}"
        if self.login_method:
            options["login_method"] = self.login_method
        if self.tls:
            options |= self.tls.as_options()
        query = f"?{urlencode(options)}" if options else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mysql://{login}@{host}:{self.port}/{quote(self.database, safe='')}{query}"


def _check_cut(parts: SplitResult) -> None:
    """Refuse a URL that is split within the password, so that part of that became the host.

    Raises:
        ValueError: The "@" after the password is in a later part.
    """
    is_whole = parts.username and parts.path.strip("/")
    if "@" in parts.path + parts.fragment + ("" if is_whole else parts.query):
        raise ValueError
