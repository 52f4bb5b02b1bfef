"""An exponential moving average of the weights that are trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vla.errors import TrainingError

_WARM_UP = 10


class MovingAverage:
    """Keeps the average beside the weights; its state is saved with the run's.

    In the first steps the average forgets faster, so that it does not hold on to the weights that training began with:
    after n steps its decay is at most (1 + n) / (10 + n).

    Args:
        model: on its device, before the first step.
        decay: share of the average that a step keeps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay, self._steps = decay, 0
        self._trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._average = {name: weight.detach().clone() for name, weight in self._trained.items()}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def update(self) -> None:
        """Take in the weights of a step."""
        decay = min(self._decay, (1 + self._steps) / (_WARM_UP + self._steps))
        self._steps += 1
        for name, average in self._average.items():
            average.lerp_(self._trained[name].detach().to(average.dtype), 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in the place of the weights, and the weights back afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        """Return what a restart needs."""
        return {"steps": self._steps, "average": dict(self._average)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._steps = int(state["steps"])
        for name, average in self._average.items():
            average.copy_(state["average"][name])

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _swap(self) -> None:
        for name, average in self._average.items():
            held: Tensor = self._trained[name].detach().clone()
            self._trained[name].copy_(average)
            average.copy_(held)


def moving_average(model: nn.Module, decay: float, accelerator: Accelerator, divided: bool) -> MovingAverage | None:
    """Make the average that --ema asks for, saved and restored with the run; None without one.

    Raises:
        TrainingError: the weights are divided among processes.
    """
    if not decay:
        return None
    if divided:
        raise TrainingError("--ema needs the whole weights in every process, and they are divided among processes.")
    average = MovingAverage(model, decay)
    accelerator.register_for_checkpointing(average)
    return average
