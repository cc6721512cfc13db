"""Makes the key of a task's lock from the task's name and the arguments of the call."""

from __future__ import annotations

import inspect
import json
import string
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.tasks.canonical import canonical, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from celery import Task

    from celery_mysqllock.tasks.options import LockOptions


def signature_of(run: Callable[..., Any]) -> inspect.Signature:
    """The parameters of a task's function, with annotations left unevaluated.

    Python 3.14 evaluates annotations here, and fails on names imported for type checkers only.
    """
    if sys.version_info >= (3, 14):
        from annotationlib import Format  # noqa: PLC0415 - exists since 3.14 only

        return inspect.signature(run, annotation_format=Format.STRING)
    return inspect.signature(run)


def check_key(task_name: str, options: LockOptions, signature: inspect.Signature) -> None:
    """Check that the options name parameters that the task has.

    Raises:
        SettingsError: ``unique_on`` or the template names none, or the template cannot be read.
    """
    if any(kind.kind is kind.VAR_KEYWORD for kind in signature.parameters.values()):
        known = None
    else:
        known = [name for name in signature.parameters if name != "self"]
    for option, names in (
        ("unique_on", options.unique_on or ()),
        ("key", _template_names(task_name, options.key) if isinstance(options.key, str) else ()),
    ):
        for name in names:
            if known is not None and name not in known:
                raise SettingsError(
                    f"The lock of task {task_name}: {option} names {name!r}, which is no parameter "
                    f"of the task; it has {', '.join(known) or 'none'}."
                )


def _template_names(task_name: str, template: str) -> list[str]:
    def wrong(problem: object) -> NoReturn:
        raise SettingsError(
            f"The lock of task {task_name}: the template key={template!r} {problem}. Write "
            "parameters in braces, as in 'report:{account}', and a literal brace twice."
        )

    names = []
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        wrong(f"cannot be read: {error}")
    for _, field, spec, conversion in pieces:
        if field is None:
            continue
        name = field.partition(".")[0].partition("[")[0]
        if not name or name.isdigit():
            wrong("names a parameter by its place")
        if conversion or "{" in (spec or ""):
            wrong(f"converts {{{field}}}, which a key cannot do")
        names.append(name)
    return names


def key_of(
    task: Task,
    options: LockOptions,
    signature: inspect.Signature,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> str:
    """The key of the lock for a call of the task.

    Raises:
        TypeError: The arguments do not fit the task, or one has no canonical text.
        SettingsError: The key is empty.
    """
    task_name = str(task.name)
    if callable(options.key):
        key = options.key(task, *args, **kwargs)
        if not isinstance(key, str):
            raise TypeError(
                f"The lock of task {task_name}: its key= gave a {type(key).__qualname__}, and the "
                "key of a lock is a str."
            )
    elif not options.reads_arguments:
        key = task_name
    else:
        if options.unique_on is not None:
            _check_named(task_name, options.unique_on, signature, args)
        key = _from_arguments(task_name, options, _bound(task_name, signature, args, kwargs))
    if not key.strip():
        raise SettingsError(f"The lock of task {task_name}: its key is empty for this call.")
    return key


def _bound(
    task_name: str,
    signature: inspect.Signature,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> dict[str, Any]:
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(
            f"The lock of task {task_name}: its key is made of arguments that do not fit the "
            f"function: {error}. If a decorator of the function adds or takes away arguments, give "
            "the lock a key= that is a callable(task, *args, **kwargs)."
        ) from error
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments = {**arguments.pop(parameter.name), **arguments}
    return arguments


def _check_named(
    task_name: str, names: Iterable[str], signature: inspect.Signature, args: Sequence[Any]
) -> None:
    """Do nothing if it is known which of the arguments have these names.

    Raises:
        TypeError: The function names no parameter (``*args, **kwargs``), and some arguments were
            given by position.
    """
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if args and kinds == {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        raise TypeError(
            f"The lock of task {task_name}: which argument is {', '.join(map(repr, names))} is not "
            "known, as the function takes *args. Give it by name, or use functools.wraps in the "
            "decorator that hides the function's parameters."
        )


def _from_arguments(task_name: str, options: LockOptions, arguments: Mapping[str, Any]) -> str:
    if isinstance(options.key, str):
        return _Template(task_name).vformat(options.key, (), arguments)
    names: Iterable[str] = arguments if options.unique_on is None else options.unique_on
    texts = sorted(
        f"{json.dumps(name)}:{_checked(task_name, name, arguments[name], canonical)}"
        for name in names
        if name in arguments
    )
    return f"{task_name}:{{{','.join(texts)}}}"


def _checked(task_name: str, name: str, value: object, text: Callable[[object], str]) -> str:
    try:
        return text(value)
    except TypeError as error:
        raise TypeError(
            f"The lock of task {task_name}: the argument {name!r} {error}. Give the lock a key= "
            "that says what of it matters, such as 'report:{account.id}' or a "
            "callable(task, *args, **kwargs)."
        ) from None


class _Template(string.Formatter):
    """Fills a template with canonical texts, so that no repr with a memory address gets in."""

    def __init__(self, task_name: str) -> None:
        self._task_name = task_name
        self._field = ""

    def get_field(
        self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, str]:
        self._field = field_name
        try:
            value, name = super().get_field(field_name, args, kwargs)
        except (LookupError, AttributeError) as error:
            raise TypeError(
                f"The lock of task {self._task_name}: its key= takes {{{field_name}}}, which this "
                f"call does not have ({type(error).__name__}: {error})."
            ) from error
        return value, str(name)

    def format_field(self, value: object, format_spec: str) -> str:
        text = _checked(self._task_name, self._field, value, plain)
        return format(value, format_spec) if format_spec else text
