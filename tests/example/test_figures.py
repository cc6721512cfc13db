"""What the demo makes of a ledger: it must see each thing that can be wrong."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from rich.console import Console

from example_proj.demo import figures
from example_proj.demo.__main__ import late_runs
from example_proj.demo.figures import Figures
from example_proj.demo.ledger import Ledger, Run
from example_proj.demo.report import report

NOON = datetime(2026, 1, 1, 12)  # noqa: DTZ001 - the ledger's times have no zone


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def run(job: int, start: float, end: float | None, worker: str = "one") -> Run:
    return Run(job, worker, at(start), None if end is None else at(end))


def test_runs_one_after_the_other_do_not_overlap() -> None:
    assert figures.overlaps([run(1, 0, 1), run(2, 1, 2), run(3, 5, 6)]) == 0


def test_a_run_within_a_longer_one_overlaps_although_another_was_between() -> None:
    assert figures.overlaps([run(1, 0, 10), run(2, 1, 2), run(3, 3, 4)]) == 2


def test_a_run_that_never_ended_overlaps_all_later_ones() -> None:
    runs = [run(1, 0, None), run(2, 5, 6)]
    assert figures.overlaps(runs) == 1
    assert figures.overlaps(figures.cut(runs, at(4))) == 0
    assert figures.overlaps(figures.cut(runs, at(5.5))) == 1


def test_a_job_that_ran_twice_is_one_job_and_one_duplicate() -> None:
    runs = [run(1, 0, 1), run(1, 2, 3), run(2, 4, 5)]
    assert figures.jobs_run(runs) == 2
    assert figures.duplicates(runs) == 1


def test_a_run_that_was_killed_makes_no_duplicate() -> None:
    runs = [run(1, 0, None), run(1, 2, 3)]
    assert figures.jobs_run(runs) == 1
    assert figures.duplicates(runs) == 0


def test_the_handover_is_the_median_gap() -> None:
    runs = [run(1, 0, 1), run(2, 1.002, 2), run(3, 2.004, 3), run(4, 4, 5)]
    assert figures.handover(runs) == pytest.approx(4)


def test_a_worker_without_a_run_is_counted_with_none() -> None:
    assert figures.shares([run(1, 0, 1)], ("one", "two")) == {"one": 1, "two": 0}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (Figures("b", "", jobs_in=5, run=4), "b: 4 of 5 jobs ran."),
        (Figures("b", "", duplicates=1), "b: 1 runs were duplicates."),
        (Figures("c", "", overlaps=2), "c: 2 runs overlapped another."),
        (Figures("a", "", handover=2500.0), "a: The hand-over took 2500 ms."),
        (Figures("c", "", handover=-1.0), "c: The hand-over took -1 ms."),
        (Figures("d", "", redelivery=25.0), "d: The redelivery took 25.0 s."),
        (Figures("b", "", shares={"one": 5, "two": 0}), "b: two had no part in it."),
    ],
)
def test_a_wrong_figure_is_told(wrong: Figures, told: str) -> None:
    assert wrong.wrong() == [told]
    console = Console(record=True, width=80)
    report(console, "", [wrong], wrong.wrong())
    text = console.export_text()
    assert told in text
    assert "wrong" in text
    assert "Each figure is right." not in text


def test_right_figures_are_told_as_right() -> None:
    right = Figures(*("d", "killed"), 5, 5, 0, 0, handover=1.5, redelivery=4.0, shares={"one": 5})
    assert right.wrong() == []


def test_a_run_after_the_count_is_told(url: str) -> None:
    ledger = Ledger(url)
    ledger.create()
    counted = [Figures("b", "", jobs_in=1, run=1, duplicates=0)]
    with ledger.run("b", 1, "one"):
        pass
    assert late_runs(ledger, counted) == []
    with ledger.run("b", 1, "two"):
        pass
    assert late_runs(ledger, counted) == ["b: more runs came after the count."]
