"""For what the doorbell listens when several threads say so at once, without a server."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from celery_mysqllock.broker.dispatcher import Dispatcher, Inbox
from celery_mysqllock.jobs import Wanted

if TYPE_CHECKING:
    from celery_mysqllock.broker.sessions import Sessions


class Bell:
    """Keeps what it was to listen for last."""

    wanted = Wanted()

    def listen(self, wanted: Wanted, _: object) -> None:
        self.wanted = wanted


class SlowInbox(Inbox):
    """An inbox whose thread stands still for a moment after it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.was_asked, self.may_go_on = threading.Event(), threading.Event()

    @property
    def wanted(self) -> Wanted:
        wanted = super().wanted
        if not self.was_asked.is_set():
            self.was_asked.set()
            self.may_go_on.wait(10)
        return wanted


def opened(bell: Bell) -> Dispatcher:
    sessions: Any = SimpleNamespace(
        main=None, liveness=SimpleNamespace(identity="a" * 32), open_bell=lambda **_: bell
    )
    dispatcher = Dispatcher()
    dispatcher.open(cast("Sessions", sessions))
    assert dispatcher.identity
    return dispatcher


def test_the_doorbell_forgets_no_queue_when_two_threads_arm_it() -> None:
    bell, inbox = Bell(), SlowInbox()
    dispatcher = opened(bell)
    dispatcher.add(inbox)
    # one thread has seen no queue when another one has joined it, and says so first
    first = threading.Thread(target=dispatcher.arm)
    first.start()
    assert inbox.was_asked.wait(10)
    inbox.join("a")
    second = threading.Thread(target=dispatcher.arm)
    second.start()
    second.join(0.5)
    inbox.may_go_on.set()
    first.join(10)
    second.join(10)
    assert bell.wanted == Wanted(frozenset("a"), frozenset("a"))
