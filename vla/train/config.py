"""The options of `vla-train train`, and the checks that they pass before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from vla.data.mixtures import choose
from vla.data.read import ReadOptions, check_layouts
from vla.data.whole import SkipOptions
from vla.errors import LabellerError, TrainingError
from vla.model.config import ActionHead
from vla.motion.labellers import RawLabeller
from vla.motion.registry import INTENT, NO_MOTION, RAW, labeller
from vla.train.holdout import HoldoutOptions
from vla.train.recipe import LoraOptions, RecipeConfig, check_effect

TrainStage = Literal["motion", "action", "finetune"]
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
        steps: Number of optimizer steps; if neither this nor --epochs is given, 10000.
        epochs: How often training goes through the data, in place of --steps; a run says how many steps that is.
        seed: Seed of the shuffling, of the augmentation and of random weights.
        device: Device to train on; "auto" takes a GPU if there is one.
        precision: Number format of the computation; weights stay float32. "auto" is bfloat16 on a GPU and float32 on a
            CPU; a CPU with bfloat16 instructions is two to three times faster with bfloat16.
        workers: Number of processes that load data ahead of the training, for each training process; by default none on
            a CPU, and as many as there are spare cores (at most 8) beside a GPU.
        gradient_checkpointing: Use less memory by computing activations a second time, which takes longer.
        compile: Compile the blocks of the language model (torch.compile), which takes a minute before the first step.
            Every sequence is then padded to the longest that there can be.
        ema: Share of an exponential moving average of the weights that each step keeps, such as 0.999: checkpoints and
            held-out numbers are of the average. 0 keeps none.
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
    steps: int | None = None
    epochs: float | None = None
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"
    precision: Arithmetic = "auto"
    workers: int | None = None
    gradient_checkpointing: bool = False
    compile: bool = False
    ema: float = 0.0
    shard: bool = False
    save_every: int = 500
    log_every: int = 1
    save_dtype: Precision = "float32"
    report: Literal["none", "wandb", "trackio", "tensorboard"] = "none"

    def __post_init__(self) -> None:
        """Refuse a training without steps or samples."""
        if self.steps is not None and self.epochs is not None:
            raise TrainingError(
                f"--steps {self.steps} and --epochs {self.epochs:g} both say how long: give one of them."
            )
        if self.epochs is not None and not 0 < self.epochs < float("inf"):
            raise TrainingError(f"--epochs is {self.epochs}; a number above 0 is expected.")
        counts = (self.save_every, self.log_every, self.optim.batch_size, self.optim.micro_batch)
        if min(_STEPS if self.steps is None else self.steps, *counts) < 1:
            raise TrainingError("Steps, batch sizes, --save-every and --log-every must be at least 1.")
        if not 0 <= self.ema < 1:
            raise TrainingError(f"--ema is {self.ema}; a number from 0 up to, not including, 1 is expected.")

    def steps_for(self, samples: int) -> int:
        """Return the optimizer steps in all, where an epoch has so many samples."""
        if self.epochs is not None:
            return max(1, math.ceil(self.epochs * samples / self.optim.batch_size))
        return _STEPS if self.steps is None else self.steps


_STEPS = 10_000

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
        action_head: How the model predicts actions: "autoregressive" (if not given), one token after another, as in the
            paper; "parallel", all tokens in one forward pass; or "l1", all values in one forward pass, learned with an
            L1 loss. A checkpoint that had another head gets a new one.
        freeze_vision_encoders: Do not train the vision encoders.
        image_crop: Share of the area of each image that the model sees: a crop at a random place in training, the
            middle of the image when it acts; if not given, 1, the whole image, as in the paper.
    """

    preset: str | None = None
    pretrained: bool = True
    tokenizer: str | None = None
    image_size: int | None = None
    views: tuple[str, ...] | None = None
    proprio_dim: int | None = None
    action_horizon: int | None = None
    action_head: ActionHead | None = None
    freeze_vision_encoders: bool = False
    image_crop: float | None = None

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
        loop: Options of the training loop.
        data: Folders of the datasets: LeRobot, RLDS (TFDS), LIBERO HDF5 files, or recorded demonstrations. FOLDER@2.5
            draws its steps 2.5 times as often as those of a folder without a weight.
        mixture: Mixture of datasets, instead of --data: a published one (bridge, rtx, oxe_magic_soup,
            oxe_magic_soup_plus, ...), or a TOML or JSON file with a weight for each name.
        root: Folder that holds the datasets of --mixture.
        stage: Stage of the training: "motion" is the paper's pretraining on motion, "action" is pretraining on actions
            alone (the paper's ablation), "finetune" is the fine-tuning that follows either of them.
        motion: Labeller that writes the motion sentences: raw, adaptive, hmm, segments or a plugin's; "intent" takes
            what the experts of recorded demonstrations meant to do; "none" trains without motion sentences.
        raw_threshold: Threshold of --motion raw, in the units of the dataset (ECoT has 0.03, for Bridge). If not given,
            it is searched for each dataset: the one that agrees best with the recorded intents or, where there are
            none, with the labels of hmm.
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
        compact_cache: Store the features of --cache as their principal components in 8 bits, 12 times as small.
        shift: Largest random shift of the training images, in pixels; pixels at the edge are repeated.
        held: What is held out of training.
        recipe: Options of the training recipe, all off by default.
        lora: Low-rank adaptation of the language model, off by default.
    """

    loop: Loop
    data: tuple[Path, ...] = ()
    mixture: str | None = None
    root: Path | None = None
    stage: TrainStage = "finetune"
    motion: str = "adaptive"
    raw_threshold: float | None = None
    init: str = "scratch"
    model: ModelOptions = field(default_factory=ModelOptions)
    read: Annotated[ReadOptions, tyro.conf.arg(name="")] = field(default_factory=ReadOptions)
    skip: Annotated[SkipOptions, tyro.conf.arg(name="")] = field(default_factory=SkipOptions)
    check_images: bool = True
    weights: tuple[float, ...] = ()
    cameras: tuple[str, ...] = ()
    cache: Path | None = None
    compact_cache: bool = False
    shift: int = 0
    held: Annotated[HoldoutOptions, tyro.conf.arg(name="")] = field(default_factory=HoldoutOptions)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    lora: LoraOptions = field(default_factory=LoraOptions)

    def __post_init__(self) -> None:
        """Refuse options that contradict each other."""
        chosen = choose(self.data, self.weights, self.mixture, self.root)
        object.__setattr__(self, "data", chosen.folders)
        object.__setattr__(self, "weights", chosen.weights)
        if not self.data:
            raise TrainingError("Name the datasets, with --data FOLDER ... or --mixture NAME --root FOLDER.")
        if self.weights and len(self.weights) != len(self.data):
            raise TrainingError(f"--weights has {len(self.weights)} numbers for {len(self.data)} folders of --data.")
        check_layouts(self.read.layout, (*self.data, *self.held.holdout_data))
        if self.raw_threshold is not None and not (self.motion == RAW and 0 < self.raw_threshold < float("inf")):
            raise TrainingError(
                f"--raw-threshold {self.raw_threshold} is for --motion raw alone, and must be above 0; --motion is "
                f"{self.motion!r}."
            )
        if self.motion not in (NO_MOTION, INTENT):
            try:
                labeller(self.motion)
            except LabellerError as error:
                raise TrainingError(
                    f"--motion: {error} Or {INTENT!r}, for recorded intents, or {NO_MOTION!r}, for no motion turn."
                ) from error
        elif self.stage == "motion":
            raise TrainingError("--stage motion learns motion sentences: --motion none leaves nothing to learn.")
        if self.compact_cache and not self.cache:
            raise TrainingError("--compact-cache says how --cache stores features: name its folder with --cache.")
        if self.held.eval and self.stage == "motion":
            raise TrainingError("--eval runs policies, and --stage motion learns none: leave it out.")
        check_effect(self.recipe, motion=self.says_motion, action=self.stage != "motion")
        if self.cache and self.shift:
            raise TrainingError("--cache keeps features of the images as they are: --shift cannot change them.")
        if self.cache and self.recipe.jitters:
            raise TrainingError(
                "--cache keeps features of the images as they are: brightness, contrast, saturation and hue cannot "
                "change them. Leave --cache or these options out."
            )

    @property
    def says_motion(self) -> bool:
        """Whether the trained model says motion sentences."""
        return self.stage != "action" and self.motion != NO_MOTION


MAY_CHANGE = {
    *("out", "workers", "save_every", "log_every", "report", "device", "cache", "gradient_checkpointing", "save_dtype"),
    *("compile", "shard", "optim.micro_batch"),
    *("mixture", "root"),  # they stand for --data and --weights, which are compared
    # Which episodes there are is compared when the position in the data is restored.
    *("skip.skip_bad", "skip.max_bad", "check_images"),
    *("held.eval_every", "held.eval_samples", "held.stop_after", "held.eval"),
}
"""Options that may change when a training is continued: they do not decide what is learned."""


def recorded(config: Any) -> dict[str, Any]:  # noqa: ANN401 - any configuration dataclass with a loop
    """Return a configuration as plain JSON data, the loop's options beside the others.

    Options of the model that a checkpoint folder decides stay null.
    """
    fields = asdict(config)
    if not Path(config.init).is_dir():
        fields["model"] = asdict(config.model.filled())
    # What is off is not recorded: a run of before these options goes on.
    if fields["model"]["image_crop"] is None:
        del fields["model"]["image_crop"]
    if config.loop.epochs is None:
        del fields["loop"]["epochs"]
        fields["loop"]["steps"] = config.loop.steps_for(0)
    if not config.loop.ema:
        del fields["loop"]["ema"]
    if "held" in fields and not config.held.given:
        del fields["held"]
    if "lora" in fields and not config.lora.rank:
        del fields["lora"]
    if "raw_threshold" in fields:
        del fields["raw_threshold"]
        # Earlier runs of the raw labeller had its own threshold, and recorded none.
        if config.motion == RAW and config.raw_threshold != RawLabeller.threshold:
            fields["raw_threshold"] = config.raw_threshold or "searched"
    if "recipe" in fields:
        del fields["recipe"]
        fields |= {"recipe": given} if (given := config.recipe.given()) else {}
    return {name: _plain(value) for name, value in {**fields.pop("loop"), **fields}.items()}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
