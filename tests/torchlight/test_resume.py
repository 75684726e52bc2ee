"""An interrupted run gives the same results as an uninterrupted one."""

import copy
import json
import random
import shutil
import zipfile

import pytest
import torch

from tests.torchlight import tiny
from tests.torchlight.kill_test import killed_run
from torchlight.commands import phases
from torchlight.config.load import load_config
from torchlight.training import build, checkpoint, optim, resume


@pytest.mark.parametrize("seed", range(2))
def test_a_run_killed_at_random_times_equals_an_uninterrupted_one(tmp_path, experiment, trained, seed):
    folder = tmp_path / "run"
    killed_run(experiment(**tiny.RICH), folder, random.Random(seed), seconds=2.0, kills=2, num_worker=seed % 2)
    assert tiny.same_run(trained, folder)


@pytest.mark.parametrize(("at", "num_worker"), [(3, 0), (7, 1)])
def test_after_a_sigterm_to_the_whole_group_the_resumed_run_equals_an_uninterrupted_one(
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
    metrics = run / "metrics.jsonl"  # the figure of an objective of one's own has a name of its own
    metrics.write_text(metrics.read_text().replace("cross_entropy", "loss") if metrics.exists() else "")
    calm = experiment(**settings, objective_args=arguments)
    assert tiny.finish(tiny.start("--config", calm, "--work-dir", run, "--resume", "true")) == 0
    assert tiny.same_run(trained, run)


def test_resuming_a_finished_run_changes_nothing(tmp_path, experiment, trained, main):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "each_class_acc.csv").unlink()
    before = (tmp_path / "run" / "last.pt").read_bytes()
    code, out, _ = main("--config", experiment(**tiny.RICH), "--work-dir", tmp_path / "run", "--resume", "true")
    assert code == 0 and "nothing to do: all 3 epochs are trained" in out
    assert (tmp_path / "run" / "last.pt").read_bytes() == before and tiny.same_run(trained, tmp_path / "run")
    assert (tmp_path / "run" / "each_class_acc.csv").read_bytes() == (trained / "each_class_acc.csv").read_bytes()


@pytest.mark.parametrize(("epochs", "kept"), [(3, True), (4, False)])
def test_a_resumed_run_that_trains_further_removes_the_scores_of_the_earlier_epoch(
    tmp_path, experiment, trained, main, epochs, kept
):
    shutil.copytree(trained, tmp_path / "run")
    tested = [tmp_path / "run" / name for name in ("epoch1_test_score.pkl", "robustness.csv")]
    for file in tested:
        file.write_text("of epoch 3")
    command = ("--config", experiment(**tiny.RICH), "--work-dir", tmp_path / "run", "--resume", "true")
    code, out, err = main(*command, "--num-epoch", epochs)
    assert code == 0, err
    assert [file.exists() for file in tested] == [kept, kept]
    removed = "removed the test results of epoch 3: epoch1_test_score.pkl, robustness.csv"
    assert (removed in out) == (not kept)


def test_a_damaged_last_checkpoint_is_replaced_by_the_newest_complete_one(tmp_path, experiment, trained, main):
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
    lines = (run / "log.txt").read_text()  # also of what happens before the log is opened
    assert lines.count("last.pt: not a whole file") == lines.count("resumed from") == 1
    assert tiny.same_run(trained, run)


def test_a_kept_checkpoint_is_not_a_link_to_the_last_one(tmp_path, experiment, main):
    config, run = experiment(), tmp_path / "run"
    assert main("--config", config, "--work-dir", run, "--keep", 1)[0] == 0
    with open(run / "last.pt", "r+b") as file:
        file.write(b"\0" * 1000)
    assert main("--config", config, "--work-dir", run, "--resume", "true")[0] == 0


def test_without_a_complete_checkpoint_resuming_is_refused_and_nothing_changes(tmp_path, experiment, trained, main):
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


def test_a_new_run_takes_the_optimizer_state_and_its_own_learning_rate(
    tmp_path, experiment, trained, monkeypatch, main
):
    taken = {}

    def take(optimizer, config):
        resume.take_optimizer(optimizer, config)
        taken.update(copy.deepcopy(optimizer.state_dict()))

    monkeypatch.setattr(phases, "take_optimizer", take)
    start = ("--config", experiment(**tiny.RICH), "--weights", trained / "last.pt", "--base-lr", 0.01, "--step", 1)
    code, out, _ = main(*start, "--work-dir", tmp_path / "new", "--weights-optimizer", "true", "--weight-decay", 0)
    assert code == 0 and f"the optimizer continues with the state in {trained / 'last.pt'}" in out
    saved = checkpoint.load(trained / "last.pt")["optimizer"]
    assert taken["state"] and tiny.equal(taken["state"], saved["state"])
    group = taken["param_groups"][0]
    assert (group["lr"], group["weight_decay"]) == (0.01, 0) and saved["param_groups"][0]["weight_decay"] > 0
    assert main(*start, "--work-dir", tmp_path / "without", "--weight-decay", 0)[0] == 0
    assert not tiny.equal(tiny.weights(tmp_path / "new"), tiny.weights(tmp_path / "without"))


