"""Labellers by name, and what the package offers."""

import subprocess
import sys

import pytest

import vla.motion
from vla.errors import LabellerError
from vla.motion import AdaptiveLabeller, HmmLabeller, RawLabeller, labeller


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """Return offered(code): another package that offers what `theirs` is in the code as the labeller "theirs"."""

    def install(code):
        (tmp_path / "theirs-1.dist-info").mkdir()
        (tmp_path / "theirs_labeller.py").write_text(code)
        (tmp_path / "theirs-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
        points = "[vla_eval.labellers]\ntheirs = theirs_labeller:theirs\n"
        (tmp_path / "theirs-1.dist-info/entry_points.txt").write_text(points)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "theirs_labeller", raising=False)

    return install


def test_the_package_offers_these_names():
    assert sorted(vla.motion.__all__) == [
        *(
            "AdaptiveLabeller",
            "HmmLabeller",
            "Labeller",
            "Motion",
            "MotionSyntaxError",
            "RawLabeller",
            "SegmentLabeller",
        ),
        *("all_motions", "describe", "labeller", "parse"),
    ]
    assert all(hasattr(vla.motion, name) for name in vla.motion.__all__)


@pytest.mark.parametrize(("name", "made"), [("raw", RawLabeller), ("adaptive", AdaptiveLabeller), ("hmm", HmmLabeller)])
def test_a_name_makes_the_labeller_as_it_is_by_default(name, made):
    assert labeller(name) == made()


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(
        LabellerError, match=r"No labeller named 'adaptve'. Did you mean 'adaptive'\? Known: .*hmm, raw"
    ):
        labeller("adaptve")


def test_another_package_may_offer_a_labeller_as_a_function(offered):
    offered("from vla.motion import RawLabeller\ndef theirs(): return RawLabeller(threshold=0.5)\n")
    assert labeller("theirs") == RawLabeller(0.5)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def theirs(): raise OSError('no disk')", "OSError: no disk"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("def theirs(threshold): pass", "missing 1 required positional argument"),
        ("def theirs(): return 'raw'", "makes str, which is no vla.motion.Labeller"),
    ],
)
def test_a_plugin_that_makes_no_labeller_is_named_with_what_it_does(offered, code, told):
    offered(code)
    with pytest.raises(LabellerError, match=rf"Labeller 'theirs' \(theirs_labeller:theirs\).*{told}"):
        labeller("theirs")


@pytest.mark.parametrize("module", ["vla.motion", "envs.reach", "envs.libero.tasks", "envs.bridge.tasks"])
def test_who_speaks_motion_loads_nothing_heavy(module):
    heavy = {"torch", "scipy", "pandas", "transformers", "tyro"}
    program = f"import sys, {module}\nprint(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
