"""Failures of a run: the message, the exit code and the remaining files."""

import os
import resource
import shutil
from pathlib import Path

import pytest
import torch

from tests.torchlight import tiny
from torchlight.config.options import Config
from torchlight.system.command import RunError
from torchlight.training import checkpoint
from torchlight.training.run_dir import RunDirectory


def run_with(tmp_path, config, *argv, **limits):
    """Run in a process of its own: (exit code, lines of its output)."""
    output = tmp_path / "out.txt"
    code = tiny.finish(tiny.start("--config", config, "--work-dir", tmp_path / "run", *argv, output=output, **limits))
    return code, output.read_text().splitlines()


def test_a_full_disk_ends_the_run_with_one_line_and_keeps_the_last_complete_checkpoint(tmp_path, experiment, trained):
    shutil.copytree(trained, tmp_path / "run")
    before = (tmp_path / "run" / "last.pt").read_bytes()
    options = ("--resume", "true", "--num-epoch", "4")
    code, lines = run_with(tmp_path, experiment(**tiny.RICH), *options, file_size=len(before) // 2)
    assert code == 1 and "Traceback" not in "".join(lines)
    assert lines[-1].startswith(
        f"error: {tmp_path / 'run'} could not be written (File too large); the last checkpoint is"
    )
    assert "--resume true" in lines[-1]
    assert (tmp_path / "run" / "last.pt").read_bytes() == before and not list((tmp_path / "run").glob("*.tmp"))
    tiny.check_readable(tmp_path / "run")


def test_a_disk_that_is_full_from_the_start_ends_the_run_with_one_line(tmp_path, experiment):
    code, lines = run_with(tmp_path, experiment(), file_size=600)
    assert code == 1 and len(lines) == 1 and lines[0].startswith("error: ") and "there is no checkpoint yet" in lines[0]


def test_a_record_that_cannot_be_written_is_an_error_that_names_the_files_that_remain(tmp_path):
    records, config = RunDirectory(tmp_path), Config()
    records.open(config, {})
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match="could not be written .No space left on device.; there is no checkpoint yet"):
        records.add_metrics({"epoch": 1, "train_loss": 1.0})
    records.close()


def test_a_log_that_cannot_be_written_does_not_stop_a_run(tmp_path, experiment, main):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.txt").symlink_to("/dev/full")
    code, _, err = main("--config", experiment(num_epoch=1, **tiny.PLAIN), "--work-dir", tmp_path / "run")
    assert code == 0 and err == ""


@pytest.mark.parametrize("phase", ["show", "model_size"])
def test_an_answer_that_cannot_be_printed_is_an_error(phase, tmp_path, experiment):
    words = ("--config", experiment(), "--phase", phase)
    assert tiny.finish(tiny.start(*words, output=Path("/dev/full"), error=tmp_path / "error.txt")) == 1
    error = (tmp_path / "error.txt").read_text()
    assert error.startswith("error: ") and "cannot be written (No space left on device)" in error


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path, experiment, main):
    (tmp_path / "file").write_text("")
    code, _, err = main("--config", experiment(), "--work-dir", tmp_path / "file" / "run")
    assert code == 2 and err.startswith("error: work_dir: ") and "expected a folder" in err and err.count("\n") == 1
    assert (tmp_path / "file").read_text() == ""


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step_without_saving_it(tmp_path, experiment, main):
    config = experiment(objective="tests.torchlight.parts.NotANumber", objective_args={"at": 8}, save_every_steps=1)
    code, _, err = main("--config", config, "--work-dir", tmp_path / "run")
    assert code == 1 and "the loss became nan in epoch 2, at or before step 3" in err and "lower base_lr" in err
    content = checkpoint.load(tmp_path / "run" / "last.pt")
    assert (content["epoch"], content["step"]) == (1, 2)
    assert all(value.isfinite().all() for value in content["model"].values())


@pytest.mark.parametrize("changes", [{}, {"eval_interval": 2}])
def test_weights_that_became_infinite_in_the_last_step_of_an_epoch_are_not_saved(tmp_path, experiment, main, changes):
    config = experiment(objective="tests.torchlight.parts.InfiniteGradient", num_epoch=4, **changes, **tiny.PLAIN)
    code, _, err = main("--config", config, "--work-dir", tmp_path / "run")
    assert code == 1 and "there is no checkpoint yet" in err
    assert not (tmp_path / "run" / "last.pt").exists() and not (tmp_path / "run" / "best.pt").exists()


def test_a_killed_data_worker_ends_the_run_with_one_line_and_the_last_checkpoint_is_kept(tmp_path, experiment):
    code, lines = run_with(tmp_path, experiment(feeder="tests.torchlight.parts.DeadlyFeeder", num_worker=1))
    assert code == 1 and "Traceback" not in "".join(lines)
    assert lines[-1].startswith("error: DataLoader worker") and "the last checkpoint is" in lines[-1]
    assert checkpoint.load(tmp_path / "run" / "last.pt")["epoch"] == 1


def test_an_unexpected_error_has_its_traceback_in_the_log(tmp_path, experiment, main):
    config = experiment(objective="tests.torchlight.parts.Breaks", objective_args={"rank": 0})
    code, _, err = main("--config", config, "--work-dir", tmp_path / "run")
    assert code == 1 and err.count("\n") == 1
    assert err.startswith("error: internal error: RuntimeError: failure of one process;")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "Traceback" in log and "failure of one process" in log


def test_scores_that_are_not_finite_are_refused(tmp_path, experiment, trained, main):
    content = checkpoint.load(trained / "last.pt")
    content["model"]["fc.bias"] += torch.nan
    checkpoint.save(tmp_path / "broken.pt", content)
    argv = ("--phase", "test", "--weights", tmp_path / "broken.pt", "--save-score", "true")
    code, _, err = main("--config", experiment(), "--work-dir", tmp_path / "run", *argv)
    assert code == 1 and "expected finite scores, got 20 of 20 clips without" in err
    assert not (tmp_path / "run" / "epoch1_test_score.pkl").exists()


def test_the_process_limits_of_these_tests_only_affect_their_processes():
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY and "WORLD_SIZE" not in os.environ


def test_an_interrupted_run_prints_how_to_continue(tmp_path, experiment, main):
    code, _, err = main(
        "--config", experiment(objective="tests.torchlight.parts.Interrupted"), "--work-dir", tmp_path / "run"
    )
    assert code == 130 and "there is no checkpoint yet; --resume true continues the run" in err


def test_data_workers_share_the_clips_of_the_process_that_starts_them(tmp_path, experiment):
    code, lines = run_with(tmp_path, experiment(feeder="tests.torchlight.parts.NotCopied", num_worker=1, num_epoch=1))
    assert code == 0, lines
