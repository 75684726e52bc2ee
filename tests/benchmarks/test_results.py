"""The command behind the table of results trains, tests, fuses, skips what is done and writes rows that can be
repeated."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from benchmarks import results, results_page
from tests.torchlight import tiny
from torchlight.system.paths import ROOT


@pytest.fixture
def flags(tmp_path):
    """A command line for two streams of a very small CTR-GCN on tiny clips."""
    store = tiny.write_benchmark(tmp_path / "tiny.clips")
    (tmp_path / "results.csv").write_text(",".join(results_page.COLUMNS) + "\n")
    feeder = [
        word for part in ("train", "test") for word in (f"--{part}-feeder-args", f"data_path={store}", "window_size=8")
    ]
    network = ["--model-args", "num_class=5", "channels=[8, 8]"]
    places = ["--work-dir", str(tmp_path / "runs"), "--table", str(tmp_path / "results.csv")]
    chosen = [
        "--dataset",
        "NW-UCLA",
        "--models",
        "ctrgcn",
        "--modalities",
        "joint",
        "bone",
        "--device",
        "cpu",
        "--name",
        "tiny",
    ]
    return [*chosen, *places], [
        "--",
        *feeder,
        *network,
        "--num-epoch",
        "1",
        "--step",
        "1",
        "--warm-up-epoch",
        "0",
        "--num-worker",
        "0",
    ]


def test_streams_and_their_fusion_become_rows_and_what_is_done_is_not_done_again(flags, tmp_path, capfd):
    first, more = flags
    assert results.main([*first, *more]) == 0
    rows = results_page.read_rows(tmp_path / "results.csv")
    assert [row["stream"] for row in rows] == ["joint", "bone", "2 streams fused, 0.6 : 0.6"]
    run = tmp_path / "runs/full/seed1/NW-UCLA/ctrgcn_tiny/joint"
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert rows[0]["last_epoch"] == f"{last['test_top1']:.2f}" and rows[0]["published"] == "not for this budget"
    assert rows[0]["model"] == "ctrgcn, tiny" and rows[0]["budget"] == "1 epochs of 5 passes"
    assert "ctrgcn, tiny" in (tmp_path / "results.md").read_text()
    fused = json.loads((run.parent / "fusion.json").read_text())["fusion"]["top1"]
    assert rows[2]["last_epoch"] == f"{fused:.2f}"
    capfd.readouterr()
    (tmp_path / "results.csv").write_text(",".join(results_page.COLUMNS) + "\n")
    assert results.main([*first, *more]) == 0
    assert "--phase" not in capfd.readouterr().out and results_page.read_rows(tmp_path / "results.csv") == rows


def test_one_stream_becomes_one_row_whose_command_repeats_it_bit_for_bit_and_other_scores_are_refused(
    flags, tmp_path, capfd
):
    first, more = flags
    first = [word for word in first if word != "bone"]
    assert results.main([*first, *more]) == 0
    (row,) = results_page.read_rows(tmp_path / "results.csv")
    threads, python, *command = shlex.split(row["command"])
    assert python == "python" and threads.startswith("OMP_NUM_THREADS=") and row["stream"] == "joint"
    again = [sys.executable, *command, "--work-dir", str(tmp_path / "again")]
    subprocess.run(again, cwd=ROOT, check=True, env=os.environ | dict([threads.split("=")]))
    folder = tmp_path / "runs/full/seed1/NW-UCLA/ctrgcn_tiny/joint"
    assert tiny.same_run(folder, tmp_path / "again")
    line = json.loads((folder / "metrics.jsonl").read_text())
    (folder / "metrics.jsonl").write_text(json.dumps(line | {"test_top1": line["test_top1"] + 1}) + "\n")
    assert results.main([*first, *more]) == 1
    assert "remove the score file to test again" in capfd.readouterr().err


def test_a_failed_training_ends_with_exit_code_1(flags, tmp_path, capfd):
    first, more = flags
    assert results.main([*first, "--hold-out", "s01", *more]) == 1  # no name of the tiny clips contains s01
    assert "error: main.py ended with code 2; the same command continues" in capfd.readouterr().err
    assert results_page.read_rows(tmp_path / "results.csv") == []


def test_held_out_words_reach_every_training_and_another_folder(capsys):
    options = ["--dataset", "NW-UCLA", "--models", "ctrgcn", "--modalities", "joint", "--budget", "cpu", "--commands"]
    assert results.main([*options, "--hold-out", "s01", "s10", "v02"]) == 0
    printed = capsys.readouterr().out
    assert "--hold-out s01 s10 v02" in printed and "cpu_without_s01_s10_v02" in printed
    assert "--train-feeder-args.repeat 1 --num-epoch 20" in printed and "--step 15" in printed


def test_a_row_of_the_same_experiment_takes_the_place_of_the_older_one(tmp_path):
    table = tmp_path / "results.csv"
    table.write_text(",".join(results_page.COLUMNS) + "\n")
    row = dict.fromkeys(results_page.COLUMNS, "x")
    results.add_rows([row | {"seed": "1"}, row | {"seed": "2"}], table)
    results.add_rows([row | {"seed": "1", "last_epoch": "95.00"}], table)
    assert [(r["seed"], r["last_epoch"]) for r in results_page.read_rows(table)] == [("1", "95.00"), ("2", "x")]


def test_mistakes_are_named_before_anything_runs(capsys):
    assert results.main(["--models", "ctrgnc", "stgnc"]) == 2
    errors = capsys.readouterr().err
    assert "error: --models: there is no config/NW-UCLA/ctrgnc.yaml; did you mean ctrgcn?" in errors
    assert "config/NW-UCLA/stgnc.yaml" in errors
    assert results.main(["--", "--num-epoch", "1"]) == 2
    assert "--name: expected a name for the variant" in capsys.readouterr().err
