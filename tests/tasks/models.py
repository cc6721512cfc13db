"""Models of pydantic, and functions of tasks that take them."""

# no "from __future__ import annotations": as most programs that use pydantic

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from celery_mysqllock.tasks import current_lock


class Customer(BaseModel):
    """Who orders."""

    name: str
    since: datetime | None = None


class Order(BaseModel):
    """What is ordered."""

    number: int
    customer: Customer
    tags: set[str] = Field(default_factory=set)
    weight: float = 1


def ship(order: Order, to: str = "home", *rest: str, more: Order | None = None) -> str:
    """Tell the lock."""
    assert isinstance(order, Order)
    return current_lock().name


def ship_bound(self: Any, order: Order, to: str = "home", *, more: Order | None = None) -> str:
    """Tell the lock."""
    assert isinstance(order, Order)
    return current_lock().name
