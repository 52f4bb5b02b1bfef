"""The options of `vla-train evaluate`, read before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from vla.data.read import ReadOptions, check_layouts
from vla.data.whole import SkipOptions
from vla.errors import TrainingError


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a checkpoint on demonstrations, and show what each of its inputs is worth.

    Words and tokens before each prediction are given as they were demonstrated. Nothing is simulated.

    Attributes:
        checkpoint: Folder of the checkpoint.
        data: Folders of the datasets. The checkpoint's statistics of the same name say what their numbers mean.
        unnorm_key: Name of the checkpoint's statistics to use for all data; by default that of each dataset.
        cameras: Names that the datasets give to the cameras of the model's views; by default the cameras of training,
            or the first ones.
        samples: Largest number of samples of each dataset.
        probes: Show what each input is worth: scores with an image, a state, a motion or an instruction from elsewhere.
        held_out_only: Leave out the scenes that the checkpoint was trained on, as far as it lists what was held out.
        json: File to write the numbers to.
        read: How to read the datasets.
        skip: What happens to data that cannot be read.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    data: tuple[Path, ...]
    unnorm_key: str = ""
    cameras: tuple[str, ...] = ()
    samples: int = 512
    probes: bool = True
    held_out_only: bool = False
    json: Path | None = None
    read: Annotated[ReadOptions, tyro.conf.arg(name="")] = field(default_factory=ReadOptions)
    skip: Annotated[SkipOptions, tyro.conf.arg(name="")] = field(default_factory=SkipOptions)

    def __post_init__(self) -> None:
        """Refuse options that leave nothing to score."""
        if not self.data:
            raise TrainingError("--data names no dataset folder.")
        if self.samples < 1:
            raise TrainingError(f"--samples is {self.samples}; at least 1 is expected.")
        check_layouts(self.read.layout, self.data)
