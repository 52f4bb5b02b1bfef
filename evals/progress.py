"""Shows the progress of a run: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from evals.terminal.tables import PlainConsole
from evals.terminal.text import one_line
from evals.types import Episode, EpisodeResult, Status, Suite

_NARROW = 48  # columns below which a table of tasks would lose its numbers


class Quiet:
    """Tells nobody."""

    def start(self, suite: Suite, episodes: list[Episode], done: list[EpisodeResult]) -> None:
        """Keep silent."""

    def say(self, text: str) -> None:
        """Keep silent."""

    def finished(self, result: EpisodeResult) -> None:
        """Keep silent."""


class ConsoleProgress:
    """Shows counts per task, success rate, episodes per second and time left; to be used as a context manager."""

    def __init__(self, console: PlainConsole) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._planned: Counter[int] = Counter()
        self._scored: Counter[int] = Counter()
        self._successes: Counter[int] = Counter()
        self._errors: Counter[int] = Counter()
        self._fresh = 0

    def __enter__(self) -> ConsoleProgress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def start(self, suite: Suite, episodes: list[Episode], done: list[EpisodeResult]) -> None:
        """Show the plan; episodes that are already recorded count in the rates but not in the speed."""
        self._suite = suite
        self._planned = Counter(episode.task for episode in episodes)
        for result in done:
            self._count(result)
        self._started = time.monotonic()
        if done:
            self.say(f"Continuing: {len(done)} of {len(episodes)} episodes are already recorded.")
        self._show()

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, soft_wrap=True)

    def finished(self, result: EpisodeResult) -> None:
        """Show one result."""
        self._count(result)
        self._fresh += result.status.scored
        if self._live:
            self._show()
        else:
            self.say(self._line(result))
        *_, last = ("", *(result.error or "").strip().splitlines())
        if last:
            self.say(f"  attempt {result.attempt}: {last}")

    def _count(self, result: EpisodeResult) -> None:
        self._scored[result.task] += result.status.scored
        self._successes[result.task] += result.status is Status.SUCCESS
        self._errors[result.task] += not result.status.scored

    def _line(self, result: EpisodeResult) -> str:
        split = result.seconds
        seconds = split.physics + split.render + split.policy + split.reset
        what = f"task {result.task} state {result.initial_state} {result.status.value}"
        count = f"{self._scored.total()}/{self._planned.total()}"
        return f"{count} {what}, {result.steps} steps, {seconds:.1f} s | {self._rate()}"

    def _rate(self) -> str:
        scored, planned = self._scored.total(), self._planned.total()
        speed = self._fresh / max(time.monotonic() - self._started, 1e-9)
        parts = [f"{self._successes.total()}/{scored} succeeded"]
        if scored:
            parts[0] += f" ({100 * self._successes.total() / scored:.1f} %)"
        if self._fresh:
            minutes, seconds = divmod(round((planned - scored) / speed), 60)
            parts += [f"{speed:.2f} episodes/s", f"{minutes}:{seconds:02d} left"]
        return ", ".join(parts)

    def _show(self) -> None:
        if not self._live:
            return
        if self._console.width < _NARROW:
            self._live.update(Text(self._rate()), refresh=True)
            return
        table = Table(box=None, pad_edge=False)
        for name in ("task", "", "done", "succeeded", "errors"):
            numbers = name != ""
            table.add_column(name, justify="right" if numbers else "left", no_wrap=numbers)
        for task, planned in self._planned.items():
            counts = (f"{self._scored[task]}/{planned}", str(self._successes[task]), str(self._errors[task] or ""))
            table.add_row(str(task), one_line(self._suite.tasks[task].name), *counts)
        self._live.update(Group(table, Text(self._rate())), refresh=True)
