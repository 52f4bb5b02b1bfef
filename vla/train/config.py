"""What `vla-train train` can be told, and what is refused before anything is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from vla.data.read import ReadOptions, check_layouts
from vla.data.whole import SkipOptions
from vla.errors import LabellerError, TrainingError
from vla.motion.registry import labeller

TrainStage = Literal["motion", "action", "finetune"]
NO_MOTION = "none"
Precision = Literal["float32", "float16", "bfloat16"]
Arithmetic = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class OptimConfig:
    """How weights are changed. The paper: AdamW at 2e-5, batch 2048 for pretraining and 512 for fine-tuning.

    Attributes:
        lr: Highest learning rate.
        schedule: "cosine" falls to 0 at the last step.
        warmup: Steps in which the learning rate rises from 0.
        weight_decay: Of matrices; vectors are spared.
        clip: Largest norm of the gradient.
        batch_size: Samples a step, over all processes.
        micro_batch: Samples that one process runs at once; the rest is accumulated.
    """

    lr: float = 2e-5
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 0
    weight_decay: float = 0.0
    clip: float = 1.0
    batch_size: int = 512
    micro_batch: int = 16


@dataclass(frozen=True)
class LoopConfig:
    """How long training runs, on what, and what it leaves behind.

    Attributes:
        out: Folder for the checkpoint, the metrics and the state to go on from.
        optim: How weights are changed.
        steps: Optimizer steps.
        seed: Of the shuffle, the augmentation and random weights.
        device: "auto" takes a GPU where there is one.
        precision: Of the arithmetic; weights stay float32. "auto" is bfloat16 on a GPU and float32 on a CPU; CPUs with
            bfloat16 instructions are two to three times faster with it.
        workers: Processes that read ahead, for each training process.
        gradient_checkpointing: Trade time for memory.
        save_every: Steps between states; what follows the last one is lost when the process is killed.
        log_every: Steps between lines of metrics.
        save_dtype: In which the checkpoint's weights are stored.
        report: Also send metrics to this service.
    """

    out: Path
    optim: OptimConfig = field(default_factory=OptimConfig)
    steps: int = 10_000
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"
    precision: Arithmetic = "auto"
    workers: int = 0
    gradient_checkpointing: bool = False
    save_every: int = 500
    log_every: int = 1
    save_dtype: Precision = "float32"
    report: Literal["none", "wandb", "trackio"] = "none"

    def __post_init__(self) -> None:
        """Refuse a run of nothing."""
        if min(self.steps, self.save_every, self.log_every, self.optim.batch_size, self.optim.micro_batch) < 1:
            raise TrainingError("Steps, batch sizes, --save-every and --log-every must be at least 1.")


Loop = Annotated[LoopConfig, tyro.conf.arg(name="")]
"""A `LoopConfig` whose options stand on the command line without a prefix."""


@dataclass(frozen=True)
class ModelOptions:
    """What to build. A checkpoint folder that training goes on from decides what is not given here.

    Attributes:
        preset: Size: 0.5b, 1.5b, 3b (the paper's), mini, tiny (if not given), or nano (tests).
        pretrained: Load the published weights of the vision encoders and the language model.
        tokenizer: Instead of the preset's: a hub id or a folder.
        image_size: Instead of the preset's, pixels.
        views: Cameras that the model sees, what each shows; if not given, one called third_person.
        proprio_dim: Numbers of proprioceptive state that it reads; if not given, 0 = none, as the paper.
        action_horizon: Actions that it predicts at once; if not given, 1 as in the paper.
        freeze_vision_encoders: Leave the vision encoders as published.
    """

    preset: str | None = None
    pretrained: bool = True
    tokenizer: str | None = None
    image_size: int | None = None
    views: tuple[str, ...] | None = None
    proprio_dim: int | None = None
    action_horizon: int | None = None
    freeze_vision_encoders: bool = False

    def filled(self) -> ModelOptions:
        """Return the options with what is built where nothing is given."""
        usual = ModelOptions("tiny", views=("third_person",), proprio_dim=0, action_horizon=1)
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(usual, **given)


@dataclass(frozen=True)
class TrainConfig:
    """Train the model on demonstrations: pretraining on motion, or fine-tuning on motion and actions.

    The same command goes on where it was stopped, with the losses it would have had.

    Attributes:
        data: Folders of datasets: LeRobot, RLDS (TFDS) or LIBERO HDF5.
        loop: How long, on what, and where to.
        stage: "motion" is the paper's pretraining, "action" the ablation's pretraining on actions alone, "finetune" the
            second stage.
        motion: Which labeller writes the motion sentences: raw, adaptive, hmm or a plugin's; "none" leaves the motion
            turn out.
        init: "scratch" (pretrained vision encoders and language model), a checkpoint folder, or a Prismatic .pt file.
        model: What to build.
        read: How to read the data.
        skip: What becomes of what cannot be read.
        check_images: Look at every picture before the first step, unless `vla-train stats --images` or an earlier start
            did, and files have not changed since.
        weights: How often a step of each dataset is seen, relative to the others; one number a folder.
        cameras: The datasets' names of the model's views; by default each dataset's first ones.
        cache: Folder in which features of frozen vision encoders are kept, so that images are seen once.
        shift: Augmentation: images are shifted by up to this many pixels, edges repeated.
    """

    data: tuple[Path, ...]
    loop: Loop
    stage: TrainStage = "finetune"
    motion: str = "adaptive"
    init: str = "scratch"
    model: ModelOptions = field(default_factory=ModelOptions)
    read: Annotated[ReadOptions, tyro.conf.arg(name="")] = field(default_factory=ReadOptions)
    skip: Annotated[SkipOptions, tyro.conf.arg(name="")] = field(default_factory=SkipOptions)
    check_images: bool = True
    weights: tuple[float, ...] = ()
    cameras: tuple[str, ...] = ()
    cache: Path | None = None
    shift: int = 0

    def __post_init__(self) -> None:
        """Refuse combinations that mean nothing."""
        if not self.data:
            raise TrainingError("--data names no dataset folder.")
        if self.weights and len(self.weights) != len(self.data):
            raise TrainingError(f"--weights has {len(self.weights)} numbers for {len(self.data)} folders of --data.")
        check_layouts(self.read.layout, self.data)
        if self.motion != NO_MOTION:
            try:
                labeller(self.motion)
            except LabellerError as error:
                raise TrainingError(f"--motion: {error} Or {NO_MOTION!r}, for no motion turn.") from error
        elif self.stage == "motion":
            raise TrainingError("--stage motion learns motion sentences: --motion none leaves nothing to learn.")
        if self.cache and self.shift:
            raise TrainingError("--cache keeps features of the images as they are: --shift cannot change them.")

    @property
    def says_motion(self) -> bool:
        """Whether the model that comes out says a motion sentence."""
        return self.stage != "action" and self.motion != NO_MOTION


MAY_CHANGE = {
    *("out", "workers", "save_every", "log_every", "report", "device", "cache", "gradient_checkpointing", "save_dtype"),
    "optim.micro_batch",
    # Which episodes there are is compared when the position in the data is restored.
    *("skip.skip_bad", "skip.max_bad", "check_images"),
}
"""Options that a run which goes on may have otherwise: they do not decide what is learned."""


def recorded(config: Any) -> dict[str, Any]:  # noqa: ANN401 - any configuration dataclass with a loop
    """Return a configuration as plain JSON data, the loop's options beside the others.

    Options of the model that a checkpoint folder decides stay null.
    """
    fields = asdict(config)
    if not Path(config.init).is_dir():
        fields["model"] = asdict(config.model.filled())
    return {name: _plain(value) for name, value in {**fields.pop("loop"), **fields}.items()}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
