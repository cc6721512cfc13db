"""Transactional enqueue: jobs that exist if and only if the caller's own transaction commits."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import threading
from contextlib import ExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from celery import Task, current_task
from celery.local import Proxy

from celery_mysqllock.exceptions import TransactionError
from celery_mysqllock.mysql.caller import CallerConnection, wrap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType

    from celery_mysqllock.broker.message import Payload
    from celery_mysqllock.broker.sessions import Sessions
    from celery_mysqllock.jobs import TransactionalPublisher

F = TypeVar("F")
_current: ContextVar[Transaction | None] = ContextVar("celery_mysqllock.transaction", default=None)


def transaction(connection: Any) -> Transaction:  # noqa: ANN401 - of many kinds
    """Write the jobs that are sent in the block into a transaction of your own connection.

    Each ``delay()``, ``apply_async()``, ``group``, ``chain`` and ``chord`` in the block is an
    INSERT on that connection. The job exists if and only if your transaction commits; its task id
    is there at once. An idle worker is woken after the commit. The connection has to be on the
    broker's server; it may use another database there.

    Who commits? With PyMySQL and mysqlclient the block is the transaction: it commits at its end,
    with what the connection had open before, and rolls back when an exception leaves it. Autocommit
    is off in the block. A block inside of another on the same connection is a savepoint.

    With SQLAlchemy's Session and Connection you do, as ever, and with Django ``atomic()`` or
    ``ATOMIC_REQUESTS`` does; the block ends nothing.

    Not a part of the transaction, and sent at once: remote control, events, and ``self.retry()``,
    whose exception would roll it back.

    As a decorator it goes on a function or an ``async def``, which runs in a block of its own each
    time; not on a generator, whose body runs later, at each iteration.

    Args:
        connection: A connection of PyMySQL or mysqlclient, also wrapped by a pool or a tracer; a
            Session, scoped_session or Connection of SQLAlchemy 2; ``django.db.connection`` or one
            of ``django.db.connections``.

    Returns:
        A context manager, which gives the connection; also a decorator.

    Raises:
        TransactionError: The connection is none of these, or a block of another thread or
            asyncio task is open on it. In the block, from ``delay()``: it is in no transaction, on
            another server than the broker's, or has rows of another statement that are not read
            yet; or the task's broker is not ``mysql://``. Nothing was stored then. At the block's
            end, which then rolls back: the block is left elsewhere than it was entered, or the
            connection is another session than at its beginning. An error of your driver or
            framework comes as it is.
    """
    return Transaction(connection)


def transaction_for(message: Payload, queues: list[str]) -> Transaction | None:
    """The transaction that the message is to be a part of, None for none.

    Args:
        message: The message.
        queues: The queues in which it becomes a job.

    Raises:
        TransactionError: It cannot be.
    """
    return _block_of(message["headers"].get("id")) if queues else None


def check_broker(broker: str, task: str, task_id: object) -> None:
    """Do nothing when a task may be sent now to a broker that is not ``mysql://``.

    Args:
        broker: What the broker is called.
        task: The task's name.
        task_id: Its id.

    Raises:
        TransactionError: A block is open, whose rollback would not reach it.
    """
    if _block_of(task_id) is not None:
        raise TransactionError(
            f"The broker of task {task} is {broker}, which has no part in a transaction of MySQL: "
            "it would run even if that is rolled back. Send it when the block has ended, or use "
            "mysql:// as the broker."
        )


def _block_of(task_id: object) -> Transaction | None:
    current = _current.get()
    if current is None or current.is_over or _is_running(task_id):
        return None
    current.check_thread()
    return current


class Transaction:
    """One block of ``transaction``, or the decorator that makes one for each call.

    Args:
        connection: The caller's.

    Attributes:
        caller: The connection, wrapped; None before the block is entered.
        around: The block that this one is inside of, None for none.
        is_over: Whether the block has been left; a copied context may still hold it.
    """

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - of many kinds
        self.is_over = False
        self._connection = connection
        self.caller: CallerConnection | None = None
        self.around: Transaction | None = None
        self._exit = ExitStack()
        self._thread = (0, 0)
        self._publishers: dict[Sessions, TransactionalPublisher] = {}

    # -- the block --------------------------------------------------------------------------------

    def __enter__(self) -> Any:  # noqa: ANN401 - what the caller gave
        if self.caller is not None:
            raise TransactionError("A block is entered once: call transaction() for each.")
        self.around = _current.get()
        while self.around is not None and self.around.is_over:
            self.around = self.around.around
        self._thread = (os.getpid(), threading.get_ident())
        caller = wrap(self._connection)
        self._exit.enter_context(caller.block(list(self._enclosing())))
        self.caller = caller
        _current.set(self)
        return self._connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        current = _current.get()
        elsewhere = None
        if error is None and current is not self:
            kind = TransactionError
            error = elsewhere = TransactionError(_LEFT_ELSEWHERE)
        try:
            self._exit.__exit__(kind, error, traceback)
        finally:
            self.is_over = True
            if current is self:
                _current.set(self.around)
        if elsewhere is not None:
            raise elsewhere

    def _enclosing(self) -> Iterator[CallerConnection]:
        block = self.around
        while block is not None:
            if block.caller is not None and not block.is_over:
                yield block.caller
            block = block.around

    # -- the decorator ----------------------------------------------------------------------------

    def __call__(self, function: F) -> F:
        """Run the function in a block of its own each time.

        Raises:
            TransactionError: Its body would not run in the block: a generator, a class, a task.
        """
        decorated: F = self._decorated(function)
        return decorated

    def _decorated(self, function: Any) -> Any:  # noqa: ANN401 - the same kind of thing
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(self._decorated(function.__func__))
        _check_decorated(function)
        if _is(inspect.iscoroutinefunction, function):

            @functools.wraps(function)
            async def in_block_async(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
                with Transaction(self._connection):
                    return await function(*args, **kwargs)

            return in_block_async

        @functools.wraps(function)
        def in_block(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            with Transaction(self._connection):
                result = function(*args, **kwargs)
                _check_result(function, result)
                return result

        return in_block

    # -- what is sent in the block ----------------------------------------------------------------

    def publisher(self, sessions: Sessions) -> TransactionalPublisher:
        """What stores jobs of that broker connection in this transaction."""
        assert self.caller is not None  # noqa: S101 - it has been entered
        if sessions not in self._publishers:
            self._publishers[sessions] = sessions.publisher_in(self.caller)
        return self._publishers[sessions]

    def check_thread(self) -> None:
        """Do nothing in the thread of the block.

        Raises:
            TransactionError: This is another thread, greenlet or forked process, to which the
                context was copied.
        """
        if (os.getpid(), threading.get_ident()) != self._thread:
            raise TransactionError(
                "The transaction is another thread's or process's, and so is its connection. Send "
                "the task in the thread of the block, or run this one in a context of its own."
            )


_LEFT_ELSEWHERE = (
    "The block is left in another context than it was entered in, or before a block that was "
    "entered after it: tasks that were sent meanwhile may have been sent at once. It is rolled "
    "back. Use `with` round the code that sends; a dependency or fixture that yields within a "
    "block may run in a thread or task of its own."
)


@contextmanager
def _manager() -> Iterator[None]:
    yield


@asynccontextmanager
async def _async_manager() -> AsyncIterator[None]:
    yield


# Results that run their function later, when they are iterated or entered.
_LAZY: tuple[type, ...] = (
    *(map, filter, itertools.starmap),
    *(type(_manager()), type(_async_manager())),
)


def _is(question: Callable[[Any], bool], function: Any) -> bool:  # noqa: ANN401
    """Whether it is so of a function, or of the ``__call__`` of what stands for one."""
    while isinstance(function, functools.partial):
        function = function.func
    return question(function) or question(getattr(type(function), "__call__", None))  # noqa: B004


def _check_decorated(function: Any) -> None:  # noqa: ANN401 - whatever was decorated
    name = getattr(function, "__qualname__", repr(function))
    # type, because isinstance of a proxy would make the task
    if issubclass(type(function), Proxy) or isinstance(function, Task):
        raise TransactionError(
            f"@transaction goes below @app.task: a worker runs what is below, here of {name}."
        )
    if inspect.isclass(function) or not callable(function):
        raise TransactionError(f"@transaction is for functions, and {name} is none.")
    if _is(inspect.isgeneratorfunction, function) or _is(inspect.isasyncgenfunction, function):
        raise TransactionError(
            f"{name} is a generator: its body runs at each iteration, after a block round the "
            "call. Put `with transaction(connection):` into the body, round what sends."
        )


def _check_result(function: Any, result: Any) -> None:  # noqa: ANN401
    """Refuse what only begins when the block has ended, by whatever wrapper it came."""
    lazy = inspect.isgenerator(result) or inspect.isasyncgen(result) or isinstance(result, _LAZY)
    if lazy or inspect.isawaitable(result):
        for end in ("close", "cancel"):  # a coroutine or generator, or what runs one
            if callable(getattr(result, end, None)):
                getattr(result, end)()
        raise TransactionError(
            f"{getattr(function, '__qualname__', function)!s} returned a "
            f"{type(result).__name__}, whose body would run after the block. Put "
            "@transaction on the `async def` itself, or `with transaction(connection):` into "
            "the body."
        )


def _is_running(task_id: object) -> bool:
    """Whether this is a retry or replacement of the task that runs here.

    Celery sends it and then raises Retry or Ignore, which leaves the block as an exception.
    """
    return bool(task_id and current_task and current_task.request.id == task_id)
