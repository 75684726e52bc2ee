"""The files of a run, and how they are protected."""

import csv
import json
import os
import shutil
import struct
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
import torch
import yaml
from tensorboardX.proto.event_pb2 import Event

from tests.torchlight import tiny
from torchlight.config import options as config
from torchlight.config.load import load_config
from torchlight.system.lock import FolderLock
from torchlight.training import checkpoint, run_dir, scores

FILES = {"config.yaml", "environment.json", "log.txt", "metrics.jsonl", "last.pt", "best.pt", "best_ema.pt"}
TABLES = {"each_class_acc.csv", "confusion_matrix.csv", "confusion_matrix.png"}


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith("events.out.")}


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def events(folder) -> list[Event]:
    """Everything in the TensorBoard files of a folder."""
    found = []
    for path in sorted(folder.glob("events.out.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def test_a_run_writes_the_files_that_the_documentation_lists(trained):
    assert names(trained) == FILES | TABLES and len(list(trained.glob("events.out.*"))) == 1


def test_the_metrics_contain_every_epoch_and_state_that_the_best_one_was_chosen_on_the_test_clips(trained):
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    tested = {f"{kind}_{key}" for kind in ("test", "test_ema") for key in ("loss", "top1", "macro")}
    best = {f"best_on_{kind}_{key}" for kind in ("test", "test_ema") for key in ("top1", "epoch")}
    assert all({"epoch", "lr", "train_loss", "train_top1", *tiny.TIMES} | tested | best == set(line) for line in lines)
    assert [line["lr"] for line in lines] == pytest.approx([0.05, 0.05, 0.005])
    for kind, file in (("test", "best.pt"), ("test_ema", "best_ema.pt")):
        top = [line[f"{kind}_top1"] for line in lines]
        assert lines[-1][f"best_on_{kind}_top1"] == max(top)
        assert lines[-1][f"best_on_{kind}_epoch"] == 1 + top.index(max(top)) == checkpoint.load(trained / file)["epoch"]
    assert "selected on the test clips" in (trained / "log.txt").read_text()


def test_tensorboard_shows_the_figures_of_the_metrics(trained):
    shown = {}
    for event in events(trained):
        for value in event.summary.value:
            shown.setdefault(event.step, {})[value.tag] = value.simple_value
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert sorted(shown) == [1, 2, 3]
    for line in lines:
        figures = {run_dir.tensorboard_tag(key): value for key, value in line.items() if key != "epoch"}
        assert shown[line["epoch"]] == pytest.approx(figures, rel=1e-6)
    assert {"train/loss", "train/top1", "train/lr", "test/top1", "test_ema/loss", "best_on_test/epoch"} <= set(shown[1])
    assert {tag.partition("/")[0] for tag in shown[1] if "seconds" in tag or "per_second" in tag} == {"speed"}


def test_tensorboard_shows_the_loss_of_single_steps(tmp_path, experiment, main):
    config = experiment(num_epoch=2, log_interval=1)
    assert main("--config", config, "--work-dir", tmp_path / "run")[0] == 0
    values = {event.step: event.summary.value[0] for event in events(tmp_path / "run" / "steps") if event.summary.value}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {value.tag for value in values.values()} == {"step/loss"} and sorted(values) == [*range(1, len(values) + 1)]
    losses = np.array([values[step].simple_value for step in sorted(values)]).reshape(2, -1)
    assert losses.shape[1] > 1 and losses.mean(1) == pytest.approx([line["train_loss"] for line in lines], rel=1e-5)


def test_a_resumed_run_gives_tensorboard_the_step_from_which_it_continues(tmp_path, experiment, trained, main):
    shutil.copytree(trained, tmp_path / "run")
    argv = ("--config", experiment(**tiny.RICH), "--work-dir", tmp_path / "run", "--resume", "true", "--num-epoch", 4)
    assert main(*argv)[0] == 0
    starts = [event.step for event in events(tmp_path / "run") if event.HasField("session_log")]
    assert sorted(starts) == [1, 4]


def test_the_environment_contains_what_a_figure_depends_on(trained):
    facts = json.loads((trained / "environment.json").read_text())
    assert facts["torch"] == torch.__version__ and facts["numpy"] == np.__version__ and facts["seed"] == 1
    assert facts["data"] == {"frames.npy": "0123"} and facts["device"].startswith("CPU") and facts["devices"] == 1
    assert {"command", "git_commit", "python", "platform", "cpu_threads", "cuda"} <= set(facts)


def test_the_commit_is_unknown_without_git(monkeypatch, tmp_path):
    if (run_dir.ROOT / ".git").exists():
        assert len(run_dir.git_commit().removesuffix("-dirty")) == 40
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_dir.git_commit() is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1]\n", "line 1: expected an object, got [1]"),
        ("5\n", "line 1: expected an object, got 5"),
        ("{}\n", "line 1: epoch: expected a whole number above 0, got None"),
        ('{"epoch": 1}\n{"epoch": 1}\n', "line 2: epoch: expected a whole number above 1, got 1"),
        ('{"epoch": 1.5}\n', "line 1: epoch: expected a whole number above 0, got 1.5"),
        ('{"epoch": 1, "lr": NaN}\n', "line 1: not valid JSON: expected a finite number, got NaN"),
        ('{"epoch": 1, "lr": 1e999}\n', "line 1: 'lr': expected a finite number, got inf"),
        ('{"epoch": 1, "lr": "x"}\n', "line 1: 'lr': expected a finite number, got 'x'"),
        ('{"epoch": 1, "lr": true}\n', "line 1: 'lr': expected a finite number, got True"),
        ('{"epoch": 1}\nno json\n', "line 2: not valid JSON"),
        ("\n", "line 1: not valid JSON"),
    ],
)
def test_damaged_metrics_are_refused_by_file_and_line(tmp_path, text, reason):
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(ValueError) as refused:
        run_dir.read_metrics(tmp_path)
    assert str(refused.value).startswith(f"{tmp_path / 'metrics.jsonl'}: {reason}")


