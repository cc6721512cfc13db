"""The views of a site whose requests are transactions (``ATOMIC_REQUESTS``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection
from django.http import HttpResponse
from django.urls import path

import celery_mysqllock
from tests.broker.app import note

if TYPE_CHECKING:
    from django.http import HttpRequest


@celery_mysqllock.transaction(connection)
def order(request: HttpRequest, item: str) -> HttpResponse:
    """Send a task, and fail where the item is none."""
    note.delay(item)
    if item == "nothing":
        raise ValueError(item)
    return HttpResponse(item)


urlpatterns = [path("order/<str:item>", order)]
