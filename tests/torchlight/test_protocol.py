"""Cross-validation over performers and seeds, its folds, its figures and its continuation."""

import json

import numpy as np
import pytest
import yaml

from tests.feeders.synthetic import random_clips, rewrite_index, write_store
from tests.torchlight import tiny
from torchlight import protocol
from torchlight.commands import main as cli
from torchlight.commands import programs
from torchlight.fusion.intervals import sign_flip

NAMES = [f"a0{a}_s0{s}_e0{e}_v01" for s in (1, 2, 3) for a in range(1, 6) for e in range(2 if s < 3 else 1)]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A function that writes a recipe of one epoch for a very small network; three performers to train on."""
    folder = tmp_path_factory.mktemp("protocol")
    label = [int(name[2]) - 1 for name in NAMES]
    splits = {"xview": {"train": range(len(NAMES)), "test": [0]}}
    clips = [clip[:1] for clip in random_clips([8] * len(NAMES), 20)[0]]
    facts = {"num_class": 5, "skeleton": "graph.ucla"}
    store = write_store(folder / "clips", clips, label, [(0,)] * len(NAMES), splits, **facts)
    rewrite_index(store, name=np.array(NAMES))

    def write(name, **changes):
        (folder / name).write_text(yaml.safe_dump(tiny.options(store) | {"num_epoch": 1} | changes))
        return str(folder / name)

    return write


def test_every_performer_is_held_out_once_or_folds_have_about_as_many_clips():
    assert protocol.make_folds(["performers"], NAMES) == [["s01"], ["s02"], ["s03"]]
    assert protocol.make_folds(["2"], NAMES) == [["s01", "s03"], ["s02"]]
    assert protocol.make_folds(["e00,e01", "e02"], NAMES) == [["e00", "e01"], ["e02"]]


@pytest.mark.parametrize(
    ("words", "names", "message"),
    [
        (["4"], NAMES, "folds: expected 2 to 3, the number of performers, got 4"),
        (["performers"], ["clip_1"], "got 'clip_1'; give the words of each fold instead"),
        (["s01,s02"], NAMES, "two or more folds of different words, got s01,s02"),
        (["s01,s02", "s02"], NAMES, "two or more folds of different words, got s01,s02 s02"),
    ],
)
def test_impossible_folds_are_refused(words, names, message):
    with pytest.raises(ValueError) as error:
        protocol.make_folds(words, names)
    assert message in str(error.value)


def test_means_spreads_and_the_comparison_are_those_of_the_counts():
    correct = np.array([[[5, 7], [9, 8], [2, 4]], [[4, 4], [8, 8], [1, 2]]])  # (recipes, folds, seeds)
    clips = np.broadcast_to(np.array([10, 10, 5])[:, None], correct.shape)
    table = protocol.summarize(["a", "b"], [["s01"], ["s02"], ["s03"]], np.stack([correct, clips], axis=-1))
    top1 = 100 * correct / clips
    assert table["recipes"][0]["mean"] == pytest.approx(top1[0].mean())
    assert table["recipes"][0]["std_folds"] == pytest.approx(np.std(top1[0].mean(1), ddof=1))
    assert table["recipes"][1]["std_seeds"] == pytest.approx(np.std(top1[1].mean(0), ddof=1))
    assert table["comparison"]["by_fold"] == pytest.approx((top1[0] - top1[1]).mean(1))
    assert table["comparison"]["p"] == sign_flip(np.array([4, 1, 3])) == 0.25
    with pytest.raises(ValueError, match="expected recipes on the same clips"):
        clips = clips.copy()
        clips[1, 0] = 9
        protocol.summarize(["a", "b"], [["s01"], ["s02"], ["s03"]], np.stack([correct, clips], axis=-1))


@pytest.fixture
def in_this_process(monkeypatch):
    """Trainings and tests run in this process, which is faster than starting one for each."""

    def call(words, environment=None):
        print("$ python", *words)
        assert words[0] == "main.py" and cli.main(words[1:]) == 0

    monkeypatch.setattr(programs, "call", call)


def test_two_recipes_are_compared_on_the_same_folds_and_the_same_command_repeats_nothing(
    recipe, tmp_path, capfd, in_this_process
):
    files = [recipe("slow.yaml"), recipe("fast.yaml", base_lr=0.2)]
    words = ["--config", *files, "--folds", "s01", "s02,s03", "--seeds", "1", "--work-dir", str(tmp_path / "runs")]
    assert protocol.main([*words, "--json", str(tmp_path / "t.json"), "--", "--num-epoch", "2"]) == 0
    out = capfd.readouterr().out
    table = json.loads((tmp_path / "t.json").read_text())
    assert table["clips"] == [10, 15] and [r["recipe"] for r in table["recipes"]] == ["slow", "fast"]
    folder = tmp_path / "runs/fast/s02_s03/seed1"
    lines = tiny.metrics(folder)
    assert lines[-1]["epoch"] == 2 and lines[-1]["test_top1"] == pytest.approx(table["recipes"][1]["top1"][1][0])
    assert out.count("$ python main.py") == 8 and "sign-flip test over 2 folds" in out and "fold" in out
    (folder / "epoch1_test_score.pkl").unlink()
    assert protocol.main([*words, "--", "--num-epoch", "2"]) == 0
    out = capfd.readouterr().out
    assert out.count("$ python main.py") == 1 and "--save-score true" in out
    assert protocol.main([*words, "--", "--num-epoch", "2", "--modality", "bone"]) == 1  # not the runs of joints
    assert "belongs to another experiment" in capfd.readouterr().err


def test_mistakes_on_the_command_line_are_reported_before_any_training(recipe, capfd):
    file = recipe("slow.yaml")
    odd = recipe("odd.yaml", objective_args={"label_smoothing": 2.0})
    arguments = {"num_class": 4, "num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph"}
    small = recipe("small.yaml", model_args=arguments)
    for words, message in (
        (["--config", file, file.replace("slow", "none")], "none.yaml: cannot be read"),
        (["--config", file, "--folds", "s01", "s77"], "hold_out: expected words of the names of training clips"),
        (["--config", file, small], "model_args.num_class: expected 5, because the data has 5 classes, got 4"),
        (["--config", file, odd], f"{odd}: objective_args.label_smoothing"),
        (["--config", file, "--json", "/none/t.json"], "/none/t.json: its folder does not exist"),
        (["--config", file, file], "config: expected one recipe, or two different ones"),
        (
            ["--config", file, file.replace("slow.yaml", "./slow.yaml")],
            "config: expected one recipe, or two different ones",
        ),
        (["--config", file, "--seeds", "0"], "seeds: expected 1 or more, got 0"),
        (["--config", file, "--", "--seed", "3"], "--seed: expected nothing after --, because the protocol sets it"),
        (["--config", file, "--data-root", "/none"], "--data-root: expected a folder that exists, got '/none'"),
        (["--config", file, "--", "--data-root", "/none"], "--data-root: expected a folder that exists, got '/none'"),
        (["--config", file, "--", "--num-epochs", "3"], "--num-epochs: unknown flag; did you mean --num-epoch?"),
    ):
        assert protocol.main(words) == 2
        out, err = capfd.readouterr()
        assert message in err and "$ python" not in out
