"""Batches of a mixture for training: read ahead by worker processes, divided among ranks, resumable at any batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from vla.data.errors import DataError
from vla.errors import ModelError

Batch = TypeVar("Batch")


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
    ) -> None:
        """Prepare a loader.

        Args:
            mixture: what to draw from.
            collate: makes a batch of samples; must be picklable if there are workers.
            batch_size: samples a batch has, of this rank.
            shard: (rank, number of ranks).
            workers: processes that read ahead; 0 reads in this one.
            samples: where to stop, counted from the mixture's beginning over all ranks; by default never. The last
                batch may be smaller than the others, and a rank may have one batch less than another.
        """
        self._mixture, self._collate, self._batch_size = mixture, collate, batch_size
        self._shard, self._workers, self._samples = shard, workers, samples
        self._taken = 0

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches after those handed out so far."""
        from torch.utils.data import DataLoader

        loader = DataLoader(
            _Answers(self._mixture),
            batch_sampler=_Positions(self._batch_size, self._shard, self._taken, self._samples),
            num_workers=self._workers,
            collate_fn=_Collated(self._collate),
            multiprocessing_context="forkserver" if self._workers else None,
        )
        for batch in loader:
            if isinstance(batch, Exception):
                raise batch
            self._taken += self._batch_size * self._shard[1]
            yield batch

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

    samples: SampleSequence

    def __getitem__(self, position: int) -> Any:  # noqa: ANN401  what a sample is, only `collate` needs to know
        try:
            return self.samples[position]
        except (DataError, ModelError) as error:
            return error

    def __len__(self) -> int:
        return len(self.samples)


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
