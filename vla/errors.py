"""Every error that the model, its training and its checkpoints raise on purpose, as one tree.

A dataset that cannot be read is a `vla.data.errors.DataError`: it names file, episode and field.

::

    ModelError                (exit code 2)
    ├── ActionDataError       actions, statistics or action tokens that cannot be used
    ├── MotionSyntaxError     a text is no sentence of the motion language (in `vla.motion.language`)
    ├── LabellerError         no labeller of that name, a plugin that makes none, or no intents to learn from
    ├── WeightsError          pretrained weights are missing, or do not fit the model (every odd key is listed)
    ├── CheckpointError       a checkpoint folder is incomplete, foreign or damaged
    ├── TokenizerError        a tokenizer lacks the turn or action tokens
    ├── PromptError           an instruction is empty or longer than the model's context
    ├── ImageError            an image of the wrong shape or dtype, or a state that the model reads and did not get
    ├── UnnormalizationError  no action statistics under that key
    ├── NotFiniteError        the model's scores are NaN or infinite: there is no answer
    └── TrainingError         training cannot start: options, data, or the folder of another run
        ├── DivergedError     a loss or gradient is not finite; the message names its samples (exit code 1)
        └── StoppedError      SIGTERM came; everything is saved (exit code 0)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_SHOWN = 12


class ModelError(ValueError):
    """Base of every error of the model raised on purpose; its text names the culprit and the way out."""


class ActionDataError(ModelError):
    """Actions, statistics or tokens that cannot be used; the message names data set, episode and dimension."""


class LabellerError(ModelError):
    """No labeller of that name, a plugin that makes none, or no intents to learn from."""


class WeightsError(ModelError):
    """Pretrained weights are missing or do not fit."""


class CheckpointError(ModelError):
    """A checkpoint folder is incomplete, foreign or damaged."""


class TokenizerError(ModelError):
    """A tokenizer lacks tokens that the prompt or the actions need."""


class PromptError(ModelError):
    """An instruction cannot be made into a prompt."""


class ImageError(ModelError):
    """An image of the wrong shape or dtype, or a state that the model reads and did not get."""


class UnnormalizationError(ModelError):
    """No action statistics under that key."""


class NotFiniteError(ModelError):
    """The model's scores are NaN or infinite."""


class TrainingError(ModelError):
    """Training cannot start."""


class DivergedError(TrainingError):
    """A loss or a gradient is not finite."""


class StoppedError(TrainingError):
    """Training was asked to stop, and saved everything."""


def listed(names: Iterable[str]) -> str:
    """Join names for an error message, the first dozen of them and a count of the rest."""
    known: Sequence[str] = sorted(names)
    rest = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(known[:_SHOWN]) + rest
