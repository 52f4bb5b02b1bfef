"""`vla-train stats`: the card, its errors, and a help that imports nothing heavy."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.vla.data import lerobot_files as files
from vla.cli import main
from vla.data.card import card_text, make_card
from vla.data.errors import DataError
from vla.data.whole import SkipOptions
from vla.statistics import read_statistics


def test_the_card_of_the_bridge_sample(shared: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    file = tmp_path / "statistics.json"
    assert main(["stats", str(shared / "data/bridge_dataset"), "--statistics", str(file), "--top", "3"]) == 0
    text = capsys.readouterr().out
    for line in (
        "episodes       25",
        "steps          200",
        "5 Hz",
        "primary 64x64",
        "8  put carrot on plate",
        "1 more",
    ):
        assert line in text
    assert read_statistics(file)["bridge_dataset"].num_transitions == 200


def test_broken_episodes_are_listed_when_skipped_and_stop_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = files.write_v2(tmp_path / "drawers", [4, 6, 3])
    (root / f"videos/chunk-000/{files.CAMERA}/episode_000001.mp4").unlink()
    (root / f"videos/chunk-000/{files.CAMERA}/episode_000002.mp4").write_bytes(b"no video")
    assert main(["stats", str(root), "--max-bad", "0.7"]) == 0
    text = capsys.readouterr().out
    assert "episodes       1\n" in text
    assert "left out: 2" in text
    assert "episode 1, field 'observation.images.front': the video file is missing" in text
    assert "episode 2, field 'observation.images.front': cannot read" in text
    assert main(["stats", str(root), "--no-skip-bad"]) == 2
    assert "Without --no-skip-bad" in capsys.readouterr().err


def test_labels_add_up_to_the_steps(tmp_path: Path):
    card = make_card(files.write_v3(tmp_path / "drawers", [4, 6, 3]))
    assert card.labels.total() == 13
    assert card.instructions == {"open the drawer": 2, "close the drawer": 1}
    assert "motion labels (adaptive, share of steps)" in card_text(card)


def test_the_labels_are_those_of_the_labeller_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = files.write_v3(tmp_path / "drawers", [4, 6, 3])
    assert main(["stats", str(root), "--motion", "raw"]) == 0
    assert "motion labels (raw, share of steps)" in capsys.readouterr().out
    assert main(["stats", str(root), "--motion", "rwa"]) == 2
    assert "No labeller named 'rwa'. Did you mean 'raw'?" in capsys.readouterr().err


def test_a_dataset_without_a_readable_episode_is_an_error_that_lists_them(tmp_path: Path):
    root = files.write_v3(tmp_path / "drawers", [4, 6])
    next(root.glob("videos/**/*.mp4")).unlink()
    with pytest.raises(DataError, match=r"no episode can be used \(2 are left out\)"):
        make_card(root, skip=SkipOptions())


def test_a_card_with_more_broken_than_may_be_is_shown_and_is_a_failure(tmp_path: Path, capsys):
    root = files.write_v2(tmp_path / "drawers", [4, 6, 3])
    next(root.glob("videos/**/*.mp4")).unlink()
    assert main(["stats", str(root), "--max-bad", "0.05"]) == 2
    said = capsys.readouterr()
    assert "left out: 1" in said.out
    assert "about 1 of 3 episodes (33.3%) cannot be read; --max-bad allows 5.0%" in said.err


@pytest.mark.parametrize("arguments", [["stats", "nowhere"], ["statz"]])
def test_wrong_input_is_one_line_and_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_message_and_a_card_hold_nothing_that_a_terminal_obeys(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["stats", "no\x1b[2Jwhere"]) == 2
    root = files.write_v2(tmp_path / "drawers", [4, 6])
    for file in root.glob("meta/*.jsonl"):
        file.write_text(file.read_text().replace("open the drawer", r"a\u001b[2Jb"))
    assert main(["stats", str(root)]) == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert r"a\x1b[2Jb" in printed.out
    assert r"no\x1b[2Jwhere" in printed.err


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from vla.cli import main; main(['--help']); "
        "print([m for m in ('torch', 'tyro', 'pandas', 'pyarrow', 'av', 'h5py', 'transformers') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "stats" in output
    assert output.splitlines()[-1] == "[]"


def test_the_options_of_training_are_shown_without_torch():
    code = (
        "import sys; from vla.cli import main\ntry: main(['train', '--help'])\nfinally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--optim.batch-size" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_a_mistyped_command_is_told_which_was_meant(capsys):
    assert main(["trian"]) == 2
    assert "error: no command 'trian'. Did you mean 'train'?" in capsys.readouterr().err


def test_a_missing_package_names_the_extra(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "av", None)
    for module in [name for name in sys.modules if name.startswith("vla.data")]:
        monkeypatch.delitem(sys.modules, module)
    assert main(["stats", str(tmp_path)]) == 2
    assert "vla-train needs the package 'av': pip install 'motion-vla[train]'" in capsys.readouterr().err
