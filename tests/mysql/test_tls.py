"""Encrypted connections, to a server that can and one that cannot."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.exceptions import CannotConnect, DatabaseError, SettingsError
from celery_mysqllock.mysql import Address, Session, Tls

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def encrypting(url: str) -> Address:
    """A server that speaks TLS: MySQL makes itself a certificate, MariaDB before 11.4 does not."""
    address = Address.parse(url)
    with Session(address) as session:
        variables = dict(session.query("SHOW VARIABLES WHERE Variable_name IN ('ssl_cert')"))
    if not variables.get("ssl_cert"):
        pytest.skip("this server has no certificate")
    return address


@pytest.mark.parametrize(
    ("tls", "is_encrypted"),
    [(None, True), (Tls("PREFERRED"), True), (Tls("REQUIRED"), True), (Tls("DISABLED"), False)],
)
def test_the_connection_is_encrypted_as_the_mode_says(
    encrypting: Address, tls: Tls | None, *, is_encrypted: bool
) -> None:
    with Session(replace(encrypting, tls=tls)) as session:
        assert bool(session.query("SHOW STATUS LIKE 'Ssl_cipher'")[0][1]) == is_encrypted


def test_a_connection_that_checks_nothing_loads_no_authorities(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OpenSSL holds locks meanwhile, and a child that another thread forks then hangs.
    def load(*_: object) -> None:
        raise AssertionError("authorities are loaded")

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", load)
    with Session(Address.parse(url)) as session:
        assert session.value("SELECT 1") == 1


def test_a_certificate_of_an_unknown_authority_is_refused(encrypting: Address) -> None:
    with pytest.raises((CannotConnect, DatabaseError), match="certificate"):
        Session(replace(encrypting, tls=Tls(mode="VERIFY_CA"))).open()


def test_a_server_without_tls_is_refused_when_it_is_required(url: str) -> None:
    address = Address.parse(url)
    with Session(address) as session:
        if dict(session.query("SHOW VARIABLES LIKE 'ssl_cert'")).get("ssl_cert"):
            pytest.skip("this server has a certificate")
    with pytest.raises(DatabaseError, match="SSL"):
        Session(replace(address, tls=Tls(mode="REQUIRED"))).open()


@pytest.mark.parametrize(
    ("options", "tls"),
    [
        (None, None),
        ({}, None),
        (True, Tls()),
        ({"ssl_mode": "VERIFY_CA", "ssl_ca": "/ca"}, Tls("VERIFY_CA", ca="/ca")),
        (
            {"ca_certs": "/ca", "certfile": "/c", "keyfile": "/k", "cert_reqs": ssl.CERT_REQUIRED},
            Tls("VERIFY_IDENTITY", "/ca", "/c", "/k"),
        ),
        ({"cert_reqs": ssl.CERT_NONE}, Tls("REQUIRED")),
        ({"ca_certs": "/ca", "check_hostname": False}, Tls("VERIFY_CA", "/ca")),
    ],
)
def test_celerys_and_mysqls_names_are_understood(options: Any, tls: Tls | None) -> None:
    assert Tls.read(options, "broker_use_ssl") == tls


@pytest.mark.parametrize(
    ("options", "message"),
    [({"ssl_ma": "x"}, "unknown option 'ssl_ma'"), ({"ssl_mode": "MAYBE"}, "REQUIRED, VERIFY_CA")],
)
def test_what_is_not_understood_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Tls.read(options, "broker_use_ssl")


def test_a_url_says_the_same_when_it_is_written_again() -> None:
    url = "mysql://u:p@h:3306/d?ssl_mode=VERIFY_CA&ssl_ca=%2Fca.pem"
    assert Address.parse(url).tls == Tls("VERIFY_CA", "/ca.pem")
    assert Address.parse(url).url() == url


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Tls(ca=str(tmp_path / "none.pem")).context()
