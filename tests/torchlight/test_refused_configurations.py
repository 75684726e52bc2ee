"""Configurations that are refused: exit code 2, one line per problem, no traceback, and no run directory."""

import pytest
import yaml

from tests.torchlight import tiny

MODALITY = "joint, bone, joint_motion, bone_motion, kbone or kbone_motion"
HUGE = "1" * 400
LONG = "n" * 300
FLAGS = [  # words of the command line, the beginnings of the lines after "error: "
    # numbers
    (("--base-lr", HUGE), ["command line: base_lr: expected a finite number, got 1111"]),
    (("--base-lr", "nan"), ["command line: base_lr: expected a finite number, got 'nan'"]),
    (("--base-lr", ".nan"), ["command line: base_lr: expected a finite number, got nan"]),
    (("--base-lr", "-1"), ["base_lr: expected 0 or more, got -1.0"]),
    (("--lr-decay-rate", "-1"), ["lr_decay_rate: expected 0 or more, got -1.0"]),
    (("--lr-decay-rate", ".nan"), ["command line: lr_decay_rate: expected a finite number, got nan"]),
    (("--min-lr", "5", "--lr-schedule", "cosine"), ["min_lr: expected at most base_lr 0.05, got 5.0"]),
    (("--seed", HUGE), ["command line: seed: expected an integer, got 1111"]),
    (("--seed", str(2**40)), ["seed: expected 0 to 4294967295, got 1099511627776"]),
    (
        ("--num-epoch", "0x" + "f" * 5000),
        ["command line: num_epoch: expected an integer, got int with too many digits"],
    ),
    (("--num-worker", "1000000"), ["num_worker: expected 0 to 256, got 1000000"]),
    (("--step", "-3"), ["step: expected epochs from 0 in ascending order, got [-3]"]),
    (("--batch-size", str(10**15)), ["batch_size: "]),
    # devices and folders
    (("--device", "²"), ["device: expected different GPU numbers, or cpu, got '²'"]),
    (("--device", "0", "0"), ["device: expected different GPU numbers, or cpu, got '0 0'"]),
    (("--work-dir", LONG), ["work_dir: expected a folder, got 'nnn"]),
    (("--work-dir", "a\0b"), ["work_dir: expected a folder, got 'a\\x00b'"]),
    (("--config", LONG), [LONG + ": cannot be read"]),
    # arguments of the feeder
    (("--train-feeder-args.window_size", "abc"), ["train_feeder_args.window_size: expected an integer, got 'abc'"]),
    (("--train-feeder-args.window_size", "null"), ["train_feeder_args.window_size: expected an integer, got None"]),
    (("--train-feeder-args.window_size", "[8, 9]"), ["train_feeder_args.window_size: expected an integer, got [8, 9]"]),
    (("--train-feeder-args.window_size", "8.5"), ["train_feeder_args.window_size: expected an integer, got 8.5"]),
    (("--test-feeder-args.window_size", "true"), ["test_feeder_args.window_size: expected an integer, got True"]),
    (("--train-feeder-args.window_size", str(10**12)), ["train_feeder_args: "]),
    (("--test-feeder-args.window_size", str(10**12)), ["test_feeder_args: "]),
    (("--train-feeder-args.repeat", "abc"), ["train_feeder_args.repeat: expected an integer, got 'abc'"]),
    (("--train-feeder-args.repeat", "2.5"), ["train_feeder_args.repeat: expected an integer, got 2.5"]),
    (("--train-feeder-args.repeat", str(10**12)), ["train_feeder_args: "]),
    (("--train-feeder-args.repeat", str(10**18)), ["train_feeder_args: "]),
    (("--train-feeder-args.repeat", str(10**30)), ["train_feeder_args.repeat: expected an integer, got 1000"]),
    (("--train-feeder-args.largest_angle", "abc"), ["train_feeder_args.largest_angle: expected an integer, got 'abc'"]),
    (("--train-feeder-args.largest_angle", ".nan"), ["train_feeder_args.largest_angle: expected an integer, got nan"]),
    (
        ("--train-feeder-args.also", "5"),
        [f"train_feeder_args.also: expected {MODALITY}, got 5"],
    ),
    (
        ("--train-feeder-args.also", "[[joint]]"),
        [f"train_feeder_args.also: expected {MODALITY}, got ['joint']"],
    ),
    (("--train-feeder-args.data_path", "5"), ["train_feeder_args: 5: "]),
    (("--train-feeder-args.data_path", "null"), ["train_feeder_args.data_path: expected text, got None"]),
    (("--train-feeder-args.data_path", "[a]"), ["train_feeder_args.data_path: expected text, got ['a']"]),
    (("--train-feeder-args.data_path", "true"), ["train_feeder_args.data_path: expected text, got True"]),
    (("--train-feeder-args.data_path", LONG), ["train_feeder_args: "]),
    (("--train-feeder-args.skeleton", "5"), ["train_feeder_args: skeleton: "]),
    (("--train-feeder-args.skeleton", "[5]"), ["train_feeder_args.skeleton: expected text, got [5]"]),
    (("--train-feeder-args.part", "test"), ["train_feeder_args.part: expected nothing, because the framework sets it"]),
    (
        ("--feeder-args.window_size", "abc"),
        [f"{part}_feeder_args.window_size: expected an integer, got 'abc'" for part in ("train", "test")],
    ),
    (("--feeder-args.windowsize", "8"), [f"{part}_feeder_args.windowsize: unknown" for part in ("train", "test")]),
    (
        ("--feeder", "tests.torchlight.parts.LongClips"),
        ["train_feeder_args: expected batches of at most 64 GiB, got clips of 3x10"],
    ),
    (
        ("--feeder", "tests.torchlight.parts.ManyClips"),
        ["train_feeder_args: expected at most 1000000000 clips per epoch, got 10"],
    ),
    # arguments of the network
    (("--model-args", "drop_out=.nan"), ["model_args.drop_out: expected a finite number, got nan"]),
    (("--model-args", "drop_out=.inf"), ["model_args.drop_out: expected a finite number, got inf"]),
    (("--model-args", "drop_out=often"), ["model_args.drop_out: expected a finite number, got 'often'"]),
    (("--model-args", "adaptive=1"), ["model_args.adaptive: expected true or false, got 1"]),
    (("--model-args", "channels=wide"), ["model_args.channels: expected a list, each an integer or null, got 'wide'"]),
    (("--model-args", "channels=[100000000]"), ["model_args: "]),
    (("--model-args", "graph=5"), ["model_args: "]),
    (("--model-args", "graph_args=5"), ["model_args.graph_args: expected a mapping or null, got 5"]),
    (
        ("--model-args", "drop_out=1", "drop_out.x=2"),
        ["command line: --model-args: expected one of drop_out and drop_out.x"],
    ),
    (
        ("--model-args", "drop_out.x=2", "drop_out=1"),
        ["command line: --model-args: expected one of drop_out and drop_out.x"],
    ),
    (
        ("--model-args", "graph=1", "--model-args.graph.a", "5"),
        ["command line: --model-args: expected one of graph and graph.a"],
    ),
    (("--model-args.graph.a", "5"), ["model_args.graph: expected text, got {'a': 5}"]),
    (
        ("--model", "tests.torchlight.parts.Endless"),
        ["model_args: expected at most 300,000,000 parameters in 10,000 tensors"],
    ),
    # what a dotted path names
    (("--model", "model.ctrgcn"), ["model: expected the path of a class, got model.ctrgcn, which is a module"]),
    (
        ("--model", "torchlight.config.options.FIELDS"),
        [
            "model: expected the path of a class, got torchlight.config.options.FIELDS, which is an object of "
            "the type dict"
        ],
    ),
    (("--model", "torch.zeros"), ["model: expected a class whose arguments are known, got torch.zeros"]),
    (("--model", "torchlight.objective.Batch"), ["model: expected the path of a class"]),
    (("--model", "torchlight.config.options.Config"), ["model: expected a subclass of torch.nn.Module"]),
    (("--model", "model..Model"), ["model: expected a dotted path below model, feeders"]),
    (("--model", "model." + "x" * 5000), ["model: model.xxx"]),
    (
        ("--feeder", "feeders.feeder_ucla.torch"),
        ["feeder: expected the path of a class, got feeders.feeder_ucla.torch, which is"],
    ),
    (
        ("--objective", "torch.nn.CrossEntropyLoss"),
        ["objective: expected an objective, with forward(model, batch) and predict"],
    ),
    (
        ("--objective", "torch.nn.functional"),
        ["objective: expected the path of a class, got torch.nn.functional, which is a"],
    ),
    (
        ("--objective", "torch.nn.CrossEntropyLoss", "--model-args", "drop_out=x"),
        ["model_args.drop_out: expected a finite number", "objective: expected an objective"],
    ),
    # arguments of the objective
    (
        ("--objective-args", "label_smoothing=abc"),
        ["objective_args.label_smoothing: expected a finite number, got 'abc'"],
    ),
    (
        ("--objective-args", "label_smoothing=null"),
        ["objective_args.label_smoothing: expected a finite number, got None"],
    ),
    (
        ("--objective-args", "label_smoothing=[1]"),
        ["objective_args.label_smoothing: expected a finite number, got [1]"],
    ),
    (("--objective-args", "mixup_alpha=abc"), ["objective_args.mixup_alpha: expected a finite number, got 'abc'"]),
    (("--objective-args", "mixup_prob=7"), ["objective_args.mixup_prob: expected 0 <= mixup_prob <= 1, got 7"]),
    # teachers
    (("--teacher", "5"), ["command line: teacher: expected a mapping, got 5"]),
    (("--teacher-cache", "true"), ["teacher_cache: expected false without a teacher, got true"]),
    (
        (
            "--objective",
            "torchlight.distillation.DecoupledKnowledge",
            "--teacher",
            "{model: a.B, weights: [a], modality: [b]}",
        ),
        ["teacher 1: weights: expected text, got ['a']", "teacher 1: modality: expected joint, bone"],
    ),
    (
        (
            "--objective",
            "torchlight.distillation.LogitDistillation",
            "--teacher",
            f"{{model: model.ctrgcn, weights: {LONG}}}",
        ),
        ["teacher 1: weights: expected a file, got 'nnn", "teacher 1: model: expected the path of a class"],
    ),
    # what cannot be trained
    (
        ("--freeze", ".", "--freeze-epoch", "1"),
        ["freeze: expected words that leave some parameters to train, got ['.']"],
    ),
    (("--freeze", "abc", "--freeze-epoch", "1"), ["freeze: expected parts of parameter names, got 'abc'"]),
    # YAML on the command line, old flags included
    (("--base-lr", "[1"), ["command line: --base-lr: expected a YAML value, got '[1'"]),
    (("--model-args", "x={a: &a [*a]}"), ["command line: --model-args x: expected a YAML value"]),
    (("--model-args", "x=" + "[" * 20000), ["command line: --model-args x: expected a YAML value"]),
    (("--model_saved_name", "["), ["command line: --model_saved_name: expected a YAML value, got '['"]),
    (("--lr", "{a: *b}"), ["command line: --lr: expected a YAML value"]),
    (("--warmup_steps", "7"), ["command line: warmup_steps: expected -1 or 0, got 7"]),
    # options without effect
    (
        ("--ema", "true"),
        ["ema: expected --weights or --finetune as well, got none; --ema has no effect without it"],
    ),
    (("--save-score", "true"), ["save_score: expected --phase test, got --phase train"]),
    (("--save-feature",), ["save_feature: expected --phase test, got --phase train"]),
    (("--weights-key", "x"), ["weights_key: expected --weights or --finetune as well, got none"]),
    (("--ignore-weights", "fc"), ["ignore_weights: expected --weights as well, got none"]),
    (
        ("--phase", "model_size", "--weights", "x"),
        ["weights: expected --phase train or --phase test or --phase robustness or --phase p"],
    ),
    (("--phase", "test", "--weights", "x", "--resume"), ["resume: expected --phase train, got --phase test"]),
    (("--phase", "test", "--weights", "x", "--teacher-cache", "true"), ["teacher_cache: expected --phase train, got"]),
]


