"""Networks that take the times of the frames: every call of a network passes them on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from feeders.clip_store import ClipStore
from tests.torchlight import tiny
from torchlight.config.load import load_config
from torchlight.contract import network_inputs
from torchlight.distillation import LogitDistillation
from torchlight.objective import Classification
from torchlight.predict.recognizer import Recognizer
from torchlight.training import checkpoint, scores, teacher
from torchlight.training.experiment import PooledFeatures
from torchlight.training.teacher import Teacher

SKATEFORMER = {
    "feeder": "feeders.feeder_skateformer_ucla.Feeder",
    "model": "model.skateformer.Model",
    "model_args": {
        "num_class": 5,
        "num_point": 20,
        "num_person": 1,
        "graph": "graph.ucla.Graph",
        "depths": [1, 1],
        "channels": [32, 32],
        "attn_drop": 0.5,
        "drop_path": 0.2,
    },
    "optimizer": "AdamW",
    "base_lr": 0.004,
    "clip_grad": 1.0,
    "lr_schedule": "cosine",
    "lr_interval": "step",
    "warm_up_epoch": 1,
    "warm_up_lr": 1e-6,
}


class Sums(nn.Module):
    """Remembers its inputs; logits (N, 3)."""

    takes_time = True

    def forward(self, data, time=None):
        self.seen = (data, time)
        return torch.stack([data.sum((1, 2, 3, 4)), time.sum(1), torch.zeros(len(data))], 1)

    def features(self, data, time=None):
        return data * time[:, None, :, None, None]


class Plain(nn.Module):
    def forward(self, data):
        return data.flatten(1)[:, :3]


@pytest.fixture
def batch():
    return {
        "data": torch.randn(4, 3, 6, 5, 2),
        "data_bone": torch.randn(4, 3, 6, 5, 2),
        "time": torch.randn(4, 6),
        "label": torch.tensor([0, 1, 2, 0]),
        "index": torch.arange(4),
    }


def test_only_networks_that_take_times_get_them_also_inside_of_other_modules(batch):
    for model in (Sums(), nn.DataParallel(Sums()), torch.compile(Sums()), PooledFeatures(Sums())):
        data, time = network_inputs(model, batch, "data_bone")
        assert data is batch["data_bone"] and time is batch["time"]
    assert network_inputs(Plain(), batch) == (batch["data"],)
    del batch["time"]
    assert network_inputs(Sums(), batch) == (batch["data"],)


def test_classification_trains_and_predicts_with_times_and_mixes_them_as_the_clips(batch):
    model = Sums()
    for call in (Classification(), Classification().predict):
        call(model, batch)
        assert model.seen[0] is batch["data"] and model.seen[1] is batch["time"]
    Classification(mixup_alpha=0.8)(model, batch)
    (data, time), clips, times = model.seen, batch["data"], batch["time"]
    lam = ((data - clips.flip(0)) / (clips - clips.flip(0))).median()
    torch.testing.assert_close(time, lam * times + (1 - lam) * times.flip(0), rtol=1e-4, atol=1e-4)


def test_students_and_teachers_get_times_if_they_take_them(batch):
    student, known = Sums(), Sums()
    objective = LogitDistillation()
    objective.teacher = Teacher([known, Plain()], ["data_bone", "data"])
    loss, _, _ = objective(student, batch)
    assert loss.isfinite() and student.seen[1] is known.seen[1] is batch["time"]
    assert known.seen[0] is batch["data_bone"]
    student.seen = None
    objective.predict(student, batch)
    assert student.seen[1] is batch["time"]


def test_pooled_features_are_those_at_the_times(batch):
    model = PooledFeatures(Sums())
    expected = (batch["data"] * batch["time"][:, None, :, None, None]).mean((2, 3, 4))
    torch.testing.assert_close(Classification().predict(model, batch), expected)


@pytest.fixture(scope="module")
def skateformer(tmp_path_factory, store, experiment):
    """The configuration and the run directory of a small SkateFormer."""
    short = {"data_path": str(store), "window_size": 16}
    config = experiment(**SKATEFORMER, train_feeder_args=short, test_feeder_args=short)
    run = tmp_path_factory.mktemp("runs") / "straight"
    assert tiny.finish(tiny.start("--config", config, "--work-dir", run)) == 0
    return config, run


def test_an_interrupted_training_equals_an_uninterrupted_one(skateformer, experiment, tmp_path):
    config, run = skateformer
    leaving, part = load_config(config), tmp_path / "run"
    leaving.objective, leaving.objective_args = "tests.torchlight.parts.AskedToLeave", {"at": 3}
    (tmp_path / "leaving.yaml").write_text(leaving.to_yaml())
    assert tiny.finish(tiny.start("--config", tmp_path / "leaving.yaml", "--work-dir", part)) == 143
    content = checkpoint.load(part / "last.pt")
    content["config"] = (run / "config.yaml").read_text()  # nobody asks any more
    checkpoint.save(part / "last.pt", content)
    assert tiny.finish(tiny.start("--config", config, "--work-dir", part, "--resume", "true")) == 0
    assert tiny.same_run(run, part)


def test_two_ranks_and_half_precision_train(skateformer, tmp_path):
    config, _ = skateformer
    two = tiny.start_ranks(2, "--config", config, "--work-dir", tmp_path / "two")
    half = tiny.start("--config", config, "--work-dir", tmp_path / "half", "--precision", "bfloat16")
    assert tiny.finish(*two, half) == 0
    assert tiny.metrics(tmp_path / "two")[-1]["epoch"] == tiny.metrics(tmp_path / "half")[-1]["epoch"] == 2


def test_a_test_a_prediction_and_a_report_use_the_times_of_the_test_feeder(skateformer, store, tmp_path, main):
    config, run = skateformer
    argv = ("--config", config, "--phase", "test", "--weights", run / "last.pt", "--work-dir", tmp_path / "tested")
    code, _, error = main(*argv, "--save-score", "true", "--save-feature", "true")
    assert code == 0, error
    tested = scores.read_scores(tmp_path / "tested" / scores.SCORE_FILE)
    clips = ClipStore(store)
    names = [clips.name[i] for i in clips.part("xview", "test")[:4]]
    batch = {name: clip_of(clips, name) for name in names}
    found = Recognizer(run / "last.pt", device="cpu").predict(list(batch.values()))
    for name, prediction in zip(names, found, strict=True):
        np.testing.assert_allclose(prediction.scores, tested[name], rtol=1e-4, atol=1e-5)
    shutil.copytree(run, tmp_path / "run")
    code, _, error = main("--config", config, "--phase", "report", "--work-dir", tmp_path / "run")
    assert code == 0, error


def clip_of(clips: ClipStore, name: str) -> np.ndarray:
    """The frames of a clip of one person, (T, V, C)."""
    i = clips.name.tolist().index(name)
    return np.asarray(clips.frames[clips.start[i] : clips.start[i] + clips.length[i]])


def test_a_skateformer_can_be_the_teacher_or_the_student_of_another_network(
    skateformer, experiment, trained, tmp_path, main, monkeypatch
):
    monkeypatch.setattr(teacher, "CHANCE_FACTOR", 0.0)  # both have seen few clips
    config, run = skateformer
    skate = {"model": SKATEFORMER["model"], "model_args": SKATEFORMER["model_args"], "weights": f"{run}/last.pt"}
    graph_conv = {key: tiny.options(Path())[key] for key in ("model", "model_args")}
    other = graph_conv | {"weights": f"{trained}/last.pt"}
    distilled = yaml.safe_load(config.read_text()) | {"objective": "torchlight.distillation.LogitDistillation"}
    for name, changes in (("student", graph_conv | {"teacher": skate}), ("skate", {"teacher": [other, skate]})):
        code, _, error = main("--config", experiment(**distilled | changes), "--work-dir", tmp_path / name)
        assert code == 0, error
        assert tiny.metrics(tmp_path / name)[-1]["train_kl"] > 0
