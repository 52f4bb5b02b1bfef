"""Stage 0: a vision-language model out of vision encoders and a language model, on data in LLaVA's format.

    vla-train vlm --step align    --data llava_pretrain.json --images DIR --out ALIGNED --model.preset 0.5b
    vla-train vlm --step finetune --data llava_v1_5_mix665k.json --images DIR --out VLM --init ALIGNED/checkpoint

As Prismatic does with the LLaVA-1.5 mixture: first the projector alone learns from captions without a question, then
projector and language model from conversations; the vision encoders stay as published. `vla-train train --init
VLM/checkpoint` goes on from there. These are the two steps that the paper describes; the published
prism-qwen25-extra-dinosiglip-224px+0_5b is a run of the second step alone, of two epochs.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from accelerate import Accelerator
from numpy.typing import NDArray

from vla.data.errors import DataError, Where
from vla.data.frames import decode, resize
from vla.data.llava import Conversation, read_conversations
from vla.data.loader import MixtureLoader
from vla.data.whole import LeftOut, SkipOptions
from vla.errors import ImageError, TrainingError
from vla.model.checkpoint import Checkpoint
from vla.model.prompt import PromptBuilder, TokenSequence
from vla.train.collate import Placed, padded
from vla.train.config import Loop, ModelOptions, recorded
from vla.train.initialize import initial_checkpoint
from vla.train.loop import accumulation, make_accelerator, optimize
from vla.train.prepare import TrainingRun, workers_of
from vla.train.state import RunState


@dataclass(frozen=True)
class VlmConfig:
    """Train a vision-language model on conversations about images.

    Prismatic aligns at lr 1e-3 with batches of 256, then fine-tunes at lr 2e-5 with batches of 128, each for one epoch
    of a cosine schedule.

    Attributes:
        data: JSON file in LLaVA's format: a list of {"id", "image", "conversations": [{"from", "value"}, ...]}, or a
            file with one such entry per line.
        images: Folder to which the image paths of --data are relative.
        loop: Options of the training loop.
        step: What is trained, and on what: "align" trains the projector on captions, the last answer of every entry;
            "finetune" trains the projector and the language model on whole conversations.
        init: Weights to start from: "scratch", or the checkpoint folder that --step align wrote.
        model: The model to build, unless --init is a checkpoint folder.
        longest: Largest number of tokens of a conversation; longer conversations are cut.
        skip: What happens to entries that cannot be read, or whose image cannot be read.
        check_images: Decode every image before the first step. An image that an earlier training has decoded is decoded
            again only if its file has changed.
    """

    data: Path
    images: Path
    loop: Loop
    step: Literal["align", "finetune"] = "align"
    init: str = "scratch"
    model: ModelOptions = field(default_factory=ModelOptions)
    longest: int = 2048
    skip: Annotated[SkipOptions, tyro.conf.arg(name="")] = field(default_factory=SkipOptions)
    check_images: bool = True


class ConversationSamples:
    """Conversations as an endless sequence, every epoch shuffled anew; a function of seed and position."""

    def __init__(self, conversations: Sequence[Conversation], seed: int) -> None:
        self._conversations = conversations
        self._seed = seed
        names = [conversation.name for conversation in conversations]
        self.fingerprint = hashlib.sha256(repr((seed, names)).encode()).hexdigest()[:16]

    def __getitem__(self, position: int) -> Conversation:
        """Return the conversation at a position of the endless sequence."""
        epoch, within = divmod(position, len(self))
        return self._conversations[int(_order(self._seed, epoch, len(self))[within])]

    def __len__(self) -> int:
        """Return the samples of an epoch."""
        return len(self._conversations)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the order in which an epoch shows the conversations."""
    return np.random.default_rng([seed, epoch]).permutation(count)


@dataclass(frozen=True)
class CollateConversations:
    """Writes the sequences of conversations, loads their images and pads; picklable, for loader workers.

    Attributes:
        prompts: of the model.
        longest: tokens after which a sequence is cut.
        captions: whether the last answer alone is written, without question and turns.
    """

    prompts: PromptBuilder
    longest: int
    captions: bool = False

    def __call__(self, conversations: Sequence[Conversation]) -> Placed:
        """Return the batch and the names of its rows."""
        config = self.prompts.config
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
        if self.captions:
            sequence = self.prompts.caption(conversation.turns[-1][1], seen, self.longest)
        else:
            sequence = self.prompts.conversation(conversation.turns, seen, self.longest)
        if seen and int(sequence.observation.sum()) < self.prompts.config.observation_tokens:
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


def _prepare(config: VlmConfig, accelerator: Accelerator) -> TrainingRun:
    """Read the conversations, build the model and put both together."""
    left = LeftOut(config.skip)
    with accelerator.main_process_first():
        conversations = read_conversations(config.data, config.images, left, config.check_images)
    if accelerator.is_main_process and left.lines():
        sys.stderr.write(
            f"{config.data}: {len(conversations)} entries, left out {len(left.lines())}: {left.summary()}\n"
        )
    texts = [text for conversation in conversations for turn in conversation.turns for text in turn]
    checkpoint = initial_checkpoint(config.init, config.model, texts, "vlm", True, config.loop.seed)
    _check(checkpoint, config.longest)
    checkpoint.model.vision_encoders.requires_grad_(False)
    checkpoint.model.language.requires_grad_(config.step == "finetune")
    loader = MixtureLoader(
        ConversationSamples(conversations, config.loop.seed),
        CollateConversations(checkpoint.prompts, config.longest, captions=config.step == "align"),
        config.loop.optim.micro_batch,
        shard=(accelerator.process_index, accelerator.num_processes),
        workers=workers_of(config.loop.workers, accelerator),
        pin=accelerator.device.type == "cuda",
    )
    told = {**recorded(config), **checkpoint.training, "left_out": left.lines()}
    return TrainingRun(replace(checkpoint, training=told), loader)


def load_image(path: Path, size: int) -> NDArray[np.uint8]:
    """Read an image file as `[size, size, 3]` uint8 RGB.

    Raises:
        ImageError: the file is missing or no image.
    """
    try:
        return resize(decode(path.read_bytes(), Where(path), 0), size)
    except (OSError, DataError) as error:
        raise ImageError(f"{path} cannot be read as an image: {error}") from error


def _check(checkpoint: Checkpoint, longest: int) -> None:
    config = checkpoint.config
    if len(config.cameras) != 1 or config.proprio_dim:
        raise TrainingError("A conversation is about one image and no state: train with one view and without state.")
    header = checkpoint.prompts.conversation([("", "")], True, 1 << 30)
    needed = int(header.observation.nonzero()[0].max()) + 1
    if not needed < longest <= config.language.context:
        raise TrainingError(
            f"--longest {longest} must lie between the {needed} tokens up to the end of an image and the model's "
            f"context of {config.language.context}."
        )