def refused(main, tmp_path, *argv) -> list[str]:
    """The lines of a refusal, without 'error: '; nothing may be written."""
    before = sorted(tmp_path.rglob("*"))
    code, out, err = main(*argv)
    lines = err.splitlines()
    assert code == 2 and all(line.startswith("error: ") and len(line) < 1000 for line in lines), err[:3000]
    assert sorted(tmp_path.rglob("*")) == before and out == ""
    return [line.removeprefix("error: ") for line in lines]


def check(lines: list[str], beginnings: list[str]) -> None:
    assert len(lines) == len(beginnings), lines
    for line, beginning in zip(lines, beginnings, strict=True):
        assert line.startswith(beginning), line


@pytest.mark.parametrize(("words", "beginnings"), FLAGS, ids=lambda value: " ".join(value)[:60])
def test_a_wrong_command_line_is_refused_before_anything_is_written(
    main, tmp_path, experiment, monkeypatch, words, beginnings
):
    argv = words if "--config" in words else ("--config", experiment(), *words)
    monkeypatch.chdir(tmp_path)
    check(refused(main, tmp_path, *(() if "--work-dir" in words else ("--work-dir", "run")), *argv), beginnings)


BOMB = ["a0: &a0 {x: 1, y: 1, z: 1, w: 1}"] + [
    f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}, z: *a{i - 1}, w: *a{i - 1}}}" for i in range(1, 14)
]
LISTS = ["b0: &b0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"] + [
    f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]" for i in range(1, 10)
]
FILES = {
    "base: 5": "base: expected the path of a YAML file, got 5",
    "base: [a]": "base: expected the path of a YAML file, got ['a']",
    "base: {a: 1}": "base: expected the path of a YAML file, got {'a': 1}",
    "base: true": "base: expected the path of a YAML file, got True",
    "base: wrong.yaml": "base: expected a file in this file's folder or the project's, got 'wrong.yaml'",
    f"base: {LONG}": "base: expected a file in this file's folder or the project's, got 'nnn",
    f"base_lr: {HUGE}": "base_lr: expected a finite number, got 1111",
    "base_lr: .inf": "base_lr: expected a finite number, got inf",
    "model_args: {1: 2}": "expected a name as key, got 1",
    "train_feeder_args: {null: 2}": "expected a name as key, got null",
    "model_args: &a {x: *a}": "an alias that contains itself",
    "model_args: " + "[" * 20000: "more than 32 levels",
    "model_args: " + "{a: " * 3000: "more than 32 levels",
    "step: [" + "1, " * 300000 + "1]": "more than 20000 values",
    "\n".join([*BOMB, "model_args: *a13"]): "more than 20000 values",
    "\n".join([*LISTS, "batch_size: *b9"]): "more than 20000 values",
    "feeder_args: [1]": "feeder_args: expected a mapping, got [1]",
    "feeder_args: {window_size: 8}\ntrain_feeder_args: 5": "train_feeder_args: expected a mapping, got 5",
    "only_train_part: true\nonly_train_epoch: x": "only_train_epoch: expected an integer, got 'x'",
    "batch_size: 8\nforward_batch_size: [3]": "forward_batch_size: expected a divisor of batch_size 8, got [3]",
}


