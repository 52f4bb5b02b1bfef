"""Text tokenizers, with the turn tokens of the prompt and the 256 action tokens at their tail."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from vla.actions import BINS, ActionTokenizer, AnyActionTokenizer, OpenVLAActionTokenizer
from vla.errors import TokenizerError
from vla.model.config import SYSTEM, ActionTokens
from vla.motion.language import all_motions, describe
from vla.weights.packages import GGUF_FILES, package_file

START, STOP, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

_SMALL = "small:"
_FILE = "tokenizer.json"
# Qwen2.5's: words with one leading mark or space, single digits, runs of marks, line ends, spaces.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def make_tokenizer(source: str, instructions: Iterable[str] = ()) -> Tokenizer:
    """Load or train a tokenizer and append the action tokens.

    Args:
        source: hub id, folder with a `tokenizer.json`, `package:<distribution>`, or `small:<size>`: a byte-level BPE
            of at most that many tokens, trained on the prompt, all motion sentences and the instructions.
        instructions: what a small tokenizer is trained on; others ignore them.

    Raises:
        TokenizerError: the source cannot be loaded, or lacks the turn tokens.
    """
    if source.startswith(_SMALL):
        tokenizer = _train_small(int(source.removeprefix(_SMALL)), instructions)
    else:
        tokenizer = _load(source)
    _check_turns(tokenizer, f"The tokenizer {source!r}")
    names = ActionTokenizer().token_names
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in names])
    return tokenizer


def action_tokenizer(
    tokenizer: Tokenizer, where: str = "The tokenizer", kind: ActionTokens = "centres"
) -> AnyActionTokenizer:
    """Find the 256 action tokens, and what they mean.

    Args:
        tokenizer: that should hold them.
        where: what error messages call it.
        kind: what they mean (`ModelConfig.action_tokenizer`).

    Raises:
        TokenizerError: they are missing, or their ids are not consecutive.
    """
    names = ActionTokenizer().token_names
    known = {name: tokenizer.token_to_id(name) for name in names}
    ids = [token_id for token_id in known.values() if token_id is not None]
    absent = [name for name, token_id in known.items() if token_id is None]
    if absent:
        raise TokenizerError(
            f"{where} lacks {len(absent)} of {BINS} action tokens, {absent[0]} first: it is not the one that the "
            "model was trained with. Use the tokenizer.json of its checkpoint."
        )
    if ids != list(range(ids[0], ids[0] + BINS)):
        raise TokenizerError(f"{where} has action tokens whose ids do not count up from {ids[0]}.")
    if kind == "openvla":
        return OpenVLAActionTokenizer(tokenizer.get_vocab_size(with_added_tokens=False))
    return ActionTokenizer(ids[0]) if kind == "centres" else OpenVLAActionTokenizer(ids[0] + BINS)


def check_tokens(tokenizer: Tokenizer, where: str) -> None:
    """Check that a tokenizer has the turn and action tokens, and no id that the model's table would lack.

    Raises:
        TokenizerError: it has not; `where` names it.
    """
    _check_turns(tokenizer, where)
    action_tokenizer(tokenizer, where)
    highest, size = max(tokenizer.get_vocab().values()), tokenizer.get_vocab_size()
    if highest >= size:
        raise TokenizerError(f"{where} has {size} tokens and the id {highest}: ids must count from 0 without a gap.")


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json` of a folder.

    Raises:
        TokenizerError: there is none, or it is damaged.
    """
    path = folder / _FILE
    if not path.is_file():
        raise TokenizerError(f"No {_FILE} in {folder}.")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises nothing narrower
        raise TokenizerError(f"{path} cannot be read: {error}. Copy it again from where it came from.") from error


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer so that `transformers.AutoTokenizer` reads it too."""
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=STOP, pad_token=END_OF_TEXT)
    fast.save_pretrained(folder)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Encode text, turn tokens included, without adding any."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def _check_turns(tokenizer: Tokenizer, where: str) -> None:
    missing = [token for token in (START, STOP) if tokenizer.token_to_id(token) is None]
    if missing:
        raise TokenizerError(f"{where} has no {' and no '.join(missing)}: prompts are made of turns.")


def _load(source: str) -> Tokenizer:
    if (Path(source) / _FILE).is_file():
        return read_tokenizer(Path(source))
    try:
        if source.startswith("package:"):
            path = package_file(source)
            loaded = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
        else:
            loaded = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise TokenizerError(
            f"The tokenizer {source!r} cannot be loaded: {error} Give a hub id that can be reached, a folder with a "
            f"{_FILE}, or one of {', '.join(GGUF_FILES)}."
        ) from error
    return loaded.backend_tokenizer  # type: ignore[no-any-return]


def _train_small(size: int, instructions: Iterable[str]) -> Tokenizer:
    """Train a byte-level BPE; any text stays encodable, and the same texts give the same tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT, START, STOP],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    frame = f"system\n{SYSTEM}\nuser\nWhat action should the robot take to pick up the cup?\nmotion\nassistant\n"
    corpus = [frame, *(describe(motion) for motion in all_motions()), *sorted(set(instructions))]
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer
