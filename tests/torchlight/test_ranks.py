"""Several processes give the results of one, and none waits for one that has ended."""

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.torchlight import tiny
from torchlight.runtime import launch
from torchlight.system import command
from torchlight.system.command import RunError
from torchlight.training import checkpoint, scores

ROOT = Path(__file__).resolve().parents[2]


def assert_close(one, other):
    for key in ("model", "model_ema"):
        for name, value in one[key].items():
            torch.testing.assert_close(value, other[key][name], rtol=0, atol=1e-6)


def test_two_ranks_with_half_of_each_batch_train_like_one_rank_with_the_whole_batch(tmp_path, experiment):
    freezing = {"freeze": ["first"], "freeze_epoch": 1}  # the gradients are exchanged anew when a parameter thaws
    config = experiment(**tiny.PLAIN, **freezing, num_epoch=3, ema_decay=0.9, batch_size=8)
    one = tiny.start("--config", config, "--work-dir", tmp_path / "one")
    two = tiny.start_ranks(2, "--config", config, "--work-dir", tmp_path / "two")
    four = tiny.start_ranks(2, "--config", config, "--work-dir", tmp_path / "four", "--update-freq", 2)
    assert tiny.finish(one, *two, *four) == 0
    straight = checkpoint.load(tmp_path / "one" / "last.pt")
    for name in ("two", "four"):
        assert_close(straight, checkpoint.load(tmp_path / name / "last.pt"))
        for expected, found in zip(tiny.metrics(tmp_path / "one"), tiny.metrics(tmp_path / name), strict=True):
            assert found == pytest.approx(expected, abs=1e-5)


def test_any_number_of_ranks_writes_the_same_score_file(tmp_path, experiment, trained):
    argv = ("--config", experiment(), "--phase", "test", "--weights", trained / "last.pt", "--save-score", "true")
    one = tiny.start(*argv, "--work-dir", tmp_path / "1")
    two, three = (tiny.start_ranks(number, *argv, "--work-dir", tmp_path / str(number)) for number in (2, 3))
    assert tiny.finish(one, *two, *three) == 0
    for name in ("epoch1_test_score.pkl", "each_class_acc.csv", "confusion_matrix.csv"):
        assert len({(tmp_path / str(number) / name).read_bytes() for number in (1, 2, 3)}) == 1


def test_a_run_of_two_ranks_tests_the_weights_that_it_saves_and_only_the_first_rank_writes(tmp_path, experiment):
    config, run, output = experiment(ema_decay=0.9), tmp_path / "run", tmp_path / "out.txt"
    assert tiny.finish(*tiny.start_ranks(2, "--config", config, "--work-dir", run, output=output)) == 0
    assert "epoch   2/2" in Path(f"{output}.0").read_text() and Path(f"{output}.1").read_text() == ""
    assert len((run / "log.txt").read_text().splitlines()) < 20 and len(list(run.glob("events.out.*"))) == 1
    last = tiny.metrics(run)[-1]
    for key, flags in (("test", ()), ("test_ema", ("--ema", "true"))):  # each rank has running statistics of its own
        argv = ("--phase", "test", "--weights", run / "last.pt", "--save-score", "true", *flags)
        assert tiny.finish(tiny.start("--config", config, "--work-dir", tmp_path / "tested", *argv)) == 0
        found = scores.read_scores(tmp_path / "tested" / (scores.EMA_SCORE_FILE if flags else scores.SCORE_FILE))
        label = torch.arange(60)[40:] * 7 % 5
        logits = torch.stack([torch.from_numpy(row) for row in found.values()])
        assert float(torch.nn.functional.cross_entropy(logits, label)) == pytest.approx(last[f"{key}_loss"], abs=1e-12)


def test_a_sigterm_to_one_rank_stops_both_and_both_resume_exactly(tmp_path, experiment):
    leaving = {"objective": "tests.torchlight.parts.AskedToLeave"}
    settings = {"num_epoch": 4, "save_interval": 10}
    asked = experiment(**settings, **leaving, objective_args={"at": 8})
    calm = experiment(**settings, **leaving, objective_args={"at": 1000})
    assert tiny.finish(*tiny.start_ranks(2, "--config", asked, "--work-dir", tmp_path / "run")) == 143
    content = checkpoint.load(tmp_path / "run" / "last.pt")
    assert (content["epoch"], content["step"]) == (2, 0)
    content["config"] = content["config"].replace("at: 8", "at: 1000")
    checkpoint.save(tmp_path / "run" / "last.pt", content)
    runs = [
        tiny.start_ranks(2, "--config", calm, "--work-dir", tmp_path / name, "--resume", "true")
        for name in ("run", "straight")
    ]
    assert tiny.finish(*runs[0], *runs[1]) == 0
    assert tiny.same_run(tmp_path / "run", tmp_path / "straight")


