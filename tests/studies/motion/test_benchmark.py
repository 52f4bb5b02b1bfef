"""The motion benchmark scores what it says it scores, on episodes whose intent is known."""

import json
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest

from envs.reach import suite as reach_suite
from evals.record import Header
from evals.spaces import ActionSpace
from evals.types import Episode, EpisodeResult, Seconds, Status
from studies.motion.benchmark import BASELINE, accuracy_tables, contestants, labeller_from_setting, robustness_table
from studies.motion.corpus import Corpus, LabelledEpisode
from studies.motion.experts import TraceError, expert_corpora, pack
from studies.motion.robustness import at_half_rate, bridge_corpus, rescaled, survival_of_rescaling
from studies.motion.scores import accuracy, boundary_distances, flicker, labelled, score, slot_table, tolerant_accuracy
from studies.motion.search import ADAPTIVE_SPACE, SETTINGS, mean_accuracy, search, tuned_raw
from studies.motion.synthetic import EMBODIMENTS, Embodiment, synthetic_corpora, synthetic_episode
from vla.motion.hmm import HmmLabeller
from vla.motion.labellers import AdaptiveLabeller, Labeller, RawLabeller
from vla.motion.language import parse, slots_from_motions
from vla.motion.segments import SegmentLabeller

QUIET = Embodiment(
    "quiet", 10, (0.02, 0.1), inertia_seconds=1e-3, wobble=0, coupling=0, drift=0, rest_jitter=0, speed_jitter=0
)


@pytest.fixture(scope="module")
def two_corpora():
    return synthetic_corpora(3, EMBODIMENTS[:2])


class Oracle(Labeller):
    """Knows the truth of one corpus."""

    def __init__(self, corpus):
        self.answers = {episode.actions.tobytes(): episode.slots for episode in corpus.episodes}

    def slots(self, actions, statistics, episode=""):
        return self.answers[actions.tobytes()]


def slots(*sentences):
    return slots_from_motions([parse(sentence) for sentence in sentences])


