"""What lies beside a file of openvla-mini's training and says how its actions are meant.

RUN/checkpoints/FILE.pt
RUN/dataset_statistics.json   only where the model acts: statistics to un-normalise actions with
RUN/config.json               `vla.action_tokenizer`: what action tokens mean
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vla.errors import ActionDataError, WeightsError
from vla.model.config import ActionTokens
from vla.statistics import ActionStatistics, read_statistics

_KINDS: Mapping[str, ActionTokens] = {"extra_action_tokenizer": "openvla_extra", "action_tokenizer": "openvla"}
_PUBLISHED = "extra_action_tokenizer"
"""That of the published models of Qwen2.5, where no configuration lies beside a file."""


class Acting(NamedTuple):
    """How a model of openvla-mini acts.

    Attributes:
        action_tokenizer: what its action tokens mean (`ModelConfig.action_tokenizer`).
        statistics: of its training sets' actions, by name.
    """

    action_tokenizer: ActionTokens
    statistics: Mapping[str, ActionStatistics]


def acting(path: Path) -> Acting | None:
    """Say how the model in a `.pt` file acts; None for a vision-language model, which does not.

    Raises:
        WeightsError: the statistics or the configuration beside it cannot be read, or name action tokens that are not
            bins of single numbers.
    """
    run = path.absolute().parent.parent
    source = run / "dataset_statistics.json"
    if not source.is_file():
        return None
    try:
        statistics = read_statistics(source)
    except (ActionDataError, OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{source}, which says how the actions of {path.name} are meant: {error}") from error
    name = _tokenizer_named(run / "config.json")
    if name not in _KINDS:
        raise WeightsError(
            f"{run / 'config.json'}: the action tokens of {path.name} are those of {name!r}; "
            f"{' or '.join(_KINDS)} can be read. Begin with the vision-language model that it was trained from."
        )
    return Acting(_KINDS[name], statistics)


def _tokenizer_named(path: Path) -> str:
    if not path.is_file():
        return _PUBLISHED
    try:
        return str(json.loads(path.read_bytes())["vla"].get("action_tokenizer", _PUBLISHED))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} does not say which action tokenizer was used (vla.action_tokenizer).") from error