def test_metrics_are_read_without_a_line_that_a_crash_cut_off(tmp_path):
    assert run_dir.read_metrics(tmp_path) == []
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "lr": 0.5}\n{"epoch": 2, "l')
    assert run_dir.read_metrics(tmp_path) == [{"epoch": 1, "lr": 0.5}]


def test_an_environment_that_is_not_an_object_is_refused(tmp_path, trained):
    assert run_dir.read_environment(tmp_path) == {} and run_dir.read_environment(trained)["seed"] == 1
    (tmp_path / "environment.json").write_text("[1]")
    with pytest.raises(ValueError, match="environment.json: expected an object, got .1."):
        run_dir.read_environment(tmp_path)


def test_damaged_metrics_refuse_a_resumed_run_before_anything_is_changed(tmp_path, experiment, trained, main):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "metrics.jsonl").write_text("[1]\n")
    before = contents(run)
    code, _, err = main("--config", experiment(**tiny.RICH), "--work-dir", run, "--resume", "true")
    assert code == 2 and "metrics.jsonl: line 1: expected an object, got [1]" in err and contents(run) == before


@pytest.mark.parametrize("flags", [(), ("--overwrite", "true"), ("--resume", "true")])
def test_one_of_two_processes_that_start_together_trains_and_the_other_is_refused(tmp_path, experiment, flags):
    run, outputs = tmp_path / "run", [tmp_path / f"{i}.txt" for i in range(2)]
    argv = ("--config", experiment(num_epoch=30, **tiny.PLAIN), "--work-dir", run, *flags)
    pair = [tiny.start(*argv, output=output) for output in outputs]
    tiny.finish(*pair)
    codes = [process.exitcode for process in pair]
    assert sorted(codes) == [0, 2], [output.read_text() for output in outputs]
    (error,) = [line for line in outputs[codes.index(2)].read_text().splitlines() if line.startswith("error: ")]
    assert f"work_dir: {run} is in use by " in error or "found a run in" in error
    assert [line["epoch"] for line in tiny.metrics(run)] == list(range(1, 31)) and not (run / ".lock").exists()


