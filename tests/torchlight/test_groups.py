"""Groups of dependent clips, in intervals and tests of ensemble.py; weights chosen on held-out training clips."""

import json
import logging

import numpy as np
import pytest
import yaml

from tests.feeders.synthetic import random_clips, rewrite_index, write_store
from torchlight.fusion import fuse
from torchlight.fusion.cli import main
from torchlight.fusion.groups import find_groups
from torchlight.fusion.intervals import bootstrap_interval, compare, sign_flip
from torchlight.training.scores import write_scores

NTU = ["S001C001P003R001A005", "S001C002P003R001A005", "S001C003P003R002A005", "S002C001P003R001A005"]
UCLA = ["a01_s01_e00_v01", "a01_s01_e00_v03", "a01_s02_e00_v01", "a02_s01_e00_v01"]


@pytest.fixture(autouse=True)
def fresh_terminal(monkeypatch):
    """The log writes to the terminal of this test, not to that of the first one."""
    monkeypatch.setattr(logging.getLogger("torchlight"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("torchlight"), "propagate", True)


@pytest.mark.parametrize(
    ("names", "by", "index", "words"),
    [
        (NTU, None, [0, 0, 1, 2], "3 performances"),
        (NTU, "performance", [0, 0, 1, 2], "3 performances"),
        (NTU, "performer", [0, 0, 0, 0], "1 performer"),
        (UCLA, None, [0, 0, 1, 2], "3 performances"),
        (UCLA, "performer", [0, 0, 1, 0], "2 performers"),
    ],
)
def test_performance_and_performer_follow_from_names(names, by, index, words):
    groups = find_groups(names, by)
    assert groups.index.tolist() == index and str(groups) == words and groups.few


def test_clips_with_other_names_are_independent_and_described_as_such():
    groups = find_groups([*NTU, "test_4"])
    assert groups.index is None and "because their names do not identify performances" in str(groups)
    own = find_groups(["run", "walk", "jump"], None, np.array(["anna", "ben", "anna"]))
    assert own.index.tolist() == [0, 1, 0] and str(own) == "2 groups" and own.few
    assert (
        find_groups(["run"], "performer", ["anna"]).kind == "group"
        and find_groups(NTU, None, ["x"] * len(NTU)).kind != "group"
    )
    assert find_groups(NTU, "clip").index is None and "treated as independent" in str(find_groups(NTU, "clip"))
    with pytest.raises(ValueError, match="groups: expected clip names such as .* got 'test_4'; give clip, or a CSV"):
        find_groups([*NTU, "test_4"], "performer")
    with pytest.raises(ValueError, match="groups: expected performance, .* got 'performers'; did you mean performer"):
        find_groups(NTU, "performers")


def test_a_table_defines_groups_of_any_names(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("name,label,group\nwalk,0,anna\nrun,1,bob\njump,1,anna\n")
    groups = find_groups(["run", "walk#1", "walk#2", "jump"], str(table))
    assert groups.index.tolist() == [0, 1, 1, 1] and str(groups) == "2 groups"
    with pytest.raises(ValueError, match="expected the group of every clip, got none for 1 of 2 .first: 'swim'"):
        find_groups(["run", "swim"], str(table))
    table.write_text("name,group\nrun,bob\n,anna\n")
    with pytest.raises(ValueError, match="got none for 1 of 2"):
        find_groups(["run", "swim"], str(table))
    table.write_text("name,label\nwalk,0\n")
    with pytest.raises(ValueError, match="expected the columns name and group, got no group"):
        find_groups(["walk"], str(table))


def test_the_grouped_interval_is_that_of_resampled_groups():
    random = np.random.default_rng(0)
    size = random.integers(1, 5, 80)
    group = np.repeat(np.arange(80), size)
    correct = random.random(len(group)) < np.repeat(random.choice([0.3, 0.95], 80), size)
    rows = [np.flatnonzero(group == g) for g in range(80)]
    picks = [np.concatenate([rows[g] for g in random.integers(0, 80, 80)]) for _ in range(4000)]
    expected = np.quantile([100 * correct[pick].mean() for pick in picks], [0.025, 0.975])
    assert bootstrap_interval(correct, group=group) == pytest.approx(expected, abs=0.5)
    other = random.random(len(group)) < 0.7
    differences = [100 * (correct[pick].mean() - other[pick].mean()) for pick in picks]
    result = compare(correct, other, group=group)
    assert result.interval == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.7)
    sums = [int(correct[r].sum()) - int(other[r].sum()) for r in rows]
    assert result.p == sign_flip(np.array(sums)) and result.p_clips == sign_flip(correct.astype(int) - other)


def test_groups_of_single_clips_change_nothing():
    correct = np.arange(200) % 7 != 0
    assert bootstrap_interval(correct, group=np.arange(200)) == bootstrap_interval(correct)


def test_the_halves_of_a_weight_search_never_separate_a_performance():
    """Both views of a performance have the same scores: with clips in halves each choice sees its own test clips."""
    noise = np.random.default_rng(0).normal(size=(4, 40, 7)).repeat(2, axis=1)
    label = np.repeat(np.arange(40) % 7, 2)
    apart = fuse.search_weights(noise, label).cross_fitted.mean()
    together = fuse.search_weights(noise, label, group=np.repeat(np.arange(40), 2)).cross_fitted.mean()
    assert together < apart - 3


# Weights from held-out training clips

TRAIN = [f"a0{a}_s0{s}_e0{e}_v0{v}" for s in (1, 2, 3) for a in range(1, 6) for e in (0, 1) for v in (1, 2)]
TEST = [f"a0{a}_s0{s}_e0{e}_v03" for s in (1, 2, 3) for a in range(1, 6) for e in (0, 1)]
LABEL = np.array([int(name[2]) - 1 for name in TRAIN + TEST])


@pytest.fixture
def runs(tmp_path):
    """Runs joint and bone on the test part, and the same with s02 held out, in which bone is by far the better one."""
    names = np.array(TRAIN + TEST)
    splits = {"xview": {"train": range(len(TRAIN)), "test": range(len(TRAIN), len(names))}}
    clips, _ = random_clips([8] * len(names), 20)
    store = write_store(
        *(tmp_path / "clips", [clip[:1] for clip in clips], LABEL, [(0,)] * len(names), splits),
        **{"num_class": 5, "skeleton": "graph.ucla"},
    )
    rewrite_index(store, name=names)
    held = np.array(["_s02_" in name for name in TRAIN] + [False] * len(TEST))
    test = np.arange(len(names)) >= len(TRAIN)
    strength = {("runs", "joint"): 3, ("runs", "bone"): 0, ("held", "joint"): 0, ("held", "bone"): 3}
    for i, ((folder, modality), s) in enumerate(strength.items()):
        name = f"{modality}_without_s02" if folder == "held" else modality
        place, chosen = tmp_path / folder / name, held if folder == "held" else test
        place.mkdir(parents=True)
        arguments = {"data_path": str(store), "split": "xview"}
        config = {"feeder": "feeders.feeder_ucla.Feeder", "feeder_args": arguments, "modality": modality}
        config |= {"hold_out": ["s02"]} if folder == "held" else {}
        (place / "config.yaml").write_text(yaml.safe_dump(config))
        rows = np.random.default_rng(i).normal(size=(chosen.sum(), 5)) + s * np.eye(5)[LABEL[chosen]]
        write_scores(place / "epoch1_test_score.pkl", names[chosen], rows)
    return tmp_path


def run(capsys, *arguments):
    """Exit code, stdout, stderr."""
    code = main([str(a) for a in arguments])
    return code, *capsys.readouterr()


def test_weights_from_held_out_clips_are_applied_to_the_test_part(runs, capsys):
    """Held out, bone is right and joint is noise; on the test part it is the opposite, and the weights stay."""
    streams = ["--joint-dir", runs / "runs/joint", "--bone-dir", runs / "runs/bone"]
    order = [runs / "held/bone_without_s02", runs / "held/joint_without_s02"]  # matched by modality
    code, out, err = run(capsys, *streams, "--weights-from", *order, "--json", runs / "t.json")
    table = json.loads((runs / "t.json").read_text())
    joint, bone = (row["weight"] for row in table["streams"])
    assert (code, err) == (0, "") and bone > joint
    assert "best on 20 held-out training clips of s02" in table["weights_from"] and table["weights_from"] in out
    assert table["fusion"]["top1"] < table["streams"][0]["top1"] and table["groups"] == "30 performances"


def test_runs_that_are_not_held_out_choose_no_weights(runs, capsys):
    streams = ["--joint-dir", runs / "runs/joint", "--bone-dir", runs / "runs/bone"]
    for more, message in (
        ([runs / "runs/joint", runs / "runs/bone"], "the same hold_out, got joint: none; bone: none"),
        ([runs / "held/joint_without_s02"], "expected 2 runs, one per stream (joint, bone), got 1"),
        (
            [runs / "held/joint_without_s02", runs / "held/bone_without_s02", "--alpha", "1"],
            "alpha: expected either --alpha or --weights-from",
        ),
    ):
        code, _, err = run(capsys, *streams, "--weights-from", *more)
        assert code == 2 and message in err, err
    streams = ["--joint-dir", runs / "held/joint_without_s02", "--bone-dir", runs / "held/bone_without_s02"]
    code, _, err = run(
        capsys, *streams, "--weights-from", runs / "held/joint_without_s02", runs / "held/bone_without_s02"
    )
    assert code == 2 and "expected clips of the training part, got 20 of the test part" in err


def test_the_groups_of_the_command_line_are_those_of_the_table(runs, capsys):
    runs_of_two = ["--compare", runs / "runs/joint", runs / "runs/bone"]
    code, out, err = run(capsys, *runs_of_two, "--groups", "performer")
    assert code == 0 and "bootstrap over 3 performers" in out and "sign-flip test over 3 performers: p = 0.25" in out
    assert "groups: expected 30 or more, got 3 performers; with so few, the intervals are too narrow" in out + err
    code, out, _ = run(capsys, *runs_of_two, "--groups", "clip")
    assert code == 0 and "sign-flip" not in out and "bootstrap over clips, treated as independent" in out
    code, _, err = run(capsys, *runs_of_two, "--groups", "performers")
    assert code == 2 and "performers" in err
