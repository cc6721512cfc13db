"""The example application: a real worker runs what the two producers and plain SQL send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from example_proj.app import app

if TYPE_CHECKING:
    from example_proj.demo.programs import Programs

PATIENCE = 60.0
LOGGED = (
    "1 + 1 = 2",
    "Refreshing the rates.",
    "Rebuilding the short report of account 1.",
    "Booking order 1.",
    "A line of text: Line 1, written by SQL.",
)


def test_a_worker_runs_what_both_producers_send(programs: Programs) -> None:
    celery = ("celery", "--app", "example_proj.app")
    programs.run("migrate", *celery, "mysqllock", "migrate", seconds=PATIENCE)
    worker = programs.start("worker", *celery, "worker", "--concurrency", "2", "--loglevel", "INFO")
    programs.run("producer", "example_proj.produce", "--jobs", "2", seconds=PATIENCE)
    programs.run("SQL producer", "example_proj.produce_sql", "--jobs", "2", seconds=PATIENCE)
    programs.until(
        lambda: all(worker.said(text) for text in LOGGED) and len(worker.said(LOGGED[0])) == 2,
        "the worker has run each kind of job",
        PATIENCE,
        [worker],
    )


def test_each_entry_of_the_beat_schedule_names_a_task() -> None:
    app.loader.import_default_modules()
    assert app.conf.beat_schedule
    for entry in app.conf.beat_schedule.values():
        assert entry["task"] in app.tasks


def test_plain_text_is_for_a_task_that_exists() -> None:
    app.loader.import_default_modules()
    assert app.conf.broker_transport_options["text_task"] in app.tasks
