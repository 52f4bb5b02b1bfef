"""The vectors of action tokens, motion words and ordinary words, from checkpoints' embedding tables, and on disk."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from evals.errors import UsageError
from vla.actions import BINS
from vla.motion.language import all_motions, describe

if TYPE_CHECKING:
    from torch import Tensor

    from vla.model.checkpoint import Checkpoint
    from vla.model.prompt import PromptBuilder

Group = Literal["action", "motion", "word"]
Space = Literal["input", "output", "context"]
GROUPS: tuple[Group, ...] = ("action", "motion", "word")
SPACES: tuple[Space, ...] = ("input", "output", "context")

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_FORMAT = 1
_LETTERS = re.compile(r"[A-Za-z]+")
_WORD = re.compile(r" [A-Za-z]{2,}")


@dataclass(frozen=True, eq=False)
class LabelledVectors:
    """Vectors of one checkpoint in one space.

    Attributes:
        condition: name of the checkpoint.
        space: "input" and "output" are rows of the embedding tables, "context" are last hidden states.
        values: `[N, D]`, rounded to float16, so that stored vectors give the same figure.
        groups: `[N]` of "action", "motion", "word".
        texts: `[N]` what a vector stands for: a token's text, or the dimension of an action token in context.
        clusters: `[N]` what is drawn together in a bootstrap: the token, or in context the observation.
    """

    condition: str
    space: Space
    values: Floats
    groups: npt.NDArray[np.str_]
    texts: npt.NDArray[np.str_]
    clusters: npt.NDArray[np.int64]

    def members(self, group: Group) -> Indices:
        """Positions of a group's vectors."""
        return np.flatnonzero(self.groups == group)


def labelled(condition: str, space: Space, values: Tensor, labels: Sequence[tuple[str, str, int]]) -> LabelledVectors:
    """Put vectors `[N, D]` and, for each, its (group, text, cluster) together."""
    groups, texts, clusters = zip(*labels, strict=True)
    rounded = values.detach().float().numpy().astype(np.float16).astype(np.float64)
    return LabelledVectors(condition, space, rounded, np.array(groups), np.array(texts), np.array(clusters))


def motion_token_ids(prompts: PromptBuilder) -> list[int]:
    """Return the ids of all tokens that the 729 motion sentences are made of, but for punctuation.

    A word that the tokenizer splits is several tokens, and one that stands with and without a space before it is two.
    """
    ids = {token for motion in all_motions() for token in prompts.motion_ids(describe(motion))}
    return sorted(token for token in ids if _LETTERS.search(prompts.tokenizer.decode([token])))


def is_word(prompts: PromptBuilder, token: int) -> bool:
    """Whether a token is letters after a space, at least two."""
    return _WORD.fullmatch(prompts.tokenizer.decode([token])) is not None


def token_text(prompts: PromptBuilder, token: int) -> str:
    """Return a token's text, a leading space shown as a mark: it tells two tokens of one word apart."""
    return str(prompts.tokenizer.decode([token])).replace(" ", "_")


def word_token_ids(prompts: PromptBuilder, count: int, rng: np.random.Generator) -> list[int]:
    """Sample ordinary words: tokens of letters after a space that no motion sentence has.

    Args:
        prompts: whose vocabulary is sampled.
        count: how many; fewer where the vocabulary has no more.
        rng: source of the sample.
    """
    spoken = set(motion_token_ids(prompts))
    size = prompts.tokenizer.get_vocab_size()
    words = [i for i in range(size) if i not in spoken and is_word(prompts, i)]
    return sorted(rng.choice(words, min(count, len(words)), replace=False).tolist())


def token_vectors(checkpoint: Checkpoint, condition: str, words: int, seed: int) -> list[LabelledVectors]:
    """Return the rows of the embedding tables: input, and output where it is a table of its own.

    Args:
        checkpoint: the model and its tokenizer.
        condition: its name in the figure.
        words: ordinary words to sample.
        seed: of the sample; checkpoints of one tokenizer get the same words.
    """
    prompts, language = checkpoint.prompts, checkpoint.model.language
    first = prompts.actions.first_token_id
    tokens = [(first + index, "action", str(index)) for index in range(BINS)]
    tokens += [(i, "motion", token_text(prompts, i)) for i in motion_token_ids(prompts)]
    tokens += [(i, "word", token_text(prompts, i)) for i in word_token_ids(prompts, words, np.random.default_rng(seed))]
    ids = [token for token, _, _ in tokens]
    labels = [(group, text, token) for token, group, text in tokens]
    tables = {"input": language.get_input_embeddings().weight, "output": language.get_output_embeddings().weight}
    found = [labelled(condition, "input", tables["input"][ids], labels)]
    if tables["output"].data_ptr() != tables["input"].data_ptr():
        found.append(labelled(condition, "output", tables["output"][ids], labels))
    return found


def save_vectors(path: Path, vectors: Sequence[LabelledVectors]) -> None:
    """Write vectors into one npz file; `load_vectors` is the inverse."""
    arrays: dict[str, Any] = {}
    for index, entry in enumerate(vectors):
        arrays[f"values{index}"] = entry.values.astype(np.float16)
        arrays[f"groups{index}"], arrays[f"texts{index}"] = entry.groups, entry.texts
        arrays[f"clusters{index}"] = entry.clusters
    entries = [{"condition": entry.condition, "space": entry.space} for entry in vectors]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, index=json.dumps({"format": _FORMAT, "entries": entries}), **arrays)


def load_vectors(path: Path) -> list[LabelledVectors]:
    """Read vectors from an npz file.

    Raises:
        UsageError: the file is missing, damaged or something else.
    """
    if not path.is_file():
        raise UsageError(f"No file {path}; give checkpoints, and their vectors are stored beside the figures.")
    try:
        with np.load(path) as stored:
            index = json.loads(str(stored["index"]))
            if index["format"] != _FORMAT:
                raise UsageError(f"{path} has format {index['format']}; this version reads {_FORMAT}.")
            return [
                LabelledVectors(
                    entry["condition"],
                    entry["space"],
                    stored[f"values{i}"].astype(np.float64),
                    stored[f"groups{i}"],
                    stored[f"texts{i}"],
                    stored[f"clusters{i}"],
                )
                for i, entry in enumerate(index["entries"])
            ]
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} holds no vectors of `vla-eval figures embeddings`: {error}.") from error
