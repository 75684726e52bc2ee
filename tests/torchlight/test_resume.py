"""A run that was interrupted ends like one that was not."""

import random
import shutil

import pytest
import torch

from tests.torchlight import tiny
from tests.torchlight.kill_test import killed_run
from torchlight.training import checkpoint


@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_at_random_moments_ends_like_the_straight_one(tmp_path, experiment, trained, seed):
    folder = tmp_path / "run"
    killed_run(experiment(**tiny.RICH), folder, random.Random(seed), seconds=2.0, kills=2, num_worker=seed % 2)
    assert tiny.same_run(trained, folder)


@pytest.mark.parametrize(("at", "num_worker"), [(3, 0), (7, 1)])
def test_a_sigterm_to_the_whole_group_saves_and_the_resumed_run_ends_like_the_straight_one(
    tmp_path, experiment, trained, at, num_worker
):
    run, output = tmp_path / "run", tmp_path / "out.txt"
    settings = tiny.RICH | {"save_every_steps": 0, "num_worker": num_worker}
    arguments = settings.pop("objective_args")
    leaving = experiment(
        **settings, objective="tests.torchlight.parts.AskedToLeave", objective_args=arguments | {"at": at}
    )
    assert tiny.finish(tiny.start("--config", leaving, "--work-dir", run, output=output)) == 143
    assert output.read_text().splitlines()[-1].startswith("error: SIGTERM: the last checkpoint is")
    content = checkpoint.load(run / "last.pt")
    assert (content["epoch"], content["step"]) == divmod(at, 5)
    content["config"] = (trained / "config.yaml").read_text()  # nobody asks any more
    checkpoint.save(run / "last.pt", content)
    calm = experiment(**settings, objective_args=arguments)
    assert tiny.finish(tiny.start("--config", calm, "--work-dir", run, "--resume", "true")) == 0
    assert tiny.same_run(trained, run)


def test_a_finished_run_that_is_resumed_stays_as_it_is(tmp_path, experiment, trained, main):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "each_class_acc.csv").unlink()
    before = (tmp_path / "run" / "last.pt").read_bytes()
    code, out, _ = main("--config", experiment(**tiny.RICH), "--work-dir", tmp_path / "run", "--resume", "true")
    assert code == 0 and "nothing to do: all 3 epochs are trained" in out
    assert (tmp_path / "run" / "last.pt").read_bytes() == before and tiny.same_run(trained, tmp_path / "run")
    assert (tmp_path / "run" / "each_class_acc.csv").read_bytes() == (trained / "each_class_acc.csv").read_bytes()


def test_a_damaged_last_checkpoint_is_replaced_by_the_newest_whole_one(tmp_path, experiment, trained, main):
    config, run = experiment(**tiny.RICH), tmp_path / "run"
    assert main("--config", config, "--work-dir", run, "--keep", 2)[0] == 0
    assert sorted(path.name for path in run.glob("epoch_*.pt")) == ["epoch_2.pt", "epoch_3.pt"]
    for name in ("last.pt", "epoch_3.pt"):
        with open(run / name, "r+b") as file:
            file.truncate(5000)
    code, out, _ = main("--config", config, "--work-dir", run, "--keep", 2, "--resume", "true")
    assert (
        code == 0 and "last.pt: not a whole file" in out and "resumed from" in out and "epoch_2.pt after epoch 2" in out
    )
    assert tiny.same_run(trained, run)


def test_a_kept_checkpoint_is_no_second_name_of_the_last_one(tmp_path, experiment, main):
    config, run = experiment(), tmp_path / "run"
    assert main("--config", config, "--work-dir", run, "--keep", 1)[0] == 0
    with open(run / "last.pt", "r+b") as file:
        file.write(b"\0" * 1000)
    assert main("--config", config, "--work-dir", run, "--resume", "true")[0] == 0


def test_without_a_whole_checkpoint_resuming_is_refused_and_nothing_changes(tmp_path, experiment, trained, main):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "last.pt").write_bytes(b"not a checkpoint")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    code, out, err = main("--config", experiment(**tiny.RICH), "--work-dir", run, "--resume", "true")
    assert code == 2 and err.count("\n") == 1 and "no whole checkpoint" in err and "--overwrite true" in err
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_resuming_with_other_options_is_refused_and_names_them(tmp_path, experiment, trained, main):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    argv = ("--config", experiment(**tiny.RICH), "--work-dir", run, "--resume", "true")
    code, _, err = main(*argv, "--base-lr", 0.2, "--seed", 3)
    assert code == 2 and "base_lr was 0.05 and is 0.2, seed was 1 and is 3" in err
    code, out, _ = main(*argv, "--num-epoch", 4, "--num-worker", 1, "--log-interval", 1, "--test-batch-size", 16)
    assert code == 0 and "num_epoch was 3 and is 4" in out
    assert [line["epoch"] for line in tiny.metrics(run)] == [1, 2, 3, 4]


def test_weights_alone_cannot_be_resumed(tmp_path, experiment, main):
    (tmp_path / "run").mkdir()
    torch.save({"model": {"fc.weight": torch.zeros(1)}}, tmp_path / "run" / "last.pt")
    code, _, err = main("--config", experiment(), "--work-dir", tmp_path / "run", "--resume", "true")
    assert code == 2 and "holds weights only" in err and "--weights" in err


def test_resuming_where_nothing_is_starts_from_the_beginning(tmp_path, experiment, main):
    code, out, _ = main("--config", experiment(num_epoch=1), "--work-dir", tmp_path / "run", "--resume", "true")
    assert code == 0 and "no checkpoint in" in out and "starting from the beginning" in out


def test_torchrun_that_starts_a_broken_run_again_resumes_it(tmp_path, experiment, main, monkeypatch):
    config = experiment()
    assert main("--config", config, "--work-dir", tmp_path / "run", "--overwrite", "true")[0] == 0
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    code, out, _ = main("--config", config, "--work-dir", tmp_path / "run", "--overwrite", "true")
    assert code == 0 and "nothing to do" in out
