"""timm's own vision transformers, for comparison.

timm is installed without torchvision (`pip install --no-deps timm`), whose operators do not load on CPU builds of
PyTorch. timm's transformers use nothing of torchvision, but its modules import names from it, so an empty package
stands in while they load.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from functools import cache

import pytest
import torch


class _Empty(types.ModuleType):
    """A package in which every name is an empty class and every module is empty."""

    __path__: tuple[str, ...] = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _EmptyType(name, (torch.nn.Module,), {})


class _EmptyType(type):
    """A class whose members are their own names, as those of an enumeration."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _EmptyTorchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Empty(spec.name)

    def exec_module(self, module):
        """Leave it empty."""


@cache
def load_timm():
    """Return timm, or skip the test."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("needs timm: pip install --no-deps timm")
    finder = _EmptyTorchvision()
    sys.meta_path.insert(0, finder)
    try:
        import timm
        import timm.models.vision_transformer
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    return timm


def dino(registers):
    """Return a small DINOv2 as timm builds it, random everywhere."""
    timm = load_timm()
    network = timm.models.vision_transformer.VisionTransformer(
        img_size=56,
        patch_size=14,
        embed_dim=32,
        depth=3,
        num_heads=2,
        init_values=1e-5,
        num_classes=0,
        reg_tokens=registers,
        no_embed_class=registers > 0,
    )
    return _random(network)


def siglip():
    """Return a small SigLIP as timm builds it, random everywhere."""
    timm = load_timm()
    network = timm.models.vision_transformer.VisionTransformer(
        img_size=56,
        patch_size=14,
        embed_dim=48,
        depth=3,
        num_heads=2,
        mlp_ratio=2,
        class_token=False,
        global_pool="map",
        num_classes=0,
    )
    return _random(network)


def _random(network):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return network.eval()
