"""The function that a task was made of, beneath the wrappers of Sentry, autoretry and pydantic."""

from __future__ import annotations

import inspect
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celery import Task

# The module of Celery's wrapper for pydantic=True, and its variable for the function it wraps.
_MODULE, _FUNCTION = "celery.app.base", "task_fun"


def class_run(task: Task) -> Any:  # noqa: ANN401 - any callable, or what makes one
    """The ``run`` of the task's class; tracers and autoretry replace that of the instance."""
    return inspect.getattr_static(type(task), "run")


def bound_run(task: Task) -> Any:  # noqa: ANN401 - any callable
    """The same, to be called without ``self``."""
    run = class_run(task)
    return run.__get__(task, type(task)) if hasattr(run, "__get__") else run


def with_models(
    task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments of a call as the body gets them, with the models of ``pydantic=True``.

    The sender may pass a model or its dict, and the worker gets a dict. So both sides make the
    models before they make a key, with Celery's own wrapper.

    Args:
        task: The task.
        args: The arguments, without ``self``.
        kwargs: The keyword arguments.

    Raises:
        TypeError: The arguments do not fit the task.
        pydantic.ValidationError: One is not valid for its model.
    """
    run = class_run(task)
    wrapper = run.__func__ if isinstance(run, staticmethod) else run
    if not (
        isinstance(wrapper, FunctionType)
        and wrapper.__globals__.get("__name__") == _MODULE
        and _FUNCTION in wrapper.__code__.co_freevars
    ):
        return args, kwargs
    own = () if isinstance(run, staticmethod) else (task,)
    made = _arguments_of_body(wrapper, (*own, *args), kwargs)
    names = [
        name
        for name, parameter in inspect.signature(wrapper).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ][len(own) :]
    return (
        [*(made[name] for name, _ in zip(names, args, strict=False)), *args[len(names) :]],
        {name: made.get(name, value) for name, value in kwargs.items()},
    )


def _arguments_of_body(
    wrapper: FunctionType, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments that the wrapper passes to its function, by name; that is not called."""
    signature = inspect.signature(wrapper)
    found: dict[str, Any] = {}

    def take(*made_args: Any, **made_kwargs: Any) -> None:  # noqa: ANN401 - the task's own
        found.update(signature.bind(*made_args, **made_kwargs).arguments)

    cells = dict(zip(wrapper.__code__.co_freevars, wrapper.__closure__ or (), strict=True))
    cells[_FUNCTION] = CellType(take)
    FunctionType(wrapper.__code__, wrapper.__globals__, closure=tuple(cells.values()))(
        *args, **kwargs
    )
    return found
