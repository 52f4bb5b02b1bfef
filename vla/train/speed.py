"""What makes a training step faster on the device at hand, and changes its losses by rounding only."""

from __future__ import annotations

import torch

from vla.errors import TrainingError
from vla.model.network import MotionVLA

_SHOWN = 300


def speed_up(model: MotionVLA, device: torch.device, compiled: bool) -> None:
    """Choose the faster attention, and compile the language model's blocks if asked to; the weights keep their names.

    On a CPU the backward pass of PyTorch's fused attention (SDPA) is slower than that of plain matrix products; on a
    GPU it is faster and needs less memory.

    Args:
        model: to be trained.
        device: where.
        compiled: whether to compile. Sequences of one length (`vla.train.collate.widest`) are compiled once; with other
            lengths the blocks are compiled a second time, for any length.

    Raises:
        TrainingError: this machine cannot compile.
    """
    model.language.set_attn_implementation("eager" if device.type == "cpu" else "sdpa")
    if compiled:
        _check_compiler(device)
        for layer in model.decoder.layers:
            layer.compile()


def _check_compiler(device: torch.device) -> None:
    """Compile something small, which finds out what is missing before data are read into a step.

    Raises:
        TrainingError: it fails.
    """
    try:
        torch.compile(lambda values: values.sin() + values)(torch.zeros(8, device=device))
    except (RuntimeError, ImportError, OSError) as error:
        cause = str(error).strip().partition("\n")[0][:_SHOWN]
        needed = "a C++ compiler (g++ or clang++) and Python's headers" if device.type == "cpu" else "Triton"
        raise TrainingError(
            f"--compile: PyTorch cannot compile on this machine ({type(error).__name__}: {cause}). It needs {needed}: "
            "install them, or leave --compile out."
        ) from error
