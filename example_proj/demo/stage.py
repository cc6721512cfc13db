"""The stage of the scenes: the database, its ledger, and the two workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from example_proj.demo.ledger import Ledger
    from example_proj.demo.programs import Program, Programs
    from example_proj.demo.progress import Progress, Step

WORKERS = ("one", "two")
TIMEOUT = 60.0  # seconds for a step that should take a few


@dataclass
class Stage:
    """One demo's database, programs and progress.

    Attributes:
        url: The database.
        ledger: The ledger in it.
        programs: Starts programs and waits for them.
        progress: Shows how far a scene is.
        workers: The running workers by name.
    """

    url: str
    ledger: Ledger
    programs: Programs
    progress: Progress
    workers: dict[str, Program] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make the job table and the ledger."""
        with self.progress.step("- the job table is made", 1):
            self.programs.run(
                *("migrate", "celery", "--app", "example_proj.app", "mysqllock", "migrate"),
                seconds=TIMEOUT,
            )
            self.ledger.create()

    def start_workers(self) -> None:
        """Start both workers and return when they are ready."""
        with self.progress.step("- two workers start", len(WORKERS)) as step:
            for name in WORKERS:
                self.workers[name] = self.programs.start(
                    f"worker {name}",
                    *("celery", "--app", "example_proj.demo.tasks", "worker"),
                    *("--hostname", f"{name}@%h", "--concurrency", "2", "--loglevel", "INFO"),
                )

            def ready() -> bool:
                count = sum(bool(worker.said(" ready.")) for worker in self.workers.values())
                step.show(count)
                return count == len(WORKERS)

            self.until(ready, "both workers are ready")

    def kill_worker(self, name: str) -> None:
        """Kill a worker with all its processes, by SIGKILL; return when none is left."""
        worker = self.workers.pop(name)
        worker.kill()
        worker.wait()

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Wait for a condition that the running workers bring about.

        Args:
            done: The condition.
            what: The same in words, for the error.

        Raises:
            DemoFailed: It did not come in a minute, or a worker has ended.
        """
        self.programs.until(done, what, TIMEOUT, list(self.workers.values()))

    def finish(self, scene: str, jobs: int, step: Step) -> None:
        """Wait until so many jobs have run and the job table is empty; errors as in ``until``."""

        def done() -> bool:
            count = self.ledger.count(scene)
            step.show(min(count, jobs))
            return count >= jobs and not self.ledger.jobs()

        self.until(done, f"all {jobs} jobs of scene {scene} have run and left the table")