def test_an_optimizer_state_that_does_not_fit_is_refused(tmp_path, experiment, trained, main):
    content = checkpoint.load(trained / "last.pt")
    checkpoint.save(tmp_path / "flat.pt", content["model"])
    config = experiment(**tiny.RICH)
    for weights, words, message in (
        (tmp_path / "flat.pt", (), "flat.pt: expected an optimizer state, got weights only; leave out"),
        (trained / "last.pt", ("--optimizer", "AdamW"), "expected the optimizer state of AdamW, got that of 'SGD'"),
        (trained / "last.pt", ("--decay-all", "false"), "optimizer.param_groups: expected a list of 2"),
        (trained / "last.pt", ("--ignore-weights", "fc"), "weights_optimizer: expected no ignore_weights"),
    ):
        run = ("--config", config, "--weights", weights, "--work-dir", tmp_path / "run", "--weights-optimizer", "true")
        code, _, err = main(*run, *words)
        assert code == 2 and message in err and err.count("\n") == 1, err
    assert not (tmp_path / "run" / "last.pt").exists()


def changed(*path, to):
    """A function that replaces one entry of a checkpoint, deep inside; to=None removes it."""

    def change(content):
        *parents, last = path
        for key in parents:
            content = content[key]
        if to is None:
            del content[last]
        else:
            content[last] = to(content[last]) if callable(to) else to

    return change


def quantized(tensor):
    return torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8)


WRONG = {  # field: expected ..., got ...
    "no epoch": (changed("epoch", to=None), "epoch: missing"),
    "no rng": (changed("rng", to=None), "rng: missing"),
    "no model": (changed("model", to=None), "model: missing"),
    "epoch -5": (changed("epoch", to=-5), "epoch: expected a whole number from 0, got -5"),
    "epoch 1.5": (changed("epoch", to=1.5), "epoch: expected a whole number from 0, got 1.5"),
    "epoch true": (changed("epoch", to=True), "epoch: expected a whole number from 0, got True"),
    "step of the next epoch": (changed("step", to=5), "step: expected a whole number from 0 to 4, got 5"),
    "config int": (changed("config", to=5), "config: expected YAML text, got 5"),
    "config no YAML": (changed("config", to="a: ["), "config: not valid YAML"),
    "config a list": (changed("config", to="[1]"), "config: expected a mapping of options, got [1]"),
    "model empty": (changed("model", to={}), "expected a dense tensor, got None"),
    "model of numbers": (changed("model", "fc.bias", to=1), "model.fc.bias: expected a dense tensor, got 1"),
    "model with keys": (changed("model", 1, to=torch.ones(1)), "model: expected the weights of this network, got 1"),
    "other shape": (changed("model", "fc.bias", to=torch.ones(4)), "model.fc.bias: expected torch.float32 of shape"),
    "claimed size": (changed("model", "fc.bias", to=torch.ones(1).expand(10**12)), "model.fc.bias: expected a dense"),
    "sparse": (changed("model", "fc.bias", to=lambda t: t.to_sparse()), "got a sparse_coo tensor"),
    "meta": (changed("model", "fc.bias", to=lambda t: t.to("meta")), "got a strided tensor on meta"),
    "quantized": (changed("model", "fc.bias", to=quantized), "model.fc.bias: expected a dense tensor"),
    "infinite": (changed("model", "fc.bias", to=lambda t: t / 0), "model.fc.bias: expected finite values"),
    "no average": (changed("model_ema", to=None), "model_ema: expected a mapping, got None"),
    "optimizer empty": (changed("optimizer", to={}), "optimizer.state: expected a mapping, got None"),
    "optimizer without state": (changed("optimizer", "state", to={}), "optimizer.state: expected the state of each"),
    "other parameters": (changed("optimizer", "param_groups", 0, "params", to=[0]), "param_groups[0].params: expected"),
    "lr text": (changed("optimizer", "param_groups", 0, "lr", to="1"), "param_groups[0].lr: expected a finite number"),
    "other momentum": (changed("optimizer", "state", 0, "momentum_buffer", to=torch.ones(3)), "momentum_buffer: exp"),
    "scaler": (changed("scaler", to=[]), "scaler: expected a mapping, got []"),
    "best": (changed("best", "test", "top1", to=float("nan")), "best.test.top1: expected a finite number from 0"),
    "rng empty": (changed("rng", to=[]), "rng: expected a list with one entry per process, got []"),
    "rng short": (changed("rng", 0, "torch", to=torch.zeros(3, dtype=torch.uint8)), "rng[0]: expected the state"),
    "rng without numpy": (changed("rng", 0, "numpy", to=None), "rng[0]: expected the state of the random generators"),
    "sums text": (changed("sums", to="x"), "sums: expected a list with one entry per process, got 'x'"),
    "sums of numbers": (changed("sums", 0, to={"loss": 5}), "sums[0].loss: expected a dense tensor, got 5"),
}  # fmt: skip


