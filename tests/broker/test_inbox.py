"""What a channel is to deliver, without a server."""

from __future__ import annotations

from celery_mysqllock.broker.dispatcher import EphemeralMessage, Inbox
from celery_mysqllock.jobs import Wanted


def test_messages_are_taken_in_the_order_in_which_they_came() -> None:
    inbox = Inbox()
    inbox.join("a")
    inbox.join("b")
    came = [EphemeralMessage(queue, str(number)) for number, queue in enumerate("abab")]
    for message in came:
        assert inbox.receive(message.queue, [message])
    assert [inbox.take() for _ in range(5)] == [*came, None]


def test_a_queue_that_is_left_gives_back_what_was_not_taken_and_refuses_the_rest() -> None:
    inbox = Inbox()
    inbox.join("a")
    inbox.join("b")
    for queue in "ab":
        inbox.receive(queue, [EphemeralMessage(queue, "text")])
    assert inbox.leave("a") == [EphemeralMessage("a", "text")]
    assert not inbox.receive("a", [EphemeralMessage("a", "late")])
    assert inbox.take() == EphemeralMessage("b", "text")
    assert inbox.take() is None


def test_without_a_fetcher_the_doorbell_rings_for_messages_and_jobs() -> None:
    inbox = Inbox()
    inbox.join("a")
    assert inbox.wanted == Wanted(frozenset("a"), frozenset("a"))
    assert inbox.job_queues == set()