@pytest.mark.parametrize("text", FILES, ids=lambda text: text[:40])
def test_a_wrong_file_is_refused_before_anything_is_written(main, tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    lines = refused(main, tmp_path, "--config", tmp_path / "c.yaml", "--work-dir", tmp_path / "run")
    assert any(FILES[text] in line for line in lines), lines


def test_the_first_of_many_unknown_options_are_named(main, tmp_path):
    (tmp_path / "c.yaml").write_text("\n".join(f"option{i}: 1" for i in range(5000)))
    lines = refused(main, tmp_path, "--config", tmp_path / "c.yaml", "--work-dir", tmp_path / "run")
    assert len(lines) == 21 and lines[-1].endswith("4980 more unknown options")


def test_a_corrected_command_line_runs_after_the_refused_one(main, tmp_path, experiment):
    argv = ("--config", experiment(num_epoch=1), "--work-dir", tmp_path / "run", "--train-feeder-args.window_size")
    assert main(*argv, "8.5")[0] == 2
    assert main(*argv, "8")[0] == 0


def test_conversions_that_lose_nothing_are_made_for_arguments_too(main, tmp_path, experiment):
    words = ("--objective-args", "label_smoothing=1e-4", "mixup_alpha=1", "--num-epoch", "1")
    assert main("--config", experiment(), "--work-dir", tmp_path / "run", *words)[0] == 0
    kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert kept["objective_args"] == {"label_smoothing": 0.0001, "mixup_alpha": 1.0}


def test_parameters_without_an_annotation_take_every_value(main, tmp_path, experiment):
    changes = tiny.PLAIN | {"model": "tests.torchlight.parts.Unannotated", "num_epoch": 1}
    assert main("--config", experiment(**changes), "--work-dir", tmp_path / "run", "--model-args.width", "[8]")[0] == 0


def test_a_file_may_contain_options_of_other_phases(main, tmp_path, experiment):
    config = experiment(num_epoch=1, save_score=True, ema=True, ignore_weights=["fc"])
    assert main("--config", config, "--work-dir", tmp_path / "run")[0] == 0


def test_flags_of_the_experiment_without_effect_are_named(main, tmp_path, experiment, trained):
    argv = ("--phase", "test", "--weights", trained / "last.pt", "--work-dir", tmp_path / "run", "--base-lr", "1")
    code, out, err = main("--config", experiment(), *argv)
    assert code == 0 and "no effect in --phase test: base_lr" in out + err
