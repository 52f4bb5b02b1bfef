"""Batches of a mixture for training: read ahead by worker processes, divided among ranks, resumable at any batch."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from vla.data.errors import DataError
from vla.data.shared import Shared
from vla.errors import ModelError

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

Batch = TypeVar("Batch")

_AHEAD = 4
"""Batches that each worker reads ahead."""
_MOST_WORKERS = 8


def usual_workers(on_gpu: bool, processes: int) -> int:
    """Return how many processes should read ahead for each training process.

    Beside a GPU, as many as there are cores to spare, at most 8: decoding images in the training process would starve
    it. On a CPU none: they would take the cores that train.

    Args:
        on_gpu: whether a GPU trains.
        processes: training processes on this machine.
    """
    cores = len(os.sched_getaffinity(0))
    return max(1, min(_MOST_WORKERS, cores // max(processes, 1) - 1)) if on_gpu else 0


class SampleSequence(Protocol):
    """An endless sequence whose samples are functions of their position, such as a `Mixture`."""

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the order of samples."""
        ...

    def __getitem__(self, position: int) -> Any: ...  # noqa: ANN401  what a sample is, only `collate` needs to know

    def __len__(self) -> int: ...


class MixtureLoader(Generic[Batch]):
    """Batches of a mixture for one rank.

    The batch of step `i` is the same for any number of workers, and the batches of all ranks together are that of one
    process with the batch size `ranks x batch_size`.
    """

    def __init__(
        self,
        mixture: SampleSequence,
        collate: Callable[[list[Any]], Batch],
        batch_size: int,
        *,
        shard: tuple[int, int] = (0, 1),
        workers: int = 0,
        samples: int | None = None,
        pin: bool = False,
    ) -> None:
        """Prepare a loader.

        Args:
            mixture: what to draw from.
            collate: makes a batch of samples; must be picklable if there are workers.
            batch_size: samples a batch has, of this rank.
            shard: (rank, number of ranks).
            workers: processes that read ahead; 0 reads in this one. They get the mixture by a temporary file, so that
                its arrays are in memory once.
            samples: where to stop, counted from the mixture's beginning over all ranks; by default never. The last
                batch may be smaller than the others, and a rank may have one batch less than another.
            pin: whether batches are put into page-locked memory, from which a GPU copies while it computes.
        """
        self._mixture, self._collate, self._batch_size = mixture, collate, batch_size
        self._shard, self._workers, self._samples = shard, workers, samples
        self._pin = pin
        self._taken = 0

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches after those handed out so far."""
        with contextlib.ExitStack() as stack:
            samples = _Answers(self._mixture)
            if self._workers:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vla-loader-"))
                samples = _Answers(Shared(self._mixture, Path(folder) / "mixture"))
            batches = iter(self._loader(samples))
            # Before the file of the mixture goes: processes that are starting still read it.
            stack.callback(lambda: getattr(batches, "_shutdown_workers", lambda: None)())
            for batch in batches:
                if isinstance(batch, Exception):
                    raise batch
                self._taken += self._batch_size * self._shard[1]
                yield batch

    def _loader(self, samples: _Answers) -> DataLoader[Any]:
        from torch.utils.data import DataLoader

        return DataLoader(
            samples,
            batch_sampler=_Positions(self._batch_size, self._shard, self._taken, self._samples),
            num_workers=self._workers,
            collate_fn=_Collated(self._collate),
            multiprocessing_context="forkserver" if self._workers else None,
            prefetch_factor=_AHEAD if self._workers else None,
            pin_memory=self._pin,
        )

    @property
    def epoch(self) -> int:
        """Samples of an epoch, over all ranks."""
        return len(self._mixture)

    def state_dict(self) -> dict[str, Any]:
        """Return how far the batches handed out reach, over all ranks; those read ahead do not count."""
        return {"samples": self._taken, "mixture": self._mixture.fingerprint}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue after the last batch of `state`; another number of ranks or batch size is fine.

        Raises:
            ValueError: the state is of another mixture.
        """
        if state["mixture"] != self._mixture.fingerprint:
            raise ValueError(
                f"The saved position belongs to mixture {state['mixture']}, this one is {self._mixture.fingerprint}: "
                "its episodes, weights or seed differ. Restore them, or start a new run."
            )
        self._taken = int(state["samples"])


@dataclass(frozen=True)
class _Answers:
    """The samples of a sequence; one that cannot be read is the error: torch would make a text of it on the way."""

    samples: SampleSequence | Shared

    def __getitem__(self, position: int) -> Any:  # noqa: ANN401  what a sample is, only `collate` needs to know
        samples = self.samples.held if isinstance(self.samples, Shared) else self.samples
        try:
            return samples[position]
        except (DataError, ModelError) as error:
            return error

    def __len__(self) -> int:
        return len(self.samples.held if isinstance(self.samples, Shared) else self.samples)


@dataclass(frozen=True)
class _Collated:
    """Batches of samples; of samples among which there is an error, the error."""

    collate: Callable[[list[Any]], Any]

    def __call__(self, samples: list[Any]) -> Any:  # noqa: ANN401  as for samples
        try:
            return next((sample for sample in samples if isinstance(sample, Exception)), None) or self.collate(samples)
        except (DataError, ModelError) as error:
            return error


@dataclass(frozen=True)
class _Positions:
    """The positions of one rank's batches, from `first` on, up to `end` if there is one."""

    batch_size: int
    shard: tuple[int, int]
    first: int
    end: int | None

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = self.shard
        start = self.first + rank * self.batch_size
        while self.end is None or start < self.end:
            stop = start + self.batch_size
            yield list(range(start, stop if self.end is None else min(stop, self.end)))
            start += self.batch_size * world
