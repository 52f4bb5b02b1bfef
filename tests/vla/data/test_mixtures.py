"""Data sets are chosen by folder, file or published mixture, each with a weight."""

import json
from pathlib import Path

import pytest

from vla.data.errors import DataError
from vla.data.mixtures import choose, published_mixtures
from vla.train.config import LoopConfig, TrainConfig


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in published_mixtures()["oxe_magic_soup_plus"]:
        (tmp_path / "oxe" / name / "1.0.0").mkdir(parents=True)
    return tmp_path / "oxe"


def test_folders_without_weights_stay_as_they_are(tmp_path: Path):
    assert choose((tmp_path / "a", tmp_path / "b")) == ((tmp_path / "a", tmp_path / "b"), ())


def test_a_weight_stands_behind_the_name_of_a_folder(tmp_path: Path):
    chosen = choose((Path("a@2.5"), Path("b"), Path("c@x/d@1e-1")))
    assert chosen == ((Path("a"), Path("b"), Path("c@x/d")), (2.5, 1.0, 0.1))
    (tmp_path / "e@2").mkdir()
    assert choose((tmp_path / "e@2",)) == ((tmp_path / "e@2",), ())
    with pytest.raises(DataError, match="given twice"):
        choose((Path("a@2"),), (1.0,))
    with pytest.raises(DataError, match=r"field 'a': has weight -2.0; a positive number"):
        choose((Path("a@-2"),))


def test_a_published_mixture_is_its_data_sets_below_a_root(root: Path):
    chosen = choose((), (), "oxe_magic_soup_plus", root)
    assert len(chosen.folders) == 27
    weights = dict(zip((folder.name for folder in chosen.folders), chosen.weights, strict=True))
    assert (weights["droid"], weights["kuka"], weights["bridge_orig"]) == (0.06, 0.8341046294, 1.0)
    assert "droid" not in {folder.name for folder in choose((), (), "oxe_magic_soup", root).folders}


def test_all_missing_data_sets_are_listed_at_once_with_what_may_be_meant(root: Path):
    (root / "kuka" / "1.0.0").rmdir()
    (root / "kuka").rmdir()
    (root / "droid").rename(root / "droid_100")
    with pytest.raises(DataError) as caught:
        choose((), (), "oxe_magic_soup_plus", root)
    said = str(caught.value)
    assert "lacks 2 of the 27 data sets of oxe_magic_soup_plus:" in said
    assert "\n  kuka\n" in said
    assert "\n  droid (did you mean 'droid_100', which is there?)" in said


def test_an_unknown_mixture_says_which_there_are(root: Path):
    with pytest.raises(DataError, match=r"Did you mean 'oxe_magic_soup_plus'\? Known: bridge, bridge_rt_1, rtx"):
        choose((), (), "oxe_magic_soup_pluss", root)
    with pytest.raises(DataError, match="say with --root where its data sets lie"):
        choose((), (), "bridge")
    with pytest.raises(DataError, match="is no folder"):
        choose((), (), "bridge", root / "nowhere")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mix.toml", "kuka = 2\nviola = 0.5\n"),
        ("mix.toml", 'root = "oxe"\n[weights]\nkuka = 2\nviola = 0.5\n'),
        ("mix.json", json.dumps({"root": "oxe", "weights": {"kuka": 2, "viola": 0.5}})),
    ],
)
def test_a_file_names_data_sets_and_weights(root: Path, name: str, content: str):
    folder = root.parent if "root" in content else root
    (folder / name).write_text(content)
    assert choose((), (), str(folder / name)) == ((root / "kuka", root / "viola"), (2, 0.5))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("kuka = 0\n", "field 'kuka': has weight 0"),
        ('kuka = "2"\n', "field 'kuka': has weight '2'"),
        ("kuka = true\n", "field 'kuka': has weight True"),
        ("kuka = nan\n", "field 'kuka': has weight nan"),
        ("kuka 2\n", "cannot be read"),
        ('root = "x"\n', "names no data set"),
        ("kukka = 1\n", r"kukka \(did you mean 'kuka', which is there\?\)"),
    ],
)
def test_a_file_that_says_nothing_usable_is_refused(root: Path, content: str, said: str):
    (root / "mix.toml").write_text(content)
    with pytest.raises(DataError, match=f"{said}"):
        choose((), (), str(root / "mix.toml"))


def test_a_mixture_is_instead_of_folders_in_training(root: Path, tmp_path: Path):
    config = TrainConfig(LoopConfig(tmp_path / "out"), mixture="bridge", root=root)
    assert (config.data, config.weights) == ((root / "bridge_orig",), (1.0,))
    with pytest.raises(DataError, match="leave --data and --weights out"):
        TrainConfig(LoopConfig(tmp_path / "out"), data=(root,), mixture="bridge", root=root)
    with pytest.raises(DataError, match="name a mixture too"):
        TrainConfig(LoopConfig(tmp_path / "out"), data=(root,), root=root)
