"""What a file or folder is that is no checkpoint of ours, told from names and first bytes; nothing is unpickled."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

_HEAD = 256
_ZIP = b"PK\x03\x04"
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
"""PyTorch's files before 1.6 begin as any pickle does."""


def unfetched(path: Path) -> str:
    """Say that a file was not fetched, where only something in its place was, and the way out; else ""."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        return f"It cannot be opened: {error.strerror}."
    if not head:
        return "It is empty: fetch it again."
    if head.startswith(b"version https://git-lfs"):
        return "It is a pointer of Git LFS, not the file: run `git lfs pull` where it was cloned."
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "It is a web page, not the file: fetch it by its download link."
    return ""


def what_file(path: Path) -> str:
    """Say what is wrong with a file of weights, and the way out; "" for a file as PyTorch writes it."""
    fault = unfetched(path)
    if fault:
        return fault
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[8:9] == b"{":
        return (
            "It is in the format of safetensors. Of our own checkpoints, give the folder that it lies in; weights of "
            "another program are read from Prismatic's .pt files only."
        )
    if head.startswith(_ZIP):
        return _what_zip(path)
    if head.startswith(_PICKLES):
        return ""
    return "It is no file of PyTorch's: a whole file begins otherwise."


def what_folder(folder: Path) -> str:
    """Say in a sentence what a folder is that holds no checkpoint of ours, and what to give instead."""
    if not folder.exists():
        return "A checkpoint is a folder that vla-train wrote."
    if folder.is_file():
        return "It is a file; a checkpoint is a folder that vla-train wrote."
    if (folder / "checkpoint" / "config.json").is_file():
        return f"It is the folder of a run: give the checkpoint in it, {folder / 'checkpoint'}."
    files = sorted((folder / "checkpoints").glob("*.pt"))
    if files:
        return f"It is the folder of a run of Prismatic's: give `vla-train --init` a file in it, such as {files[-1]}."
    if (folder / "adapter_config.json").is_file():
        return (
            "It holds a LoRA adapter (PEFT), which changes a model that is not in it. Merge it into its model first; "
            "the merged model must be one that vla-train wrote, or a Prismatic .pt file."
        )
    if (folder / "snapshots").is_dir():
        return "It is a cache of the Hub: give the folder below its snapshots/ if that is a checkpoint of vla-train."
    kind = _model_type(folder / "config.json")
    if kind:
        return (
            f"It holds a model of another program (model_type {kind!r}), which this one does not run. Give a folder "
            "that vla-train wrote; `vla-train --init` also takes a Prismatic .pt file."
        )
    return "It holds no config.json: a checkpoint is a folder that vla-train wrote."


def _what_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        return f"It is cut off or damaged ({error}): fetch it again and compare its size."
    if any(name.endswith("constants.pkl") for name in names):
        return "It is a TorchScript program: give the training checkpoint (.pt with a state dict) it was made from."
    if not any(name.endswith("data.pkl") for name in names):
        return "It is a zip archive and no file of PyTorch's: unpack it and give the .pt file in it."
    return ""


def _model_type(path: Path) -> str:
    try:
        described = json.loads(path.read_bytes())
        kind = described["model_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return "" if kind == "motion_vla" else str(kind)