@pytest.fixture(scope="module")
def expect(trained):
    """A function that reads the newest checkpoint of a folder for the run `trained`; returns its path."""
    config = load_config(trained / "config.yaml")
    model = build.build_model(config, build.preflight(config, ("model",))["model"])
    own = {"averaged": True, "optimizer": optim.build_optimizer(config, model), "steps": 5}
    own |= {"model": model, "scaler": torch.amp.GradScaler("cpu", enabled=False)}
    return lambda folder: resume.read_newest(folder, config, lambda content: resume.check_content(content, **own))


@pytest.fixture(scope="module")
def whole(trained):
    return checkpoint.load(trained / "last.pt")


def test_the_checkpoint_of_a_run_is_complete(trained, expect):
    state = torch.get_rng_state()
    assert expect(trained)[0] == trained / "last.pt"
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_content_is_refused_by_file_and_field_and_the_next_checkpoint_is_taken(
    tmp_path, whole, expect, name, caplog
):
    content = copy.deepcopy(whole)
    change, reason = WRONG[name]
    change(content)
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="no whole checkpoint in .*; start again with --overwrite true") as refused:
        expect(tmp_path)
    begin = f"resume: {tmp_path / 'last.pt'}: not a checkpoint of this program: "
    assert str(refused.value).startswith(begin) and reason in str(refused.value) and "\n" not in str(refused.value)
    torch.save(whole, tmp_path / "epoch_2.pt")
    assert expect(tmp_path)[0] == tmp_path / "epoch_2.pt"


def test_a_file_with_other_content_or_that_expands_when_read_cannot_be_resumed(tmp_path, expect):
    torch.save(torch.ones(3), tmp_path / "last.pt")
    with pytest.raises(ValueError, match="not a checkpoint of this program: expected a mapping, got Tensor"):
        expect(tmp_path)
    torch.save({"model": {"fc.weight": torch.zeros(10**6)}}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as source, zipfile.ZipFile(tmp_path / "last.pt", "w") as packed:
        for member in source.infolist():
            packed.writestr(member.filename, source.read(member), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="not a whole file of plain tensors .ValueError: expected at most"):
        expect(tmp_path)


def test_wrong_content_ends_the_command_line_with_2_and_changes_nothing(tmp_path, experiment, trained, whole, main):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    torch.save(whole | {"epoch": -5}, run / "last.pt")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    code, _, err = main("--config", experiment(**tiny.RICH), "--work-dir", run, "--resume", "true")
    assert code == 2 and err.count("\n") == 1 and "epoch: expected a whole number from 0, got -5" in err
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_weights_alone_cannot_be_resumed(tmp_path, experiment, main):
    (tmp_path / "run").mkdir()
    torch.save({"model": {"fc.weight": torch.zeros(1)}}, tmp_path / "run" / "last.pt")
    code, _, err = main("--config", experiment(), "--work-dir", tmp_path / "run", "--resume", "true")
    assert code == 2 and "contains weights only" in err and "--weights" in err


def test_resuming_without_a_checkpoint_starts_from_the_beginning(tmp_path, experiment, main):
    code, out, _ = main("--config", experiment(num_epoch=1), "--work-dir", tmp_path / "run", "--resume", "true")
    assert code == 0 and "no checkpoint in" in out and "starting from the beginning" in out


def test_a_failed_run_that_torchrun_restarts_is_resumed(tmp_path, experiment, main, monkeypatch):
    config = experiment()
    assert main("--config", config, "--work-dir", tmp_path / "run", "--overwrite", "true")[0] == 0
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    code, out, _ = main("--config", config, "--work-dir", tmp_path / "run", "--overwrite", "true")
    assert code == 0 and "nothing to do" in out


def test_resuming_on_other_data_is_refused_and_a_checkpoint_without_facts_about_it_is_not(
    tmp_path, experiment, trained, main
):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    argv = ("--config", experiment(**tiny.RICH), "--work-dir", run, "--resume", "true")
    content = checkpoint.load(run / "last.pt")
    clips = content["clips"] | {"sha256": {"frames.npy": "4567"}, "recipe": "agcn"}  # the data has no recipe
    clips["body"] = clips["body"] | {"center": 3, "name": "other", "new": 1}
    checkpoint.save(run / "last.pt", content | {"clips": clips})
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    code, _, err = main(*argv)
    assert code == 2 and "(sha256.frames.npy was '4567' and is '0123', body.center was 3 and is 2); give" in err
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    del content["clips"]
    checkpoint.save(run / "last.pt", content)
    assert main(*argv)[0] == 0


def test_the_environment_of_a_resumed_run_keeps_the_earlier_ones(tmp_path, experiment, trained, main):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    first = json.loads((run / "environment.json").read_text()) | {"torch": "2.5"}
    (run / "environment.json").write_text(json.dumps(first))
    for _ in range(2):  # the second time nothing is different
        assert main("--config", experiment(**tiny.RICH), "--work-dir", run, "--resume", "true")[0] == 0
        found = json.loads((run / "environment.json").read_text())
        assert found["earlier"] == [first] and found["torch"] == torch.__version__
