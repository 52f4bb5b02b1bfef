"""Options that change what is learnt from the data; each is off by default, as the paper has none of them."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vla.errors import TrainingError
from vla.statistics import DIMENSIONS


@dataclass(frozen=True)
class RecipeConfig:
    """Options of the training recipe. None of them is the paper's, and each is off if it is not given.

    Attributes:
        axis_floor: Smallest range that the action tokens of an axis cover, as a share of the largest range: of the
            translations for x, y, z, of translations and rotations for roll, pitch, yaw. The checkpoint's statistics
            hold the widened ranges.
        soft_bins: Standard deviation, in bins, of a Gaussian over neighbouring action tokens that replaces the one
            right token as the target (HL-Gauss); the gripper and the logged loss keep the one right token.
        motion_weight: Weight of the loss of motion tokens; the logged loss is not weighted.
        action_weight: Weight of the loss of action tokens; the logged loss is not weighted.
        dimension_weights: Seven weights of the loss of the action tokens: x, y, z, roll, pitch, yaw, gripper.
        proprio_dropout: Share of the samples whose proprioceptive state is replaced by zeros, the middle of its range.
        proprio_noise: Standard deviation of Gaussian noise on the normalised proprioceptive state, whose 1 % and 99 %
            quantiles are -1 and 1.
        dropout: Share of the numbers of the language model's input embeddings that are set to zero.
        brightness: Largest relative change of an image's brightness: 0.2 draws a factor from 0.8 to 1.2.
        contrast: Largest relative change of an image's contrast.
        saturation: Largest relative change of an image's colour saturation.
        hue: Largest change of an image's hue, as a share of the colour circle, at most 0.5.
    """

    axis_floor: float = 0.0
    soft_bins: float = 0.0
    motion_weight: float = 1.0
    action_weight: float = 1.0
    dimension_weights: tuple[float, ...] = ()
    proprio_dropout: float = 0.0
    proprio_noise: float = 0.0
    dropout: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing, by the option's name."""
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                option = name.replace("_", "-")
                raise TrainingError(f"--recipe.{option} is {value}; a number from {low:g} to {high:g} is expected.")
        weights = self.dimension_weights
        if weights and (len(weights) != len(DIMENSIONS) or not all(0 <= one <= _HEAVIEST for one in weights)):
            raise TrainingError(
                f"--recipe.dimension-weights is {list(weights)}; {len(DIMENSIONS)} numbers from 0 to {_HEAVIEST:g} are "
                f"expected, for {', '.join(DIMENSIONS)}."
            )

    @property
    def jitters(self) -> bool:
        """Whether colours change."""
        return bool(self.brightness or self.contrast or self.saturation or self.hue)

    @property
    def weighs(self) -> bool:
        """Whether something else than the mean cross-entropy of all tokens is minimised."""
        weighted = any(weight != 1 for weight in (self.motion_weight, self.action_weight, *self.dimension_weights))
        return weighted or bool(self.soft_bins)

    def given(self) -> dict[str, object]:
        """Return the options that are not off, by name: what a run's configuration records."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}


def check_effect(recipe: RecipeConfig, motion: bool, action: bool) -> None:
    """Refuse options that nothing would come of.

    Args:
        recipe: the options.
        motion: whether motion sentences are learnt.
        action: whether actions are.

    Raises:
        TrainingError: an option for tokens that are not learnt is given, or all that is learnt has the weight 0.
    """
    without = [] if action else ["axis_floor", "soft_bins", "action_weight", "dimension_weights"]
    without += [] if motion else ["motion_weight"]
    if idle := [f"--recipe.{name.replace('_', '-')}" for name in without if name in recipe.given()]:
        raise TrainingError(f"{', '.join(idle)} would change nothing: this stage learns no such tokens. Leave it out.")
    if not ((motion and recipe.motion_weight) or (action and recipe.action_weight)):
        raise TrainingError("Nothing is to be learnt: --recipe.motion-weight and --recipe.action-weight leave no loss.")


def check_state(recipe: RecipeConfig, proprio_dim: int) -> None:
    """Refuse changes of a state that the model does not read.

    Raises:
        TrainingError: there are some.
    """
    if not proprio_dim and (recipe.proprio_dropout or recipe.proprio_noise):
        raise TrainingError(
            "--recipe.proprio-dropout and --recipe.proprio-noise change the proprioceptive state, and this model reads "
            "none. Leave them out, or give --model.proprio-dim."
        )


_HEAVIEST = 1000.0
_SHARE, _BELOW_ONE, _WEIGHT = (0.0, 1.0), (0.0, 0.99), (0.0, _HEAVIEST)
_RANGES = {
    "axis_floor": _SHARE,
    "soft_bins": (0.0, 64.0),
    "motion_weight": _WEIGHT,
    "action_weight": _WEIGHT,
    "proprio_dropout": _SHARE,
    "proprio_noise": (0.0, 2.0),
    "dropout": _BELOW_ONE,
    "brightness": _BELOW_ONE,
    "contrast": _BELOW_ONE,
    "saturation": _BELOW_ONE,
    "hue": (0.0, 0.5),
}


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank adaptation (LoRA) of the language model; the projector is trained in full beside it.

    Attributes:
        rank: Rank of the update of each linear layer of the language model; 0 trains all of its weights. Needs the
            package peft.
        alpha: Scale of the updates: they are multiplied by alpha / rank.
        embeddings: Train the embedding table too, which holds the action tokens; can be left out if --init has learnt
            to act.
    """

    rank: int = 0
    alpha: float = 16.0
    embeddings: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if not (0 <= self.rank <= _LARGEST_RANK and 0 < self.alpha < float("inf")):
            raise TrainingError(
                f"--lora.rank is {self.rank} and --lora.alpha {self.alpha}; a whole number from 0 to {_LARGEST_RANK} "
                "and a number above 0 are expected."
            )

        if not self.rank and (self.alpha, self.embeddings) != (type(self).alpha, type(self).embeddings):
            raise TrainingError(
                "--lora.alpha and --lora.no-embeddings are for --lora.rank above 0: give it, or leave them."
            )

    @property
    def scale(self) -> float:
        """By what updates are multiplied."""
        return self.alpha / self.rank


_LARGEST_RANK = 4096
