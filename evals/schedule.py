"""Decides which worker runs which episode; a worker keeps its task, since building a scene takes seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from evals.types import Episode


class Schedule:
    """The episodes that are still to run, by task."""

    def __init__(self, episodes: Iterable[Episode]) -> None:
        self._queues: dict[int, deque[Episode]] = {}
        for episode in episodes:
            self._queues.setdefault(episode.task, deque()).append(episode)
        self._task_of: dict[int, int] = {}

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def next(self, worker: int) -> Episode | None:
        """Take the next episode for a worker: of its task, else of a task without worker, else of the longest queue."""
        task = self._task_of.get(worker)
        if task is None or not self._queues.get(task):
            open_tasks = [t for t, queue in self._queues.items() if queue]
            if not open_tasks:
                return None
            taken = {t for w, t in self._task_of.items() if w != worker}
            free = [t for t in open_tasks if t not in taken]
            task = free[0] if free else max(open_tasks, key=lambda t: len(self._queues[t]))
            self._task_of[worker] = task
        return self._queues[task].popleft()

    def put_back(self, episode: Episode) -> None:
        """Put back an episode whose attempt crashed; it runs next."""
        self._queues.setdefault(episode.task, deque()).appendleft(episode)
