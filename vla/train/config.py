"""The options of `vla-train train`, and the checks that they pass before anything is loaded."""

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
    """Options of the optimizer. The paper uses AdamW at 2e-5, with batches of 2048 (pretraining) and 512 (fine-tuning).

    Attributes:
        lr: Largest learning rate, reached after the warm-up.
        schedule: Course of the learning rate after the warm-up: "cosine" falls to 0 at the last step.
        warmup: Number of steps in which the learning rate rises from 0.
        weight_decay: Weight decay, applied to matrices only.
        clip: Largest norm of the gradient; longer gradients are scaled down to it.
        batch_size: Number of samples per optimizer step, over all processes.
        micro_batch: Number of samples that one process runs through the model at once; gradients are accumulated until
            the batch is complete.
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
        out: Folder for the checkpoint, the metrics, and the saved states from which training can continue.
        optim: Options of the optimizer.
        steps: Number of optimizer steps.
        seed: Seed of the shuffling, of the augmentation and of random weights.
        device: Device to train on; "auto" takes a GPU if there is one.
        precision: Number format of the computation; weights stay float32. "auto" is bfloat16 on a GPU and float32 on a
            CPU; a CPU with bfloat16 instructions is two to three times faster with bfloat16.
        workers: Number of processes that load data ahead of the training, for each training process.
        gradient_checkpointing: Use less memory by computing activations a second time, which takes longer.
        shard: Divide weights, gradients and optimizer state among the processes (FSDP2), for models that do not fit one
            GPU. `accelerate launch` with an FSDP configuration does the same.
        save_every: Number of steps between saved states; steps after the last saved state are lost if the process is
            killed.
        log_every: Number of steps between logged metrics.
        save_dtype: Number format in which the checkpoint's weights are saved.
        report: Tracker to which the metrics are sent, besides the folder of the run; a run that goes on after a stop is
            the same run there.
    """

    out: Path
    optim: OptimConfig = field(default_factory=OptimConfig)
    steps: int = 10_000
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"
    precision: Arithmetic = "auto"
    workers: int = 0
    gradient_checkpointing: bool = False
    shard: bool = False
    save_every: int = 500
    log_every: int = 1
    save_dtype: Precision = "float32"
    report: Literal["none", "wandb", "trackio", "tensorboard"] = "none"

    def __post_init__(self) -> None:
        """Refuse a training without steps or samples."""
        if min(self.steps, self.save_every, self.log_every, self.optim.batch_size, self.optim.micro_batch) < 1:
            raise TrainingError("Steps, batch sizes, --save-every and --log-every must be at least 1.")


Loop = Annotated[LoopConfig, tyro.conf.arg(name="")]
"""A `LoopConfig` whose options stand on the command line without a prefix."""


@dataclass(frozen=True)
class ModelOptions:
    """The model to build. If training starts from a checkpoint folder, the checkpoint decides what is not given here.

    Attributes:
        preset: Size of the model: 0.5b, 1.5b, 3b (the paper's), mini, tiny (if not given), or nano (for tests).
        pretrained: Load the published weights of the vision encoders and the language model.
        tokenizer: Tokenizer that replaces the preset's: a hub id or a folder.
        image_size: Height and width of the images that the model reads, in pixels; the preset's by default.
        views: Names for the views of the model's cameras, which say what each camera shows; if not given, the model has
            one camera with the view third_person.
        proprio_dim: Number of values of the proprioceptive state that the model reads; if not given, 0, so that the
            model reads no state, as in the paper.
        action_horizon: Number of actions that the model predicts at once; if not given, 1, as in the paper.
        freeze_vision_encoders: Do not train the vision encoders.
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
        """Return the options, with the default value of each option that is not given."""
        usual = ModelOptions("tiny", views=("third_person",), proprio_dim=0, action_horizon=1)
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(usual, **given)


@dataclass(frozen=True)
class TrainConfig:
    """Train the model on demonstrations: pretraining on motion, or fine-tuning on motion and actions.

    The same command continues a training that was stopped, with the same losses as without the stop.

    Attributes:
        data: Folders of the datasets: LeRobot, RLDS (TFDS), LIBERO HDF5 files, or recorded demonstrations.
        loop: Options of the training loop.
        stage: Stage of the training: "motion" is the paper's pretraining on motion, "action" is pretraining on actions
            alone (the paper's ablation), "finetune" is the fine-tuning that follows either of them.
        motion: Labeller that writes the motion sentences: raw, adaptive, hmm or a plugin's; "none" trains without
            motion sentences.
        init: Weights to start from: "scratch" (pretrained vision encoders and language model), a checkpoint folder, or
            a Prismatic .pt file.
        model: The model to build; if --init is a checkpoint folder, the checkpoint decides what is not given.
        read: How to read the datasets.
        skip: What happens to data that cannot be read.
        check_images: Decode every image before the first step. An image that `vla-train stats --images` or an earlier
            training has decoded is decoded again only if its file has changed.
        weights: How often a step of each dataset is drawn, relative to the other datasets; one number for each folder.
        cameras: Names that the datasets give to the cameras of the model's views; by default the first cameras of each
            dataset.
        cache: Folder in which the features of frozen vision encoders are stored, so that each image is encoded once.
        shift: Largest random shift of the training images, in pixels; pixels at the edge are repeated.
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
        """Refuse options that contradict each other."""
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
        """Whether the trained model says motion sentences."""
        return self.stage != "action" and self.motion != NO_MOTION


MAY_CHANGE = {
    *("out", "workers", "save_every", "log_every", "report", "device", "cache", "gradient_checkpointing", "save_dtype"),
    "shard",
    "optim.micro_batch",
    # Which episodes there are is compared when the position in the data is restored.
    *("skip.skip_bad", "skip.max_bad", "check_images"),
}
"""Options that may change when a training is continued: they do not decide what is learned."""


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
