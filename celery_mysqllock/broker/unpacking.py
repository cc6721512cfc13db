"""Unpacks compressed bodies, up to a limit: a few bytes may stand for gigabytes."""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from typing import TYPE_CHECKING, Any

from kombu.compression import get_decoder

from celery_mysqllock.exceptions import InvalidJob

if TYPE_CHECKING:
    from collections.abc import Callable

# Bytes fed at a time to older releases of brotli, which take no limit.
_BITE = 16


def unpack(body: bytes, compression: str, limit: int) -> bytes:
    """The unpacked body.

    Args:
        body: The packed one.
        compression: kombu's name of the method.
        limit: Most bytes of the unpacked one.

    Raises:
        InvalidJob: It is larger, or cut off.
        KeyError: There is no such method.
        Exception: The method cannot read it; each has errors of its own.
    """
    decoder = get_decoder(compression)
    begin = _INCREMENTAL.get(decoder) or _newer(decoder)
    if begin is None:
        # a method that a program has registered; it knows its own limits
        unpacked: bytes = decoder(body)
        is_whole = True
    elif hasattr(begin(), "process"):
        unpacked, is_whole = _unpack_brotli(begin(), body, limit)
    else:
        decompressor = begin()
        unpacked, is_whole = decompressor.decompress(body, limit + 1), decompressor.eof
    if len(unpacked) > limit:
        raise InvalidJob(
            f"The body unpacks to more than {limit} bytes. Raise unpacked_limit in "
            "broker_transport_options where such tasks are meant."
        )
    if not is_whole:
        raise InvalidJob("The body is cut off: its packed form has no end.")
    return unpacked


def _unpack_brotli(decompressor: Any, body: bytes, limit: int) -> tuple[bytes, bool]:  # noqa: ANN401 - of a library that need not be there
    unpacked = bytearray()
    for at in range(0, len(body), _BITE):
        unpacked += decompressor.process(body[at : at + _BITE])
        if len(unpacked) > limit:
            break
    return bytes(unpacked), decompressor.is_finished()


_INCREMENTAL: dict[Any, Callable[[], Any]] = {
    zlib.decompress: zlib.decompressobj,
    bz2.decompress: bz2.BZ2Decompressor,
    lzma.decompress: lzma.LZMADecompressor,
}


def _newer(decoder: Any) -> Callable[[], Any] | None:  # noqa: ANN401 - a function of a library
    """The incremental way of a library that need not be installed: zstd or brotli."""
    for name in ("compression.zstd", "backports.zstd", "brotli", "brotlicffi"):
        module = sys.modules.get(name)
        if module is not None and getattr(module, "decompress", None) is decoder:
            found: Callable[[], Any] = (
                getattr(module, "ZstdDecompressor", None) or module.Decompressor
            )
            return found
    return None