def test_a_failure_of_the_first_rank_ends_all_ranks_with_its_message(tmp_path, experiment):
    (tmp_path / "file").write_text("")
    output = tmp_path / "out.txt"
    ranks = tiny.start_ranks(2, "--config", experiment(), "--work-dir", tmp_path / "file" / "run", output=output)
    assert tiny.finish(*ranks, seconds=60) == 2 and {rank.exitcode for rank in ranks} == {2}
    assert Path(f"{output}.0").read_text().startswith("error: work_dir: ") and Path(f"{output}.1").read_text() == ""


def test_a_loss_that_is_not_finite_on_one_rank_ends_both(tmp_path, experiment):
    config = experiment(objective="tests.torchlight.parts.NotANumber", objective_args={"at": 3}, log_interval=1)
    output = tmp_path / "out.txt"
    ranks = tiny.start_ranks(2, "--config", config, "--work-dir", tmp_path / "run", output=output)
    assert tiny.finish(*ranks, seconds=60) == 1 and {rank.exitcode for rank in ranks} == {1}
    assert "the loss became nan" in Path(f"{output}.0").read_text() and not (tmp_path / "run" / "last.pt").exists()


def test_a_rank_that_fails_prints_the_reason_and_the_other_that_it_lost_its_partner(tmp_path, experiment):
    config, output = experiment(objective="tests.torchlight.parts.Breaks"), tmp_path / "out.txt"
    ranks = tiny.start_ranks(2, "--config", config, "--work-dir", tmp_path / "run", output=output)
    assert tiny.finish(*ranks, seconds=60) == 1 and {rank.exitcode for rank in ranks} == {1}
    assert "error: process 1: internal error: RuntimeError: failure of one process;" in Path(f"{output}.1").read_text()
    last = Path(f"{output}.0").read_text().splitlines()[-1]
    assert last.startswith("error: another process of the group failed; there is no checkpoint yet")


def test_resuming_with_another_number_of_ranks_continues_with_a_warning(tmp_path, experiment, main):
    config = experiment(
        num_epoch=2,
        save_every_steps=2,
        objective="tests.torchlight.parts.NotANumber",
        objective_args={"at": 5},
        log_interval=1,
    )
    run = tmp_path / "run"
    assert tiny.finish(*tiny.start_ranks(2, "--config", config, "--work-dir", run)) == 1
    content = checkpoint.load(run / "last.pt")
    assert content["step"] == 4 and len(content["rng"]) == len(content["sums"]) == 2
    loss = sum(sums["loss"] for sums in content["sums"])
    assert loss[1] == 32  # clips, of both ranks
    content["config"] = content["config"].replace("at: 5", "at: 1000")
    checkpoint.save(run / "last.pt", content)
    code, out, _ = main("--config", config, "--work-dir", run, "--resume", "true", "--objective-args.at", 1000)
    assert tiny.metrics(run)[0]["train_loss"] == pytest.approx(float(loss[0] / 32), rel=0.2)  # and one more step
    assert code == 0 and "2 processes before, 1 now" in out
    assert [line["epoch"] for line in tiny.metrics(run)] == [1, 2]


def start_two_devices(folder, config):
    """A command line with two devices, in `folder`; its process starts one for each."""
    argv = ("--config", config, "--work-dir", folder / "run", "--device", "cpu", "cpu")
    return tiny.start(*argv, output=folder / "out.txt", error=folder / "err.txt")


def wait_for(line: str, file: Path, process) -> None:
    """Until the process has printed the line."""
    while not (file.exists() and line in file.read_text()):
        assert process.is_alive(), file.read_text()
        process.join(0.02)