@pytest.mark.parametrize("phase", ["train", "test", "report"])
def test_a_run_directory_in_use_is_refused_to_every_phase_that_writes_there(tmp_path, experiment, trained, main, phase):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    with FolderLock(run):
        before = contents(run)
        flags = {"train": ("--overwrite", "true"), "test": ("--weights", run / "last.pt"), "report": ()}[phase]
        code, _, err = main("--config", experiment(), "--work-dir", run, "--phase", phase, *flags)
        assert code == 2 and err.count("\n") == 1 and contents(run) == before
        assert f"work_dir: {run} is in use by process {os.getpid()}; nothing was changed" in err
        assert "give another --work-dir" in err


def test_the_saved_configuration_loads_and_describes_the_run(trained):
    found = load_config(trained / "config.yaml")
    assert (
        found.num_epoch == 3 and found.objective_args == tiny.RICH["objective_args"] and found.work_dir == str(trained)
    )
    assert yaml.safe_load((trained / "config.yaml").read_text())["model_args"]["channels"] == [8, 8]


def test_the_class_tables_count_the_scores_of_the_last_epoch(tmp_path, experiment, trained, main):
    argv = ("--work-dir", tmp_path, "--phase", "test", "--weights", trained / "last.pt", "--save-score", "true")
    assert main("--config", experiment(), *argv)[0] == 0
    found = np.stack(list(scores.read_scores(tmp_path / "epoch1_test_score.pkl").values()))
    label = np.arange(60)[40:] * 7 % 5
    matrix = np.zeros((5, 5), int)
    np.add.at(matrix, (label, found.argmax(1)), 1)
    for folder in (tmp_path, trained):
        rows = list(csv.reader((folder / "confusion_matrix.csv").read_text().splitlines()))
        assert np.array_equal(np.array([row[1:] for row in rows[1:]], int), matrix)
        rows = list(csv.reader((folder / "each_class_acc.csv").read_text().splitlines()))
        assert [float(row[3]) for row in rows[1:]] == pytest.approx(100 * matrix.diagonal() / matrix.sum(1), abs=0.005)
        assert matplotlib.image.imread(folder / "confusion_matrix.png").ndim == 3


def test_a_test_only_changes_the_tables_scores_and_log_of_a_run(tmp_path, experiment, trained, main):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = contents(run)
    argv = ("--phase", "test", "--weights", run / "last.pt", "--save-score", "true", "--save-feature", "true")
    code, out, _ = main("--config", experiment(), "--work-dir", run, *argv)
    after = contents(run)
    assert code == 0 and "test top-1" in out
    assert set(after) - set(before) == {"epoch1_test_score.pkl", "epoch1_test_feature.pkl"}
    assert {name for name in before if after[name] != before[name]} <= {"log.txt", *TABLES}
    assert np.stack(list(scores.read_scores(run / "epoch1_test_feature.pkl").values())).shape == (20, 8)


def test_an_existing_run_is_refused_and_not_touched(tmp_path, experiment, trained, main):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = contents(run)
    code, _, err = main("--config", experiment(), "--work-dir", run)
    assert code == 2 and "found a run in" in err and "--resume true" in err and "--overwrite true" in err
    assert contents(run) == before


