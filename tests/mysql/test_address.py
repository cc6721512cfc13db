"""The mysql:// URL."""

from __future__ import annotations

import pytest

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.mysql import Address


def test_every_part_of_a_url_is_read() -> None:
    address = Address.parse("mysql://jane:pw@db.example:3307/shop?connect_timeout=2.5")
    assert address == Address(
        host="db.example",
        database="shop",
        user="jane",
        password="pw",  # noqa: S106 - an example
        port=3307,
        connect_timeout=2.5,
    )


def test_what_is_left_out_has_its_usual_value() -> None:
    address = Address.parse("mysql://jane@/shop")
    assert (address.host, address.port, address.password) == ("localhost", 3306, "")
    assert address.unix_socket is None


def test_reserved_characters_are_percent_encoded() -> None:
    address = Address.parse("mysql://j%40ne:p%2F%3A%40%23w@[::1]/my%20shop")
    assert (address.user, address.password) == ("j@ne", "p/:@#w")
    assert (address.host, address.database) == ("::1", "my shop")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://jane:p%2F%3Aw@db.example:3307/shop",
        "mysql://jane@[::1]:3306/my%20shop",
        "mysql://jane:pw@localhost:3306/shop?unix_socket=%2Frun%2Fmysqld.sock",
        "mysql://jane:pw@db.example:3306/shop?connect_timeout=2.5",
    ],
)
def test_the_url_of_an_address_is_read_as_the_same_address(url: str) -> None:
    address = Address.parse(url)
    assert Address.parse(address.url()) == address


def test_a_password_is_never_shown() -> None:
    address = Address.parse("mysql://jane:s3cret@db.example/shop")
    assert "s3cret" not in f"{address} {address!r}"
    assert "jane" in str(address)
    assert "db.example" in str(address)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://jane:s3cret@db/shop", "postgresql"),
        ("db.example/shop", "no scheme"),
        ("mysql://jane:s3cret@db", "names no database"),
        ("mysql://jane:s3cret@db/", "names no database"),
        ("mysql://db/shop", "names no user"),
        ("mysql://jane:s3cret@db/shop/jobs", "no '/'"),
        ("mysql://jane:s3cret@db:port/shop", "cannot be read"),
        ("mysql://jane:s3c/ret@db/shop", "cannot be read"),
        ("mysql://jane:s3cret@db/shop?ssl=1", "unknown option 'ssl'"),
        ("mysql://jane:s3cret@db/shop?connect_timeout=0", "connect_timeout='0'"),
        ("mysql://jane:s3cret@db/shop?connect_timeout=soon", "connect_timeout='soon'"),
    ],
)
def test_a_wrong_url_is_refused_with_the_reason_and_without_the_password(
    url: str, says: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Address.parse(url)
    assert says in str(caught.value)
    assert "s3c" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "password", ["12/secret", "12#secret", "12?secret", "x@1/secret", "x@secret#1", "x@secret?1"]
)
def test_a_piece_of_a_password_passes_for_nothing_else(password: str) -> None:
    with pytest.raises(SettingsError, match="Percent-encode") as caught:
        Address.parse(f"mysql://u:{password}@h/d")
    assert "secret" not in str(caught.value)
    assert "12" not in str(caught.value)
