"""What a holder tells about itself, written in names of further locks that its session holds.

A named lock has no payload, a session's variables are not visible to others, and what MySQL shows
of a session (``performance_schema``) is off on MariaDB and needs privileges. But who holds a lock
whose name is known can be asked by anybody, without a privilege, on every server. So the text is
cut into pieces of four bits, and for each piece that is not 0 the session takes one lock, whose
name says which piece and its value. Reading it means asking for all names that there could be; one
statement does it in about a millisecond. A check sum tells whether the text is whole.

The locks go when the session goes, as the lock that they describe. They are taken only when that
is held for longer than a moment, so they cost nothing on the hot path.
"""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from celery_mysqllock.mysql import NAME_LIMIT, Statements, storable

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session

_statements = Statements("celery_mysqllock.locks", "card.sql")

# The text's parts, each cut to so many bytes: pid, program, host name, since, note, lock.
_PARTS = (10, 16, 32, 10, 64, NAME_LIMIT)
_BETWEEN = "\x1f"
_HEAD = 4  # bytes: length, and three of the check sum
_VALUES = 16


class Card(NamedTuple):
    """What a holder has told.

    Attributes:
        pid: Its process id.
        program: The program's name.
        hostname: The machine's name.
        since: When it took the lock, by its own clock.
        note: What it is doing.
        name: The lock's full name. Where the server lists no locks, it is found by this only.
    """

    pid: int | None
    program: str | None
    hostname: str | None
    since: datetime
    note: str | None
    name: str | None = None


def write_card(connection_id: int, card: Card) -> str:
    """The statement by which the session with that connection id shows the card."""
    parts = (
        *(str(card.pid or ""), card.program or "", card.hostname or ""),
        *(str(int(card.since.timestamp())), card.note or "", card.name or ""),
    )
    text = _BETWEEN.join(
        _cut(part.replace(_BETWEEN, " "), most) for part, most in zip(parts, _PARTS, strict=True)
    ).encode()
    pieces = [piece for byte in _head(text) + text for piece in divmod(byte, _VALUES)]
    return "DO " + ", ".join(
        f"GET_LOCK('~card:{connection_id}:{place * _VALUES + piece}', 0)"
        for place, piece in enumerate(pieces)
        if piece
    )


def read_card(session: Session, connection_id: int) -> Card | None:
    """The card that another session shows, None when it shows none that can be read (yet)."""
    head = _read(session, connection_id, 0, _HEAD)
    if not head[0]:
        return None
    text = _read(session, connection_id, _HEAD, _HEAD + head[0])
    if _head(text) != head:
        return None
    try:
        pid, program, hostname, since, note, name = text.decode().split(_BETWEEN)
        return Card(
            *(int(pid) if pid else None, program or None, hostname or None),
            *(datetime.fromtimestamp(int(since), UTC), note or None, name or None),
        )
    except (ValueError, OverflowError, OSError):
        return None  # of another release, or somebody's own


def _read(session: Session, connection_id: int, start: int, end: int) -> bytes:
    """The bytes from ``start`` to ``end``, 0 where nothing is shown."""
    rows = session.query(
        _statements["read_card"],
        {
            "prefix": f"~card:{connection_id}:",
            "connection_id": connection_id,
            "start": start * 2 * _VALUES,
            "end": end * 2 * _VALUES,
        },
    )
    found = bytearray(end - start)
    for (number,) in rows:
        place, piece = divmod(int(number) - start * 2 * _VALUES, _VALUES)
        found[place // 2] |= piece if place % 2 else piece * _VALUES
    return bytes(found)


def _head(text: bytes) -> bytes:
    return bytes([len(text)]) + zlib.crc32(text).to_bytes(4, "big")[: _HEAD - 1]


def _cut(text: str, most: int) -> str:
    return storable(text).encode()[:most].decode(errors="ignore")
