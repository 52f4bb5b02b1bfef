"""Models of the preset `nano` with random weights, for tests."""

from dataclasses import replace

import torch

from vla.decode.decoder import Decoder
from vla.decode.grammar import grammar
from vla.model.network import MotionVLA
from vla.model.presets import preset
from vla.model.prompt import PromptBuilder
from vla.model.tokenizer import make_tokenizer

INSTRUCTIONS = ("Pick up the black bowl.", "open the top drawer of the cabinet", "push", "Put the plate on the stove")


def nano(seed=0, sharpness=1.0, **changes):
    """Return (model, prompter); `sharpness` scales the language model's matrices so that answers differ by image."""
    config = replace(preset("nano"), **changes)
    tokenizer = make_tokenizer(config.language.tokenizer, INSTRUCTIONS)
    torch.manual_seed(seed)
    model = MotionVLA(config, tokenizer.get_vocab_size()).eval()
    with torch.no_grad():
        for parameter in model.language.parameters():
            if parameter.ndim > 1:
                parameter.mul_(sharpness)
    return model, PromptBuilder(tokenizer, config)


def nano_decoder(model, prompts, **options):
    """Return a decoder of motion (if the model says it) and actions."""
    return Decoder(model, prompts, grammar(prompts, prompts.config.motion, action=True), **options)


def random_images(model, rows, seed=0):
    """Return `[B, C, H, W, 3]` uint8."""
    size, cameras = model.config.image_size, len(model.config.cameras)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, cameras, size, size, 3), dtype=torch.uint8, generator=generator)
