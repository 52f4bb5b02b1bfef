"""Stage 0: a vision-language model out of towers and a language model, on data in LLaVA's format.

    vla-train vlm --step align    --data llava_pretrain.json --images DIR --out ALIGNED --model.preset 0.5b
    vla-train vlm --step finetune --data llava_v1_5_mix665k.json --images DIR --out VLM --init ALIGNED/checkpoint

As Prismatic does with the LLaVA-1.5 mixture: first the projector alone learns from captions, then projector and
language model from instructions; the towers stay as published. `vla-train train --init VLM/checkpoint` goes on from
there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import tyro
from accelerate import Accelerator
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vla.checkpoint import Checkpoint
from vla.collate import Placed, padded
from vla.data.frames import resize
from vla.data.loader import MixtureLoader
from vla.data.mixture import Mixture, Sample
from vla.errors import ImageError, TrainingError
from vla.initialize import initial_checkpoint
from vla.prompt import Prompter, TokenSequence
from vla.run_state import RunState
from vla.train import Run, accumulation, make_accelerator, optimize
from vla.train_config import Loop, ModelOptions, recorded

_IMAGE = "<image>"


@dataclass(frozen=True)
class VlmConfig:
    """Train a vision-language model on conversations about images.

    Prismatic aligns at lr 1e-3 with batches of 256, then fine-tunes at lr 2e-5 with batches of 128, each for one epoch
    of a cosine schedule.

    Attributes:
        data: JSON file in LLaVA's format: a list of {"id", "image", "conversations": [{"from", "value"}, ...]}.
        images: Folder that the images' paths begin in.
        loop: How long, on what, and where to.
        step: "align" trains the projector, "finetune" projector and language model.
        init: "scratch" or the checkpoint folder that "align" wrote.
        model: What to build, unless `init` is a folder.
        longest: Tokens after which a conversation is cut.
    """

    data: Path
    images: Path
    loop: Loop
    step: Literal["align", "finetune"] = "align"
    init: str = "scratch"
    model: ModelOptions = field(default_factory=ModelOptions)
    longest: int = 2048


@dataclass(frozen=True)
class Conversation:
    """One entry of the data file.

    Attributes:
        name: its id.
        image: path of its image, or None.
        turns: (question, answer) pairs, the image mark taken out.
    """

    name: str
    image: Path | None
    turns: tuple[tuple[str, str], ...]


class ConversationSamples:
    """Conversations as an endless sequence, every epoch shuffled anew; a function of seed and position."""

    def __init__(self, conversations: Sequence[Conversation], seed: int) -> None:
        self._conversations = conversations
        self._seed = seed
        names = [conversation.name for conversation in conversations]
        self.fingerprint = hashlib.sha256(repr((seed, names)).encode()).hexdigest()[:16]

    def __getitem__(self, position: int) -> Conversation:
        """Return the conversation at a position of the endless sequence."""
        epoch, within = divmod(position, len(self._conversations))
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._conversations))
        return self._conversations[int(order[within])]


@dataclass(frozen=True)
class CollateConversations:
    """Writes the sequences of conversations, loads their images and pads; picklable, for loader workers."""

    prompter: Prompter
    longest: int

    def __call__(self, conversations: Sequence[Conversation]) -> Placed:
        """Return the batch and the names of its rows."""
        config = self.prompter.config
        sequences = [self._sequence(conversation) for conversation in conversations]
        seen = [load_image(one.image, config.image_size) for one in conversations if one.image is not None]
        if seen:
            images = torch.from_numpy(np.stack(seen))[:, None]
            batch = padded(sequences, images=images)
        else:
            none = torch.zeros(0, config.image_tokens, config.feature_width)
            batch = padded(sequences, features=none)
        return Placed(batch, [conversation.name for conversation in conversations])

    def _sequence(self, conversation: Conversation) -> TokenSequence:
        seen = conversation.image is not None
        sequence = self.prompter.conversation(conversation.turns, seen, self.longest)
        if seen and int(sequence.observation.sum()) < self.prompter.config.observation_tokens:
            raise TrainingError(
                f"Conversation {conversation.name!r}: its first {self.longest} tokens hold only a part of its image. "
                "Raise --longest."
            )
        return sequence


def main(arguments: Sequence[str]) -> int:
    """Run `vla-train vlm`."""
    train_vlm(tyro.cli(VlmConfig, args=arguments, prog="vla-train vlm"))
    return 0


def train_vlm(config: VlmConfig) -> None:
    """Train until the last step, from where the run in its folder stands."""
    accelerator = make_accelerator(config.loop)
    accumulation(config.loop.optim, accelerator)
    state = RunState(config.loop.out, recorded(config))
    with state.claimed(accelerator):
        optimize(_prepare(config, accelerator), config.loop, accelerator, state)


def _prepare(config: VlmConfig, accelerator: Accelerator) -> Run:
    """Read the conversations, build the model and put both together."""
    conversations = read_conversations(config.data, config.images)
    texts = [text for conversation in conversations for turn in conversation.turns for text in turn]
    checkpoint = initial_checkpoint(config.init, config.model, texts, "vlm", True, config.loop.seed)
    _check(checkpoint, config.longest)
    checkpoint.model.towers.requires_grad_(False)
    checkpoint.model.language.requires_grad_(config.step == "finetune")
    # The loader asks no more of a mixture and its samples than what these have.
    loader = MixtureLoader(
        cast(Mixture, ConversationSamples(conversations, config.loop.seed)),
        cast(Callable[[list[Sample]], Placed], CollateConversations(checkpoint.prompter, config.longest)),
        config.loop.optim.micro_batch,
        shard=(accelerator.process_index, accelerator.num_processes),
        workers=config.loop.workers,
    )
    return Run(replace(checkpoint, training={**recorded(config), **checkpoint.training}), loader)


def read_conversations(path: Path, images: Path) -> list[Conversation]:
    """Read a file in LLaVA's format.

    Raises:
        TrainingError: not JSON, no entry, or an entry of another layout (named).
    """
    try:
        entries = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise TrainingError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(entries, list) or not entries:
        raise TrainingError(f"{path} holds no list of conversations.")
    return [_conversation(entry, index, path, images) for index, entry in enumerate(entries)]


def load_image(path: Path, size: int) -> NDArray[np.uint8]:
    """Read an image file as `[size, size, 3]` uint8 RGB.

    Raises:
        ImageError: the file is missing or no image.
    """
    try:
        with Image.open(path) as image:
            return resize(np.asarray(image.convert("RGB")), size)
    except (OSError, UnidentifiedImageError) as error:
        raise ImageError(f"{path} cannot be read as an image: {error}.") from error


def _conversation(entry: Any, index: int, path: Path, images: Path) -> Conversation:  # noqa: ANN401 - from a file
    try:
        texts = [(turn["from"], turn["value"].replace(_IMAGE, "").strip()) for turn in entry["conversations"]]
        name = str(entry.get("id", index))
        image = images / entry["image"] if entry.get("image") else None
    except (KeyError, TypeError, AttributeError) as error:
        raise TrainingError(f"{path}: entry {index} is no conversation in LLaVA's format: no {error}.") from error
    speakers = [speaker for speaker, _ in texts]
    if not texts or speakers != ["human", "gpt"] * (len(texts) // 2):
        raise TrainingError(f"{path}: in entry {name!r} the turns are {speakers}; human and gpt must alternate.")
    turns = tuple((texts[i][1], texts[i + 1][1]) for i in range(0, len(texts), 2))
    return Conversation(name, image, turns)


def _check(checkpoint: Checkpoint, longest: int) -> None:
    config = checkpoint.config
    if len(config.cameras) != 1 or config.state_size:
        raise TrainingError("A conversation is about one image and no state: train with one view and without state.")
    header = checkpoint.prompter.conversation([("", "")], True, 1 << 30)
    needed = int(header.observation.nonzero()[0].max()) + 1
    if not needed < longest <= config.language.context:
        raise TrainingError(
            f"--longest {longest} must lie between the {needed} tokens up to the end of an image and the model's "
            f"context of {config.language.context}."
        )