def test_seeds_make_splits_and_the_same_seed_the_same_episodes():
    first, again, other = (synthetic_corpora(seed, EMBODIMENTS[:1])[0].episodes[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.actions, again.actions)
    assert first.actions.shape != other.actions.shape or (first.actions != other.actions).any()


def test_there_are_at_least_eight_embodiments_from_3_to_50_hz():
    rates = [embodiment.rate_hz for embodiment in EMBODIMENTS]
    assert len(EMBODIMENTS) >= 8
    assert (min(rates), max(rates)) == (3, 50)


def test_without_imperfections_actions_are_the_intent_in_the_robots_units():
    episode = synthetic_episode(QUIET, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sign(np.round(episode.actions[:, :3], 9)), episode.slots[:, :3])
    assert np.abs(episode.actions[:, :3]).max() <= 0.02


def test_a_perfect_labeller_scores_perfectly(two_corpora):
    for corpus in two_corpora:
        got = score(labelled(Oracle(corpus), corpus), corpus)
        assert (got.accuracy, got.boundary_seconds) == (1.0, 0.0)
        assert got.flicker_hz == got.true_flicker_hz > 0


def test_a_border_may_lie_a_step_off_where_the_score_tolerates_it():
    truth = slots("stop", "stop", "move up", "move up", "move up")
    corpus = Corpus("c", 5, (LabelledEpisode(np.zeros((5, 7)), truth),))
    late = slots("stop", "stop", "stop", "stop", "move up")
    assert [tolerant_accuracy([late], corpus, steps) for steps in (0, 1, 2)] == [0.6, 0.8, 1.0]
    assert tolerant_accuracy([slots(*["move down"] * 5)], corpus, 9) == 0.0


def test_one_wrong_word_makes_the_sentence_wrong():
    corpus = Corpus("c", 5, (LabelledEpisode(np.zeros((2, 7)), slots("move up", "move left up")),))
    got = score([slots("move up", "move up")], corpus)
    assert got.accuracy == 0.5
    table = slot_table([slots("move up", "move up")], [corpus.episodes[0].slots]).set_index("slot")
    assert table.loc["z", "f1"] == 1
    assert table.loc["y", "recall"] == 0


def test_boundaries_are_measured_to_the_nearest_label_change():
    truth = slots("stop", "stop", "stop", "move up", "move up", "stop")
    labels = slots("stop", "move up", "move up", "move up", "move up", "stop")
    assert boundary_distances(truth, labels).tolist() == [2, 0]
    assert boundary_distances(truth, slots(*["stop"] * 6)).tolist() == [6, 6]
    assert flicker([labels], rate_hz=3) == 1


def test_the_search_never_returns_something_worse_than_its_start(two_corpora):
    start = AdaptiveLabeller()
    found = search(start, ADAPTIVE_SPACE, [two_corpora], budget=8)
    assert mean_accuracy(found, two_corpora) >= mean_accuracy(start, two_corpora)


def test_the_tuned_baseline_is_at_least_as_good_as_the_untuned(two_corpora):
    tuned = tuned_raw(two_corpora)
    assert mean_accuracy(tuned, two_corpora) >= mean_accuracy(RawLabeller(tuned.threshold * 3), two_corpora)


def test_rescaled_actions_keep_every_adaptive_label(two_corpora):
    for labeller in (AdaptiveLabeller(), HmmLabeller(), SegmentLabeller()):
        assert [survival_of_rescaling(labeller, corpus) for corpus in two_corpora] == [1.0, 1.0]
    assert survival_of_rescaling(RawLabeller(), two_corpora[0]) < 1.0


def test_half_the_control_rate_is_the_same_way_in_half_the_steps(two_corpora):
    corpus = two_corpora[0]
    halved = at_half_rate(corpus)
    before, after = corpus.episodes[0].actions, halved.episodes[0].actions
    assert (len(after), halved.rate_hz) == (len(before) // 2, corpus.rate_hz / 2)
    np.testing.assert_allclose(after[:, :6].sum(0), before[: 2 * len(after), :6].sum(0))
    assert (rescaled(corpus, 3.0).episodes[0].actions[:, 6] == before[:, 6]).all()


def test_the_committed_settings_are_the_labellers_defaults():
    settings = json.loads(SETTINGS.read_text())
    assert labeller_from_setting("adaptive", settings["adaptive"]) == AdaptiveLabeller()
    assert labeller_from_setting("hmm", settings["hmm"]) == HmmLabeller()


def test_every_contestant_gets_a_row_and_the_baseline_differs_from_itself_by_nothing(two_corpora):
    settings = {"adaptive": asdict(AdaptiveLabeller()), "hmm": asdict(HmmLabeller())}
    rows = contestants([replace(corpus, episodes=corpus.episodes[:2]) for corpus in two_corpora], settings)
    summary, embodiments = accuracy_tables(rows, two_corpora)
    by_name = summary.set_index("labeller")
    assert list(by_name.index) == [row.name for row in rows]
    assert by_name.loc[BASELINE, "over tuned raw"] == "+0.0 [+0.0, +0.0]"
    assert list(embodiments["embodiment"]) == ["fractal (3 Hz)", "bridge (5 Hz)"]
    assert set(robustness_table(rows[-1:], two_corpora)["same after rescaling %"]) == {100.0}


def test_the_global_settings_beat_the_tuned_baseline_on_new_seeds():
    """A guard on the published table, on other seeds and fewer episodes."""
    tuning, fresh = synthetic_corpora(5), synthetic_corpora(6)
    raw = np.mean([accuracy(tuned_raw([known]), new) for known, new in zip(tuning[::4], fresh[::4], strict=True)])
    adaptive, hmm = (mean_accuracy(labeller, fresh[::4]) for labeller in (AdaptiveLabeller(), HmmLabeller()))
    assert all(worse + 0.05 < better for worse, better in pairwise([raw, adaptive, hmm]))


def write_run(folder, suite, traces, space=None):
    """A run folder, of format 1 without a space, whose episodes start in the states given, each with a trace."""
    (folder / "traces").mkdir(parents=True)
    named = replace(reach_suite(), name=suite)
    header = Header.of(named, {"suite": suite, "policy": "expert", "seed": 0}, {})
    header = replace(header, action_space=space, state_space=None)
    (folder / "run.json").write_text(json.dumps({"format": 2 if space else 1, **asdict(header)}))
    for state, (actions, said) in traces.items():
        name, protocol = Episode(suite, 0, state, 0, named.protocol.hash).id, named.protocol.hash
        result = EpisodeResult(
            suite, 0, state, 0, name, Status.SUCCESS, 1, True, True, False, True, 1, Seconds(), "", "", protocol, 0, 1
        )
        with (folder / "episodes.jsonl").open("a") as lines:
            lines.write(json.dumps(result.to_json()) + "\n")
        np.savez(folder / "traces" / f"{name}.npz", actions=actions, said=np.array(said))
    return folder


def test_traces_of_both_simulators_become_one_file_with_one_gripper_convention(tmp_path):
    closing = np.zeros((3, 7))
    closing[:, 6] = [-1, 1, 1]
    intents = ["move down", "close gripper", "move up"]
    libero = write_run(tmp_path / "libero", "libero_spatial", {0: (closing, intents), 1: (closing, intents)})
    simpler = write_run(tmp_path / "simpler", "simpler_bridge", {0: (-closing, intents)})
    assert pack([libero], [simpler], tmp_path / "experts.npz") == {"tuning": 2, "test": 1}
    tuning, test = (expert_corpora(split, tmp_path / "experts.npz") for split in ("tuning", "test"))
    assert [(corpus.name, corpus.rate_hz, len(corpus.episodes)) for corpus in tuning + test] == [
        ("libero_spatial", 20, 2),
        ("simpler_bridge", 5, 1),
    ]
    for corpus in tuning + test:
        assert corpus.episodes[0].actions[:, 6].tolist() == [1, 0, 0]
        np.testing.assert_array_equal(corpus.episodes[0].slots, slots(*intents))


def test_a_record_that_says_what_its_numbers_mean_needs_no_installed_suite(tmp_path):
    space = ActionSpace(gripper_open=0.0, gripper_closed=0.8, control_hz=7.0)
    closing = np.zeros((3, 7))
    closing[:, 6] = [0, 0.8, 0.4]
    run = write_run(tmp_path / "run", "libero_of_another_lab", {0: (closing, ["stop"] * 3)}, space)
    pack([run], [], tmp_path / "experts.npz")
    [corpus] = expert_corpora("tuning", tmp_path / "experts.npz")
    assert (corpus.name, corpus.rate_hz) == ("libero_of_another_lab", 7.0)
    assert corpus.episodes[0].actions[:, 6].tolist() == [1, 0, 0.5]


def test_an_initial_state_that_tuning_has_seen_is_no_test(tmp_path):
    trace = (np.zeros((1, 7)), ["stop"])
    first = write_run(tmp_path / "first", "libero_goal", {0: trace, 1: trace})
    second = write_run(tmp_path / "second", "libero_goal", {1: trace, 2: trace})
    assert pack([first], [second], tmp_path / "experts.npz") == {"tuning": 2, "test": 1}


def test_bad_traces_are_named(tmp_path):
    run = write_run(tmp_path / "run", "libero_goal", {0: (np.zeros((3, 7)), ["stop"])})
    with pytest.raises(TraceError, match=r"[0-9a-f]{16}\.npz: actions \(3, 7\) and 1 intents"):
        pack([run], [], tmp_path / "experts.npz")
    with pytest.raises(TraceError, match="has traces"):
        pack([], [], tmp_path / "experts.npz")
    other = write_run(tmp_path / "other", "maniskill_x", {0: (np.zeros((1, 7)), ["stop"])})
    with pytest.raises(TraceError, match="'maniskill_x' has no gripper convention"):
        pack([], [other], tmp_path / "experts.npz")


def test_no_traces_are_no_corpora(tmp_path):
    assert expert_corpora("test", tmp_path / "absent.npz") == []


def test_real_bridge_episodes_keep_their_labels_in_other_units(shared):
    corpus = bridge_corpus(shared / "data" / "bridge_dataset")
    assert len(corpus.episodes) == 25
    assert survival_of_rescaling(AdaptiveLabeller(), corpus) == 1.0
    assert survival_of_rescaling(HmmLabeller(), corpus) == 1.0