def test_two_devices_on_the_command_line_are_two_processes(tmp_path, experiment):
    code = tiny.finish(start_two_devices(tmp_path, experiment(num_epoch=1)))
    output, error = ((tmp_path / name).read_text() for name in ("out.txt", "err.txt"))
    assert code == 0 and error == "", error
    assert "batch size 8 = 4 per process x 2 process(es)" in output and output.count("epoch   1/1") == 1


def test_a_mistake_found_by_launched_processes_has_its_exit_code_and_one_message(tmp_path, experiment):
    (tmp_path / "run").write_text("")
    assert tiny.finish(start_two_devices(tmp_path, experiment())) == 2
    error = (tmp_path / "err.txt").read_text()
    assert error.startswith("error: work_dir: ") and error.count("\n") == 1, error


def test_a_sigterm_to_the_launcher_reaches_the_processes_which_save_and_exit(tmp_path, experiment):
    process = start_two_devices(tmp_path, experiment(num_epoch=1000))
    wait_for("epoch   2/", tmp_path / "out.txt", process)
    process.terminate()
    assert tiny.finish(process) == 143 and "--resume true continues from there" in (tmp_path / "err.txt").read_text()
    assert checkpoint.load(tmp_path / "run" / "last.pt")["epoch"] >= 2


def test_a_process_that_is_killed_is_named_by_the_launcher_with_its_signal(tmp_path, experiment):
    process = start_two_devices(tmp_path, experiment(num_epoch=1000))
    wait_for("epoch   1/", tmp_path / "out.txt", process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    assert tiny.finish(process) == 1
    error = (tmp_path / "err.txt").read_text()
    assert "was killed by SIGKILL (Linux kills processes when memory runs out); --resume true continues" in error
    assert "Traceback" not in error


def test_the_exit_code_of_a_group_is_that_of_the_process_that_failed_by_itself():
    assert launch.exit_code({0: 2, 1: 2}) == 2 and launch.exit_code({0: 1, 1: -15}) == 1
    assert launch.exit_code({0: 143, 1: 2}) == 2 and launch.exit_code({0: 143, 1: -15}) == 143
    assert launch.exit_code({0: 143, 1: 143}) == 143 and launch.exit_code({1: -15}) == 1
    with pytest.raises(RunError, match=r"process 1 was killed by SIGSEGV; --resume true"):
        launch.exit_code({0: 1, 1: -11})


def test_the_flag_debug_reaches_the_launched_processes(monkeypatch):
    from torch.distributed import run

    seen = []
    monkeypatch.setattr(run, "run", lambda args: seen.append(args.training_script_args))
    for argv in (["--debug", "--x"], ["--x"]):
        assert command.run(lambda words: launch.launch(words, 2), argv) == 0
    assert seen == [["--x", "--debug"], ["--x"]]


def start_nodes(argv, folder):
    """Two launchers on this machine, as two nodes of a cluster start them."""
    words = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    words += ["--rdzv-endpoint", f"localhost:{tiny.free_port()}", ROOT / "main.py", *argv]
    outputs = [folder / f"node{node}.txt" for node in range(2)]
    return [tiny.start(*words, output=file, program=launch.main, OMP_NUM_THREADS="1") for file in outputs]


def test_two_requeued_nodes_exit_with_143_and_their_run_is_resumed_exactly(tmp_path, experiment):
    config, run = experiment(num_epoch=8, save_every_steps=1), tmp_path / "run"
    argv = ("--config", config, "--work-dir", run, "--resume", "auto")
    nodes = start_nodes(argv, tmp_path)
    while not (run / "metrics.jsonl").is_file() or len((run / "metrics.jsonl").read_text().splitlines()) < 2:
        assert all(node.is_alive() for node in nodes)
        nodes[0].join(0.02)
    for node in nodes:  # as SLURM does before it requeues a job
        node.terminate()
    tiny.finish(*nodes)
    assert [node.exitcode for node in nodes] == [143, 143]
    output = "".join((tmp_path / f"node{node}.txt").read_text() for node in range(2))
    assert "Traceback" not in output and "continues from there" in output
    assert "batch size 8 = 4 per process x 2 process(es)" in output
    assert checkpoint.load(run / "last.pt")["epoch"] < 8
    straight = ("--config", config, "--work-dir", tmp_path / "straight")
    assert tiny.finish(*tiny.start_ranks(2, *argv), *tiny.start_ranks(2, *straight)) == 0
    assert tiny.same_run(run, tmp_path / "straight")
