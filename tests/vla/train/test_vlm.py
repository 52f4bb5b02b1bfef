"""Stage 0 reads LLaVA's format and trains what it says it trains."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.vla.nano_models import nano
from vla.data.errors import DataError
from vla.data.llava import Conversation, read_conversations
from vla.data.whole import LeftOut, SkipOptions
from vla.errors import ImageError, TrainingError
from vla.model.checkpoint import load_checkpoint
from vla.model.tokenizer import END_OF_TEXT, STOP
from vla.train.config import LoopConfig, ModelOptions, OptimConfig
from vla.train.vlm import CollateConversations, ConversationSamples, VlmConfig, load_image, train_vlm

ENTRIES = [
    {
        "id": "1",
        "image": "a/cup.png",
        "conversations": [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cup."}],
    },
    {"id": "2", "conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hello."}]},
]


@pytest.fixture
def llava(tmp_path):
    (tmp_path / "images/a").mkdir(parents=True)
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "images/a/cup.png")
    (tmp_path / "data.json").write_text(json.dumps(ENTRIES))
    return tmp_path


def config(folder, out, **changes):
    loop = LoopConfig(out=folder / out, optim=OptimConfig(lr=1e-2, batch_size=2, micro_batch=1), steps=2)
    options = {"model": ModelOptions(preset="nano"), "longest": 300, **changes}
    return VlmConfig(data=folder / "data.json", images=folder / "images", loop=loop, **options)


def test_aligning_trains_the_projector_and_fine_tuning_the_language_model_too(llava):
    train_vlm(config(llava, "align"))
    aligned = load_checkpoint(llava / "align/checkpoint")
    train_vlm(config(llava, "vlm", step="finetune", init=str(llava / "align/checkpoint")))
    tuned = load_checkpoint(llava / "vlm/checkpoint")
    changed = {
        name.partition(".")[0]
        for name, value in tuned.model.state_dict().items()
        if not value.equal(aligned.model.state_dict()[name])
    }
    assert (tuned.stage, changed) == ("vlm", {"projector", "language"})


def test_aligning_learns_the_last_answer_alone_and_fine_tuning_whole_conversations(llava):
    _, prompts = nano()
    told = Conversation("1", llava / "images/a/cup.png", (("What is it?", "A cup."), ("Where?", "Here.")))

    def learnt(captions):
        batch = CollateConversations(prompts, 300, captions)([told]).batch
        return prompts.tokenizer.decode(batch.token_ids[batch.kinds > 0].tolist(), skip_special_tokens=False)

    assert learnt(captions=True) == f"Here.{END_OF_TEXT}"
    assert learnt(captions=False) == f"A cup.{STOP}Here.{STOP}\n{END_OF_TEXT}"


def test_images_and_turns_are_read_from_llavas_format(llava):
    left = LeftOut(SkipOptions())
    with_image, without = read_conversations(llava / "data.json", llava / "images", left, render=True)
    assert (with_image.image, with_image.turns) == (llava / "images/a/cup.png", (("What is it?", "A cup."),))
    assert (without.image, without.turns) == (None, (("Hello?", "Hello."),))


def test_an_entry_whose_image_is_lost_stops_before_the_first_step_or_is_left_out(llava, capsys):
    lost = {**ENTRIES[0], "id": "3", "image": "a/lost.png"}
    (llava / "data.json").write_text(json.dumps([*ENTRIES, lost]))
    with pytest.raises(DataError, match=r"data\.json, episode number 2, field 'image': .*lost\.png is missing"):
        train_vlm(config(llava, "run", skip=SkipOptions(skip_bad=False)))
    assert not (llava / "run/metrics.jsonl").exists()
    train_vlm(config(llava, "run"))
    assert "2 entries, left out 1: 1 x cannot be read" in capsys.readouterr().err
    (line,) = load_checkpoint(llava / "run/checkpoint").training["left_out"]
    assert "lost.png is missing" in line


def test_every_epoch_is_an_order_of_its_own_that_is_drawn_once():
    conversations = [Conversation(str(i), None, ()) for i in range(100_000)]
    samples = ConversationSamples(conversations, seed=0)
    started = time.process_time()
    epochs = [[samples[epoch * len(samples) + i].name for i in range(len(samples))] for epoch in range(2)]
    assert time.process_time() - started < 10
    assert epochs[0] != epochs[1]
    assert set(epochs[0]) == set(epochs[1]) == {one.name for one in conversations}


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png"):
        load_image(tmp_path / "gone.png", 56)


def test_an_image_is_never_cut(llava):
    """The patches of a cut image would be taken for those of the next row."""
    model, prompts = nano()
    needed = int(prompts.conversation([("", "")], True, 1 << 20).observation.nonzero()[0].max()) + 1
    with pytest.raises(TrainingError, match=f"--longest {needed} must lie between the {needed} tokens"):
        train_vlm(config(llava, "cut", longest=needed))
    late = CollateConversations(replace(prompts, config=replace(model.config, image_position="after_question")), 60)
    asked = Conversation("7", llava / "images/a/cup.png", (("what is it " * 40, "a cup"),))
    with pytest.raises(TrainingError, match=r"'7': its first 60 tokens hold only a part of its image.*--longest"):
        late([asked])


def test_conversations_that_are_cut_before_their_answers_teach_nothing_and_say_so(llava):
    long = [
        {
            **ENTRIES[1],
            "id": "long",
            "conversations": [{"from": "human", "value": "why " * 300}, ENTRIES[1]["conversations"][1]],
        }
    ]
    (llava / "data.json").write_text(json.dumps(long))
    with pytest.raises(TrainingError, match=r"no token carries loss in long.*--longest"):
        train_vlm(config(llava, "out", step="finetune", longest=120))
