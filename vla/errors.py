"""Every error that the model, its training and its checkpoints raise on purpose.

::

    ModelError
    ├── WeightsError          pretrained weights are missing, or do not fit the model (every odd key is listed)
    ├── CheckpointError       a checkpoint folder is incomplete, foreign or damaged
    ├── TokenizerError        a tokenizer lacks the turn or action tokens
    ├── PromptError           an instruction is empty or longer than the model's context
    ├── ImageError            an image of the wrong shape or dtype
    ├── UnnormalizationError  no action statistics under that key
    └── TrainingError         training cannot start or go on (a loss that is not finite names its batch)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_SHOWN = 12


class ModelError(ValueError):
    """Base of every error of the model raised on purpose; its text names the culprit and the way out."""


class WeightsError(ModelError):
    """Pretrained weights are missing or do not fit."""


class CheckpointError(ModelError):
    """A checkpoint folder is incomplete, foreign or damaged."""


class TokenizerError(ModelError):
    """A tokenizer lacks tokens that the prompt or the actions need."""


class PromptError(ModelError):
    """An instruction cannot be made into a prompt."""


class ImageError(ModelError):
    """An image of the wrong shape or dtype."""


class UnnormalizationError(ModelError):
    """No action statistics under that key."""


class TrainingError(ModelError):
    """Training cannot start or go on."""


def listed(names: Iterable[str]) -> str:
    """Join names for an error message, the first dozen of them and a count of the rest."""
    known: Sequence[str] = sorted(names)
    rest = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(known[:_SHOWN]) + rest
