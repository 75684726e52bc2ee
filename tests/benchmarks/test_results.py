"""The command behind the table of results trains, tests, fuses, skips finished runs and writes rows that can be
repeated."""

import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import Future
from functools import partial

import pytest

from benchmarks import pages, results, results_page
from benchmarks.results_page import COLUMNS
from tests.torchlight import tiny
from tests.torchlight.conftest import clean  # noqa: F401
from torchlight.commands import main as cli
from torchlight.commands import programs
from torchlight.fusion import cli as fusion_cli
from torchlight.system.paths import ROOT


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Runs, the table and the page are in tmp_path; returns a function: () -> rows of the table."""
    monkeypatch.setattr(results, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(results_page, "TABLE", tmp_path / "results.csv")
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    (tmp_path / "results.csv").write_text(",".join(COLUMNS) + "\n")
    return lambda: pages.read_table(tmp_path / "results.csv", COLUMNS)


@pytest.fixture
def flags(tmp_path, table):
    """A command line for two streams of a very small CTR-GCN on tiny clips, and the flags that make it small."""
    store = tiny.write_benchmark(tmp_path / "tiny.clips")
    small = [f"--{part}-feeder-args data_path={store} window_size=8" for part in ("train", "test")]
    small += ["--model-args num_class=5 channels=[8,8] --num-epoch 1 --step 1 --warm-up-epoch 0 --num-worker 0"]
    chosen = "--dataset NW-UCLA --models ctrgcn --modalities joint bone --device cpu --name tiny"
    return chosen.split(), ["--", *" ".join(small).split()]


class Pool:
    """A pool that works in this thread, the only one that a training sets its signals in."""

    def __init__(self, size: int):
        pass

    def submit(self, function, *args) -> Future:
        done = Future()
        done.set_result(function(*args))
        return done

    def shutdown(self, cancel_futures: bool) -> None:
        pass


@pytest.fixture
def in_this_process(monkeypatch):
    """Tests and fusions run in this process, which is faster than starting one for each, and trainings too."""

    def patch(trainings: bool = True) -> None:
        start = programs.call

        def call(words, environment=None):
            if "train" in words and not trainings:
                return start(words, environment)
            print("$ python", *words)
            program = {"main.py": cli.main, "ensemble.py": fusion_cli.main}[words[0]]
            assert program(list(words[1:])) == 0

        monkeypatch.setattr(programs, "call", call)
        monkeypatch.setattr(results, "call", call)
        monkeypatch.setattr(results, "ThreadPoolExecutor", Pool)

    return patch


def test_streams_and_their_fusion_become_rows_and_finished_runs_are_not_repeated(
    flags, table, tmp_path, capfd, in_this_process
):
    in_this_process()
    first, more = flags
    assert results.main([*first, *more]) == 0
    rows = table()
    assert [row["stream"] for row in rows] == ["joint", "bone", "2 streams fused, 0.6 : 0.6"]
    run = tmp_path / "runs/full/seed1/NW-UCLA/ctrgcn_tiny/joint"
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert rows[0]["last_epoch"] == f"{last['test_top1']:.2f}" and rows[0]["published"] == "not for this budget"
    assert rows[0]["model"] == "ctrgcn, tiny" and rows[0]["budget"] == "1 epochs of 5 passes"
    assert "ctrgcn, tiny" in (tmp_path / "results.md").read_text()
    fused = json.loads((run.parent / "fusion.json").read_text())["fusion"]["top1"]
    assert rows[2]["last_epoch"] == f"{fused:.2f}"
    capfd.readouterr()
    (tmp_path / "results.csv").write_text(",".join(COLUMNS) + "\n")
    assert results.main([*first, *more]) == 0
    assert "--phase" not in capfd.readouterr().out and table() == rows


def test_one_stream_becomes_one_row_whose_command_repeats_it_bit_for_bit_and_other_scores_are_refused(
    flags, table, tmp_path, capfd, in_this_process
):
    in_this_process(trainings=False)  # whose command lines are recorded
    first, more = flags
    first = [word for word in first if word != "bone"]
    assert results.main([*first, *more]) == 0
    (row,) = table()
    threads, python, *command = shlex.split(row["command"])
    assert (
        (python, command[0]) == ("python", "main.py")
        and threads.startswith("OMP_NUM_THREADS=")
        and row["stream"] == "joint"
    )
    again = [sys.executable, *command, "--work-dir", str(tmp_path / "again")]
    subprocess.run(again, cwd=ROOT, check=True, env=os.environ | dict([threads.split("=")]))
    folder = tmp_path / "runs/full/seed1/NW-UCLA/ctrgcn_tiny/joint"
    assert tiny.same_run(folder, tmp_path / "again")
    line = json.loads((folder / "metrics.jsonl").read_text())
    (folder / "metrics.jsonl").write_text(json.dumps(line | {"test_top1": line["test_top1"] + 1}) + "\n")
    assert results.main([*first, *more]) == 1
    assert "remove the score file to test again" in capfd.readouterr().err


def test_a_failed_training_ends_with_exit_code_1(flags, table, capfd):
    first, more = flags
    assert results.main([*first, *more, "--hold-out", "s01"]) == 1  # no name of the tiny clips contains s01
    assert "error: main.py ended with code 2\n" in capfd.readouterr().err
    assert table() == []


def test_every_stream_gets_its_folder_and_the_flags_of_the_budget():
    args = results.build_parser().parse_args("--modalities bone joint --seeds 1 2 --budget cpu --name cosine".split())
    plans = results.make_plans(args, ["--hold-out", "s01"])
    assert [str(plan.folder) for plan in plans] == [
        f"work_dir/results/cpu/seed{seed}/NW-UCLA/ctrgcn_cosine/{stream}"
        for seed in (1, 2)
        for stream in ("joint", "bone")
    ]
    command = " ".join(plans[-1].flags)
    assert command.startswith(
        "--config config/NW-UCLA/ctrgcn.yaml --modality bone --seed 2 --work-dir work_dir/results"
    )
    assert "--train-feeder-args.repeat 1 --num-epoch 20" in command and "--step 15" in command
    assert command.endswith("--hold-out s01")


def test_the_four_streams_of_the_usual_fusion_are_trained_by_default():
    plans = results.make_plans(results.build_parser().parse_args([]), [])
    assert [plan.folder.name for plan in plans] == ["joint", "bone", "joint_motion", "bone_motion"]


def test_the_full_budget_is_the_recipe_as_it_is():
    args = results.build_parser().parse_args(["--models", "recipe/ctrgcn"])
    folder = "work_dir/results/full/seed1/NW-UCLA/recipe/ctrgcn/joint"
    flags = [
        "--config",
        "config/NW-UCLA/recipe/ctrgcn.yaml",
        "--modality",
        "joint",
        "--seed",
        "1",
        "--work-dir",
        folder,
    ]
    assert list(results.make_plans(args, [])[0].flags) == flags


def test_a_new_row_of_the_same_experiment_replaces_the_old_one(table):
    row = dict.fromkeys(COLUMNS, "x")
    add_rows = partial(pages.add_rows, results_page.TABLE, COLUMNS, results.KEY)
    add_rows([row | {"seed": "1"}, row | {"seed": "2"}])
    add_rows([row | {"seed": "1", "last_epoch": "95.00"}])
    assert [(r["seed"], r["last_epoch"]) for r in table()] == [("1", "95.00"), ("2", "x")]


def test_mistakes_are_reported_before_anything_runs(capsys):
    assert results.main(["--models", "ctrgnc", "stgnc"]) == 2
    errors = capsys.readouterr().err
    assert "error: --models: NW-UCLA has no ctrgnc; did you mean ctrgcn?" in errors
    assert "NW-UCLA has no stgnc" in errors
    assert results.main(["--", "--num-epoch", "1"]) == 2
    assert "--name: expected a name for the variant" in capsys.readouterr().err