def test_overwriting_replaces_the_run_and_nothing_else(tmp_path, experiment, trained, main):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for name in ("notes.md", "pretrained.pt", "epoch_9.pt", "last.pt.123.tmp", "robustness.csv"):
        (run / name).write_text("mine")
    code, _, _ = main("--config", experiment(num_epoch=1), "--work-dir", run, "--overwrite", "true")
    assert code == 0 and names(run) == (FILES - {"best_ema.pt"}) | TABLES | {"notes.md", "pretrained.pt"}
    assert len(tiny.metrics(run)) == 1 and (run / "pretrained.pt").read_text() == "mine"
    assert len(list(run.glob("events.out.*"))) == 1 and "epoch   3/3" not in (run / "log.txt").read_text()


@pytest.mark.parametrize(
    "mistake",
    [{"model_args": {}}, {"batch_size": 64}, {"freeze": ["x"], "freeze_epoch": 1}, {"objective": "os.system"}],
)
def test_a_mistake_together_with_overwrite_deletes_nothing(tmp_path, experiment, trained, main, mistake):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = contents(run)
    code, _, err = main("--config", experiment(**mistake), "--work-dir", run, "--overwrite", "true")
    assert code == 2 and err.startswith("error: ") and contents(run) == before


def test_each_configuration_has_its_own_run_directory():
    found = config.Config(config=str(run_dir.ROOT / "config" / "NW-UCLA" / "ctrgcn.yaml"), modality="bone")
    assert str(run_dir.default_work_dir(found)) == "work_dir/NW-UCLA/ctrgcn/bone"
    assert str(run_dir.default_work_dir(config.Config(config="/elsewhere/x.yaml"))) == "work_dir/x/joint"
    assert run_dir.default_work_dir(config.Config()) is None
    held_out = [run_dir.default_work_dir(replace(found, hold_out=words)) for words in (["a", "b"], ["a_b"], ["a/b"])]
    assert held_out[0].name == "bone_without_a_b" and len(set(held_out)) == 3
    assert {path.parent for path in held_out} == {held_out[0].parent}


@pytest.mark.parametrize(("interval", "epochs"), [("eval_interval", [3, 5]), ("save_interval", [1, 2, 3, 4, 5])])
def test_evaluation_and_saving_keep_their_intervals_and_happen_after_the_last_epoch(
    tmp_path, experiment, main, interval, epochs
):
    settings = experiment(num_epoch=5, **{interval: 3}, **tiny.PLAIN)
    assert main("--config", settings, "--work-dir", tmp_path, "--keep", 9)[0] == 0
    assert [line["epoch"] for line in tiny.metrics(tmp_path) if "test_top1" in line] == epochs
    saved = sorted(int(path.stem[6:]) for path in tmp_path.glob("epoch_*.pt"))
    assert saved == ([3, 5] if interval == "save_interval" else [1, 2, 3, 4, 5])


def test_the_log_has_one_aligned_line_for_each_epoch_and_names_the_data(trained, store):
    lines = [line.partition(" INFO ")[2] for line in (trained / "log.txt").read_text().splitlines()]
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert f"data: {store}" in lines
    assert len(epochs) == 3 and len({line.index("clips/s") for line in epochs}) == 1


def test_a_training_warns_about_milestones_that_it_does_not_reach(tmp_path, experiment, main):
    code, out, err = main("--config", experiment(step=[50]), "--num-epoch", 1, "--work-dir", tmp_path / "run")
    assert code == 0 and "step: expected an epoch before num_epoch 1, got [50]" in out, err


def test_an_epoch_of_mixed_batches_only_has_a_line_without_training_accuracy(tmp_path, experiment, main):
    settings = experiment(num_epoch=1, objective_args={"mixup_alpha": 0.8}, **tiny.PLAIN)
    code, out, _ = main("--config", settings, "--work-dir", tmp_path)
    assert code == 0 and "train_top1" not in tiny.metrics(tmp_path)[0] and "nan" not in out


def test_the_phase_model_size_prints_parameters_and_cost(experiment, main):
    code, out, _ = main("--config", experiment(), "--phase", "model_size")
    assert code == 0 and "4,303" in out and "multiply-adds" in out and "(3, 8, 20, 1)" in out
