"""Run by every process of a launch: prints what dividing a `nano` model did to it, as JSON from the main process."""

import json
import sys
from pathlib import Path

import torch

from tests.vla.nano_models import nano, random_images
from vla.train.collate import Placed, padded
from vla.train.config import LoopConfig
from vla.train.loop import _step, make_accelerator
from vla.train.placing import place
from vla.train.sharded import is_sharded


def main():
    config = LoopConfig(out=Path("unused"), device="cpu", precision="bfloat16")
    accelerator = make_accelerator(config)
    model, prompts = nano()
    wanted = dict(model.named_buffers())
    if not accelerator.is_main_process:
        model.to("meta")
    divided, optimizer = place(model, config, accelerator)
    sequence = prompts.sequence("lift", "move up", [prompts.actions.first_token_id] * 7)
    reference, _ = nano()
    images = random_images(reference, 2, seed=accelerator.process_index)
    gradients = []

    def keep(*_):
        gradients.extend(p.grad.to_local().clone() for p in divided.parameters() if p.grad is not None)

    optimizer.optimizer.register_step_pre_hook(keep)
    batch = padded([sequence] * 2, images=images)
    _step(divided, optimizer, [Placed(batch, ["a", "b"])], 1e9, accelerator)
    values = torch.cat([gradient.flatten() for gradient in gradients])
    told = {
        "sharded": is_sharded(divided),
        "processes": accelerator.num_processes,
        "buffers": {name: str(value.dtype) for name, value in divided.named_buffers()},
        "equal": all(torch.equal(value, wanted[name]) for name, value in divided.named_buffers()),
        "weights": sorted({str(weight.dtype) for weight in divided.parameters()}),
        "here": sum(weight.to_local().numel() for weight in divided.parameters()),
        "of": sum(weight.numel() for weight in divided.parameters()),
        "finer_than_bfloat16": float((values.bfloat16().float() != values).float().mean()),
    }
    if accelerator.is_main_process:
        Path(sys.argv[1]).write_text(json.dumps(told))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
