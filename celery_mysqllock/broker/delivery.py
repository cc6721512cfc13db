"""A delivered message that records why its body could not be decoded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.transport import virtual

from celery_mysqllock.broker.envelope import check_body
from celery_mysqllock.broker.unpacking import unpack
from celery_mysqllock.exceptions import InvalidJob

if TYPE_CHECKING:
    from collections.abc import Callable


class Delivery(virtual.Message):
    """A delivered message.

    Celery acknowledges a message that it cannot decode, and RabbitMQ forgets it. Here such a job is
    kept as dead: see ``Channel.basic_ack``.
    """

    #: Why the body could not be decoded, None if it could or was not read yet.
    flaw: str | None = None
    #: Tells how its task has failed, None while it has not.
    failure: Callable[[], str] | None = None
    _is_buried = False

    def __init__(self, payload: dict[str, Any], channel: Any = None, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's
        headers = payload["headers"]
        if compression := headers.get("compression"):
            try:
                limit = channel.transport.settings.unpacked_limit
                body = unpack(payload["body"], compression, limit)
                # kombu would unpack whatever it comes to
                others = {name: headers[name] for name in headers if name != "compression"}
                payload = {**payload, "body": body, "headers": others}
            except Exception:  # noqa: BLE001 - of whichever method it is
                self.errors = [sys.exc_info()]
        super().__init__(payload, channel=channel, **kwargs)
        self.headers = headers
        if self.errors:
            # what kombu would have caught itself: type, error and traceback
            self.flaw = _sentence(self.errors[0][1])

    def bury(self, reason: str) -> None:
        """Keep the message as dead; later acks and rejections of it have no effect."""
        if not self.acknowledged:
            self.failure = lambda: reason
            self.reject()
            self._is_buried = True

    def ack(self, multiple: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
        """The message is done."""
        if not self._is_buried:
            super().ack(multiple)

    def reject(self, requeue: float = False) -> None:  # noqa: FBT002 - kombu's
        """The message goes back, or is dead; see ``Channel.basic_reject``."""
        if not self._is_buried:
            super().reject(requeue)

    def _decode(self) -> Any:  # noqa: ANN401 - whatever was sent
        try:
            decoded = super()._decode()
            if "task" in self.headers:
                check_body(decoded)
        except Exception as error:
            self.flaw = _sentence(error)
            if isinstance(error, (ContentDisallowed, DecodeError)):
                raise
            # Celery goes on after these two; anything else would end the worker
            raise DecodeError(str(error)) from error
        return decoded


def _sentence(error: BaseException | None) -> str:
    if isinstance(error, InvalidJob):
        return str(error)
    return f"The body cannot be decoded: {type(error).__name__}: {error}"
