"""YAML files and flags become one configuration; mistakes are reported."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import yaml

from tests.torchlight import tiny
from torchlight.commands import main as cli
from torchlight.config import checks, imports
from torchlight.config import options as config
from torchlight.config.load import load_config
from torchlight.config.options import PHASES, Config, ConfigError
from torchlight.system.values import coerce


@pytest.fixture
def write(tmp_path):
    def write(name="experiment.yaml", **options):
        (tmp_path / name).write_text(yaml.safe_dump(options))
        return tmp_path / name

    return write


def problems_of(call) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        call()
    return caught.value.problems


def from_flags(*words: str, file=None) -> Config:
    return load_config(file, cli.parse([str(word) for word in words]))


def test_the_command_line_overrides_the_file_the_file_its_base_and_the_base_the_defaults(write):
    write("base.yaml", base_lr=0.2, num_epoch=7, batch_size=32, model_args={"a": 1, "b": {"c": 1, "d": 1}})
    file = write(base="base.yaml", num_epoch=8, batch_size=16, model_args={"b": {"c": 2}})
    found = from_flags("--batch-size", 8, "--model-args.b.d", 3, file=file)
    assert (found.momentum, found.base_lr, found.num_epoch, found.batch_size) == (0.9, 0.2, 8, 8)
    assert found.model_args == {"a": 1, "b": {"c": 2, "d": 3}}
    assert found.origins["base_lr"].endswith("base.yaml") and found.origins["num_epoch"].endswith("experiment.yaml")
    assert found.origins["batch_size"] == "command line" and "momentum" not in found.origins


def test_feeder_args_are_for_both_feeders_whose_own_arguments_override_them(write):
    write("base.yaml", feeder_args={"a": 1, "b": {"c": 1, "d": 1}}, test_feeder_args={"a": 2, "clips": 10})
    file = write(base="base.yaml", feeder_args={"b": {"c": 2}}, train_feeder_args={"repeat": 5})
    found = load_config(file)
    assert found.train_feeder_args == {"a": 1, "b": {"c": 2, "d": 1}, "repeat": 5}
    assert found.test_feeder_args == {"a": 2, "b": {"c": 2, "d": 1}, "clips": 10}
    found = from_flags("--feeder-args.a", 3, "--test-feeder-args", "a=4", file=file)
    assert (found.train_feeder_args["a"], found.test_feeder_args["a"]) == (3, 4)
    assert "feeder_args" not in yaml.safe_load(found.to_yaml())
    assert load_config(write(feeder_args=None, model_args={})).train_feeder_args == {}


def test_a_base_has_no_base(write):
    write("deep.yaml", num_epoch=1)
    write("base.yaml", base="deep.yaml")
    (problem,) = problems_of(lambda: load_config(write(base="base.yaml")))
    assert "expected no base" in problem


def test_a_base_is_relative_to_the_file_or_else_to_the_project(write):
    file = write(base="config/base/ucla.yaml")
    assert load_config(file).feeder == "feeders.feeder_ucla.Feeder"
    write("mine.yaml", num_epoch=3)
    assert load_config(write(base="mine.yaml")).num_epoch == 3
    (problem,) = problems_of(lambda: load_config(write(base="config/base/nothing.yaml")))
    where = "this file's folder or the project's"
    assert problem == f"{file}: base: expected a file in {where}, got 'config/base/nothing.yaml'"


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (("--base-lr", "1e-4"), "base_lr", 1e-4),
        (("--base_lr", "0.5"), "base_lr", 0.5),
        (("--base-lr=1",), "base_lr", 1.0),
        (("--step", "3", "9"), "step", [3, 9]),
        (("--step",), "step", []),
        (("--device", "0", "1"), "device", ["0", "1"]),
        (("--resume",), "resume", True),
        (("--resume", "false"), "resume", False),
        (("--train-feeder-args.window_size", "64"), "train_feeder_args", {"window_size": 64}),
        (("--train_feeder_args.window_size=64",), "train_feeder_args", {"window_size": 64}),
        (("--train-feeder-args.p_interval", "[0.5, 1]"), "train_feeder_args", {"p_interval": [0.5, 1]}),
        (("--train-feeder-args.shift", "-1"), "train_feeder_args", {"shift": -1}),
        (
            ("--model-args", "drop_out=0.5", "graph_args.labeling_mode=spatial"),
            "model_args",
            {"drop_out": 0.5, "graph_args": {"labeling_mode": "spatial"}},
        ),
        (
            ("--model-args.drop_out", "0.5", "--model-args.graph", "a.B"),
            "model_args",
            {"drop_out": 0.5, "graph": "a.B"},
        ),
        (("--model-args.channels", "null"), "model_args", {"channels": None}),
        (("--seed", "3", "--seed", "4"), "seed", 4),
    ],
)
def test_a_flag_has_the_same_meaning_as_its_yaml_key(words, key, value):
    assert getattr(from_flags(*words), key) == value


def test_values_of_flags_are_never_evaluated():
    assert from_flags("--model-args.x", "__import__('os').getcwd()").model_args == {"x": "__import__('os').getcwd()"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--base-rl", "1"), "--base-rl: unknown flag; did you mean --base-lr?"),
        (("--batch", "1"), "unknown flag"),  # no abbreviations
        (("--model-args", "drop_out"), "expected KEY=VALUE"),
        (("--model-args.drop_out",), "expected KEY=VALUE"),
        (("--model-args.drop_out", "--seed", "1"), "expected KEY=VALUE"),
        (("--base-lr", "[1"), "--base-lr: expected a YAML value, got '[1'"),
        (("--base-lr",), "expected one argument"),
        (("--base-lr", "fast"), "base_lr: expected a finite number, got 'fast'"),
        (
            ("--phase", "trian"),
            "phase: expected train, test, predict, model_size, show, report, robustness, export or export-weights, "
            "got 'trian'",
        ),
        (("--num-epoch", "2.5"), "num_epoch: expected an integer, got 2.5"),
        (("--resume", "maybe"), "resume: expected true or false or auto, got 'maybe'"),
        (("stray",), "stray: expected --flag value"),
        (("--source", "a b", "c", "d"), "c and 1 more: expected --flag value, got words without a flag; put patterns"),
        (("train",), "did you mean --phase train?"),
        (("a.yaml",), "did you mean --config a.yaml?"),
        (("--config", "config/demo/ctrgcn.yml"), "did you mean config/demo/ctrgcn.yaml?"),
        (("--config", "/nowhere.yaml"), "/nowhere.yaml: cannot be read"),
        (("--data-root", "/nowhere"), "--data-root: expected a folder that exists, got '/nowhere'"),
    ],
)
def test_a_wrong_flag_ends_with_code_2_and_one_line(main, words, message):
    code, out, err = main(*words)
    assert code == 2 and message in err and err.startswith("error: ") and err.count("\n") == 1 and out == ""


def test_a_configuration_may_be_below_the_data_root(main, tmp_path, monkeypatch):
    monkeypatch.setenv("SKELETON_DATA", "")  # restored after the test
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/x.yaml").write_text("num_epoch: 7\n")
    code, out, err = main("--phase", "show", "--config", "data/mine/x.yaml", "--data-root", tmp_path)
    assert code == 0 and "num_epoch: 7" in out, err


def test_all_problems_of_a_file_are_reported_together(write):
    file = write(
        base_rl=0.1,
        num_epoch="many",
        nesterov="yes please",
        model_args=[1],
        modality="bones",
        optimizer="sgd",
        batch_size=0,
    )
    problems = problems_of(lambda: from_flags("--ema-decay", "1", file=file))
    for key, part in (
        ("base_rl", "did you mean base_lr?"),
        ("num_epoch", "expected an integer"),
        ("nesterov", "expected true or false"),
        ("model_args", "expected a mapping"),
        ("modality", "expected joint, bone, joint_motion, bone_motion, kbone, kbone_motion or limb"),
        ("optimizer", "expected SGD, Adam or AdamW"),
        ("batch_size", "expected 1 or more, got 0"),
        ("ema_decay", "expected 0 <= ema_decay < 1, got 1.0"),
    ):
        assert any(key in problem and part in problem for problem in problems), key
    assert len(problems) == 8


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"step": [5, 3]}, "ascending order"),
        ({"step": [5], "lr_schedule": "cosine"}, "has no effect"),
        ({"freeze": ["PA"]}, "expected both or neither"),
        ({"freeze_epoch": 3}, "expected both or neither"),
        ({"momentum": 0.0}, "set nesterov false"),
        ({"resume": True, "overwrite": True}, "expected one of them"),
        ({"base_lr": float("nan")}, "expected a finite number, got nan"),
        ({"min_lr": 0.5, "lr_schedule": "cosine"}, "expected at most base_lr 0.1, got 0.5"),
        ({"device": ["gpu"]}, "GPU numbers, or cpu"),
        ({"device": ["0", "cpu"]}, "GPU numbers, or cpu"),
        ({"warm_up_lr": 1e-7, "lr_schedule": "cosine"}, "expected lr_schedule cosine and a warm_up_epoch above 0"),
        ({"warm_up_lr": 1e-7, "warm_up_epoch": 5}, "expected lr_schedule cosine and a warm_up_epoch above 0"),
        ({"weight_decay_end": 0.1, "weight_decay": 0.0}, "expected a weight_decay above 0"),
        ({"save_interval": 0}, "expected 1 or more"),
    ],
)
def test_values_that_contradict_each_other_are_refused(options, word):
    assert any(word in problem for problem in problems_of(lambda: load_config(None, options)))


@pytest.mark.parametrize("text", ["a: [", "- a\n- b", "just text", "", "a: \xff"])
def test_a_file_that_is_not_a_mapping_is_one_problem(tmp_path, text):
    (tmp_path / "x.yaml").write_bytes(text.encode("latin1"))
    (problem,) = problems_of(lambda: load_config(tmp_path / "x.yaml"))
    assert str(tmp_path / "x.yaml") in problem


def test_only_conversions_that_lose_nothing_are_made():
    assert coerce(1, float) == 1.0 and coerce("1e-4", float) == 1e-4 and coerce(5, list[int]) == [5]
    assert coerce(0, list[str]) == ["0"] and coerce(None, dict) == {} and coerce(None, str | None) is None
    for value, kind in (
        (True, int),
        (1, bool),
        (1.0, int),
        ("x", float),
        (True, float),
        ("5", int),
        (True, str),
        ("a: 1", dict),
    ):
        with pytest.raises(ValueError, match="^expected .*, got "):
            coerce(value, kind)


def test_the_resolved_configuration_loads_again_to_an_equal_one(tmp_path, write):
    file = write(
        base_lr=3e-5,
        step=[1, 2],
        model_args={"a": [1, {"b": None}]},
        device=["0", "1"],
        weight_decay_end=0.1,
        modality="bone",
    )
    first = from_flags("--resume", "--phase", "show", file=file)
    (tmp_path / "resolved.yaml").write_text(first.to_yaml())
    again = load_config(tmp_path / "resolved.yaml")
    assert again.to_yaml() == first.to_yaml()
    for name, field in config.FIELDS.items():
        if field.metadata.get("invocation"):
            assert name not in yaml.safe_load(first.to_yaml())
        else:
            assert getattr(again, name) == getattr(first, name), name


def test_every_option_is_documented_and_has_an_effect_in_some_phase():
    for name, field in config.FIELDS.items():
        phases = field.metadata["phases"]
        assert field.metadata["help"] and phases and set(phases) <= set(PHASES), name
        if "low" in field.metadata:
            assert checks.check_range(name, field.default) is None, name


def test_the_phase_show_prints_every_option_with_its_origin_and_writes_nothing(tmp_path, experiment, main):
    code, out, _ = main("--config", experiment(), "--phase", "show", "--base-lr", 0.7, "--work-dir", tmp_path / "run")
    lines = {line.split(":")[0]: line for line in out.splitlines()}
    assert code == 0 and set(config.FIELDS) <= set(lines)
    assert "0.7" in lines["base_lr"] and lines["base_lr"].endswith("# command line")
    assert lines["momentum"].endswith("# default") and lines["model"].endswith(".yaml")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("os.system", ("below model, feeders",)),
        ("builtins.eval", ("below model, feeders",)),
        ("main", ("below model, feeders",)),
        ("model", ("below model, feeders",)),
        ("model.ctrgnc.Model", ("no module model.ctrgnc", "did you mean ctrgcn?")),
        ("model.ctrgcn.Modle", ("has no Modle", "did you mean Model?")),
        ("torchlight.objective.Clasification", ("did you mean Classification?",)),
        ("feeders.feeder_ukla.Feeder", ("did you mean feeder_ucla?",)),
    ],
)
def test_a_dotted_path_stays_in_this_project_and_the_error_of_a_wrong_one_has_the_nearest_name(path, words):
    with pytest.raises(ValueError) as caught:
        imports.import_object(path)
    assert all(word in str(caught.value) for word in words)


def test_a_dotted_path_names_an_object():
    import torch

    assert imports.import_object("torch.nn.Linear") is torch.nn.Linear
    assert imports.import_object("torchlight.config.options.Config") is Config


def test_arguments_become_the_annotated_types():
    def target(
        width: int,
        rate: float = 0,
        name: str = "",
        on: bool = False,
        widths: Sequence[int] | None = None,
        pair: tuple[int, float] = (1, 2),
        kind: Literal["a", 1] = "a",
        either: int | str = 0,
        options: dict[str, float] | None = None,
        path: Path | None = None,
        free=None,
    ): ...

    given = {
        "width": 8,
        "rate": "1e-4",
        "name": 5,
        "on": True,
        "widths": 3,
        "pair": [1, 2],
        "kind": 1,
        "either": "5",
        "options": {"x": 1},
        "path": "here",
        "free": {1: 2},
    }
    right = given | {"rate": 1e-4, "name": "5", "widths": [3], "pair": [1, 2.0], "options": {"x": 1.0}}
    found, problems = imports.check_arguments(target, given)
    assert found == right and not problems and isinstance(found["pair"][1], float)
    wrong = {
        "width": 8.0,
        "rate": True,
        "name": None,
        "on": 0,
        "widths": [1.5],
        "pair": [1],
        "kind": True,
        "either": [],
        "options": {"x": "y"},
        "free": float("nan"),
    }
    _, problems = imports.check_arguments(target, wrong)
    assert [problem.split(":")[0] for problem in problems] == list(wrong)[:-1]
    assert all(re.match(r"\w+: expected .*, got ", problem) for problem in problems)


def test_a_class_with_annotations_that_cannot_be_resolved_keeps_those_that_can():
    namespace: dict = {}
    exec("def target(a: int, b: 'Missing'): ...", namespace)
    _, problems = imports.check_arguments(namespace["target"], {"a": "x", "b": "y"})
    assert problems == ["a: expected an integer, got 'x'"]


def test_a_class_with_variable_keyword_arguments_accepts_any_name():
    def target(a: int, **others): ...

    assert imports.check_arguments(target, {"a": 1, "b": 2}) == ({"a": 1, "b": 2}, [])


def test_wrong_arguments_are_named_with_the_nearest_right_ones():
    def target(num_class, drop_out=0.5, *, graph):
        pass

    assert imports.check_arguments(target, {"num_class": 1, "graph": 2}) == ({"num_class": 1, "graph": 2}, [])
    _, (unknown, missing) = imports.check_arguments(target, {"num_class": 1, "dropout": 2})
    assert "dropout: unknown argument; did you mean drop_out?" in unknown and "graph: missing" in missing


def test_every_wrong_argument_of_an_experiment_is_reported_before_anything_is_read_or_written(
    tmp_path, experiment, main
):
    config = experiment(
        model_args={"num_clas": 5},
        train_feeder_args={"data_path": "nowhere", "window": 3},
        objective_args={"smoothing": 0.1},
    )
    code, _, err = main("--config", config, "--work-dir", tmp_path / "run")
    lines = err.splitlines()
    assert code == 2 and not (tmp_path / "run").exists()
    assert any("model_args.num_clas: unknown argument; did you mean num_class?" in line for line in lines)
    assert any("model_args.graph: missing" in line for line in lines)
    assert any("train_feeder_args.window: unknown argument; did you mean window_size?" in line for line in lines)
    assert any("objective_args.smoothing: unknown argument" in line for line in lines)
    assert not any("nowhere" in line for line in lines)


def test_arguments_that_the_framework_gives_a_feeder_cannot_be_given_again(experiment, main, store, tmp_path):
    config = experiment(train_feeder_args={"data_path": str(store), "seed": 3, "part": "test"})
    code, _, err = main("--config", config, "--work-dir", tmp_path / "run")
    assert code == 2 and "train_feeder_args.part: expected nothing, because the framework sets it" in err
    assert "train_feeder_args.seed: expected nothing, because it is the option seed" in err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_point": 17, "graph": "graph.coco.Graph"},
            "model_args.num_point: expected 20, because the data has 20 joints, got 17",
        ),
        ({"num_class": 4}, "model_args.num_class: expected 5, because the data has 5 classes, got 4"),
        ({"num_class": 6}, "model_args.num_class: expected 5, because the data has 5 classes, got 6"),
        ({"num_person": 2}, "model_args.num_person: expected 1, because the data has 1 persons, got 2"),
        ({"in_channels": 2}, "model_args.in_channels: expected 3, because the data has 3 channels, got 2"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused_in_one_line_before_training(
    tmp_path, experiment, main, changes, message
):
    config = experiment()
    options = [word for key, value in changes.items() for word in (f"--model-args.{key}", value)]
    code, out, err = main("--config", config, "--work-dir", tmp_path / "run", *options)
    assert code == 2 and err.count("\n") == 1 and message in err and not (tmp_path / "run").exists()


def test_a_network_that_ignores_further_channels_fits_the_data(experiment, main):
    args = {"num_class": 5, "num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph", "base_channels": 8}
    config = experiment(model="model.tsgcnext.Model", model_args=args | {"depths": [1, 1, 1]})
    words = ("--config", config, "--feeder-args.window_size", "16", "--phase", "model_size", "--model-args.in_channels")
    code, out, err = main(*words, "2")
    assert code == 0 and "parameters" in out, err
    code, _, err = main(*words, "4")
    assert code == 2 and "model_args.in_channels: expected 3, because the data has 3 channels, got 4" in err


def test_classes_counted_from_labels_may_be_fewer_than_the_networks(tmp_path, experiment, main, store):
    facts = json.loads((store / "manifest.json").read_text())
    own = tmp_path / "own.clips"
    own.mkdir()
    for name in ("frames.npy", "index.npz"):
        (own / name).symlink_to(store / name)
    (own / "manifest.json").write_text(json.dumps({key: value for key, value in facts.items() if key != "num_class"}))
    feeders = {f"{part}_feeder_args": {"data_path": str(own), "window_size": 8} for part in ("train", "test")}
    argv = ("--config", experiment(num_epoch=1, **feeders), "--work-dir")
    assert main(*argv, tmp_path / "run", "--model-args.num_class", 7)[0] == 0
    assert len((tmp_path / "run" / "each_class_acc.csv").read_text().splitlines()) == 8
    assert "the data has 5 classes" in main(*argv, tmp_path / "other", "--model-args.num_class", 4)[2]


@pytest.mark.parametrize("damage", ["missing", "manifest", "frames"])
def test_missing_or_damaged_data_is_refused_in_one_line(tmp_path, experiment, main, store, damage):
    own = tmp_path / "own.clips"
    if damage != "missing":
        own.mkdir()
        for name in ("frames.npy", "index.npz", "manifest.json"):
            (own / name).write_bytes((store / name).read_bytes())
    if damage == "manifest":
        (own / "manifest.json").unlink()
    if damage == "frames":
        (own / "frames.npy").unlink()
    feeders = {f"{part}_feeder_args": {"data_path": str(own), "window_size": 8} for part in ("train", "test")}
    code, _, err = main("--config", experiment(**feeders), "--work-dir", tmp_path / "run")
    assert code == 2 and err.count("\n") == 1 and "own.clips" in err and not (tmp_path / "run").exists()


def test_a_training_without_a_file_needs_a_work_dir(store, main):
    flags = ("--model", "model.ctrgcn.Model", "--feeder", "feeders.feeder_ucla.Feeder")
    body = ("num_class=5", "num_point=20", "num_person=1", "graph=graph.ucla.Graph")
    code, _, err = main(*flags, "--feeder-args", f"data_path={store}", "--model-args", *body)
    assert code == 2 and "work_dir: missing" in err


def test_a_key_that_occurs_twice_in_a_file_is_refused(tmp_path):
    (tmp_path / "twice.yaml").write_text("base_lr: 0.1\nmodel_args: {drop_out: 0.1, drop_out: 0.2}\n")
    with pytest.raises(ConfigError, match="the key drop_out appears twice"):
        load_config(tmp_path / "twice.yaml")


def test_devices_in_one_word_of_a_file_are_several(tmp_path):
    (tmp_path / "old.yaml").write_text("device: 0 1\n")
    assert load_config(tmp_path / "old.yaml", {}).device == ["0", "1"]


def test_show_ends_with_code_2_for_a_configuration_that_cannot_start(main, experiment):
    for change, message in (
        ({"model": "model.no.Model"}, "model: model.no.Model: no module"),
        ({"train_feeder_args": {"windows": 5}}, "train_feeder_args.windows: unknown argument"),
        ({"model_args": {"num_class": 5, "num_point": 19, "num_person": 1, "graph": "graph.ucla.Graph"}}, "num_point"),
        ({"objective_args": {"label_smoothing": 2.0}}, "label_smoothing"),
        ({"weights": "none.pt"}, "none.pt: cannot be read"),
        ({"finetune": "none.pt"}, "none.pt: cannot be read"),
        ({"weights": "zoo:none"}, "weights: expected zoo:NAME, got 'zoo:none'"),
    ):
        code, out, err = main("--config", experiment(**change), "--phase", "show")
        assert code == 2 and message in err and "num_epoch" in out


def test_show_names_the_file_its_base_and_the_folder_of_the_run(main):
    code, out, _ = main("--config", "config/ntu/xsub/ctrgcn.yaml", "--phase", "show", "--modality", "bone")
    lines = {line.split(":")[0]: line for line in out.splitlines()}
    assert code == 0 and lines["config"].endswith("# command line")
    assert lines["work_dir"].startswith("work_dir: work_dir/ntu/xsub/ctrgcn/bone ")
    assert lines["num_epoch"].endswith("# config/base/ntu_ctrgcn.yaml")


def test_an_unknown_option_gets_the_nearest_names_and_not_the_whole_list(tmp_path):
    (tmp_path / "unknown.yaml").write_text("lerning_rate: 0.1\nbase_lrr: 0.1\n")
    with pytest.raises(ConfigError) as found:
        load_config(tmp_path / "unknown.yaml")
    one, other = found.value.problems
    assert "lerning_rate: unknown option; the nearest are " in one and one.count(",") == 2
    assert other.endswith("base_lrr: unknown option; did you mean base_lr?")


def test_the_size_of_a_network_needs_no_data(main):
    code, out, err = main("--config", "config/kinetics/stgcn.yaml", "--phase", "model_size")
    assert code == 0 and "(3, 300, 18, 2)" in out and "the data is not available" in out, err


def test_figures_on_held_out_clips_are_named_as_such(main, experiment, tmp_path):
    store = tiny.write_benchmark(tmp_path / "named.clips")
    with np.load(store / "index.npz") as index:
        arrays = dict(index)
    arrays["name"] = np.array([f"c{i}p{i % 4}" for i in range(60)])
    np.savez(store / "index.npz", **arrays)
    arguments = {"data_path": str(store), "window_size": 8}
    config = experiment(train_feeder_args=arguments, test_feeder_args=arguments)
    code, out, err = main("--config", config, "--work-dir", tmp_path / "run", "--hold-out", "p3", "--num-epoch", "1")
    assert code == 0 and "held-out top-1" in out and "  held-out " in out and " test top-1" not in out, err
