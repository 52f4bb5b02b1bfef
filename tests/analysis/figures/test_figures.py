"""The figures of the pipeline and of the network."""

import pytest

from analysis.figures.architecture import architecture_figure, stages
from analysis.figures.command import figures
from evals.errors import UsageError
from studies.motion.pipeline import draw_distributions, pipeline_figure
from studies.motion.synthetic import EMBODIMENTS, TEST_SEED, synthetic_corpora
from vla.model.presets import preset


def test_sequences_are_drawn_as_the_model_is_trained_on_them():
    first, second = stages(preset("0.5b")).values()
    assert [part.kind for part in first] == ["text", "image", "text", "motion"]
    assert [part.kind for part in second] == ["text", "image", "text", "motion", "text", "action"]
    assert first[1].text == "256 image tokens"
    assert first[3].text == "move forward down, close gripper<|im_end|>"
    assert second[5].text.count("<extra_") == 7


@pytest.mark.parametrize("name", ["0.5b", "tiny"])
def test_the_architecture_shows_the_sizes_of_the_preset(name):
    model = preset(name)
    told = "\n".join(text.get_text() for text in architecture_figure(model).axes[0].texts)
    assert f"{model.feature_width} > " in told
    assert f"{model.language.model['num_hidden_layers']} layers" in told
    assert ("frozen" in told) == (name == "tiny")


def test_scaled_actions_lie_between_minus_one_and_one_in_every_row():
    from matplotlib.figure import Figure

    corpora = synthetic_corpora(TEST_SEED, EMBODIMENTS[:2])
    axes = draw_distributions(corpora, True, Figure().subplots())
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fractal, 3 Hz", "bridge, 5 Hz"]
    assert max(abs(x) for line in axes.lines[:-1] for x in line.get_xdata()) <= 1


def test_the_pipeline_is_drawn_without_recorded_experts():
    titles = [axes.get_title() for axes in pipeline_figure(synthetic_corpora(TEST_SEED, EMBODIMENTS[:2])).axes]
    assert [title[:2] for title in titles if title] == ["1.", "sc", "2.", "3."]


def test_the_command_writes_png_and_pdf(tmp_path):
    assert figures(["architecture", "--preset", "tiny", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["architecture.pdf", "architecture.png"]


def test_an_unknown_preset_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match=r"'7b'. Known: 0\.5b"):
        figures(["architecture", "--preset", "7b", "--out", str(tmp_path)])
