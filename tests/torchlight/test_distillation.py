"""Distillation: the decoupled divergence against its definition, and runs with a teacher from the command line."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

from graph.ntu_rgb_d import SKELETON
from torchlight.commands.main import main, parse
from torchlight.config.imports import import_object
from torchlight.config.load import load_config
from torchlight.distillation import (
    DecoupledKnowledge,
    LogitDistillation,
    decoupled_divergence,
    divergence,
)
from torchlight.fusion import fuse
from torchlight.training.teacher import Teacher, find_problems, other_modalities, teacher_configs, teacher_weights

CLASSES, CLIPS, JOINTS, FRAMES = 4, 32, 25, 16


def logits(*shape: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(
    student: torch.Tensor, teacher: torch.Tensor, label: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition, clip by clip, from probabilities."""
    target, rest = [], []
    for s, t, g in zip(student / temperature, teacher / temperature, label.tolist(), strict=True):
        ps, pt = s.softmax(0), t.softmax(0)
        keep = [i for i in range(len(s)) if i != g]
        qs, qt = ps[keep] / (1 - ps[g]), pt[keep] / (1 - pt[g])
        target.append(pt[g] * torch.log(pt[g] / ps[g]) + (1 - pt[g]) * torch.log((1 - pt[g]) / (1 - ps[g])))
        rest.append((qt * torch.log(qt / qs)).sum())
    return torch.stack(target), torch.stack(rest)


# The divergence


@pytest.mark.parametrize("classes", [3, 10, 60, 400])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_target_and_non_target_terms_add_up_to_the_plain_divergence(classes, temperature):
    student, teacher = logits(64, classes, seed=1), logits(64, classes, seed=2)
    label = torch.arange(64) % classes
    takd, nakd = decoupled_divergence(student, teacher, label, temperature)
    doubt = 1 - (teacher / temperature).softmax(1).gather(1, label[:, None])[:, 0]
    torch.testing.assert_close(takd + doubt * nakd, divergence(student, teacher, temperature), rtol=0, atol=1e-12)


def test_terms_and_gradients_are_those_of_the_definition():
    student, teacher = logits(16, 7, seed=1).requires_grad_(), logits(16, 7, seed=2)
    label = torch.arange(16) % 7
    grads = []
    for terms in (decoupled_divergence(student, teacher, label, 2.0), plain(student, teacher, label, 2.0)):
        grads.append([*terms, *(torch.autograd.grad(term.sum(), student, retain_graph=True)[0] for term in terms)])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_the_target_term_depends_on_the_label_only_and_the_other_term_does_not_depend_on_it():
    student, teacher = logits(8, 5, seed=1).requires_grad_(), logits(8, 5, seed=2)
    label = torch.full((8,), 2)
    nakd = decoupled_divergence(student, teacher, label, 1.0)[1]
    assert torch.autograd.grad(nakd.sum(), student)[0][:, 2].abs().max() == 0
    same = student.detach().clone()
    same[:, 2] += 5  # only the labelled action moves
    takd, nakd = decoupled_divergence(same, student.detach(), label, 1.0)
    assert nakd.abs().max() < 1e-14 and takd.min() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("objective", [DecoupledKnowledge(temperature=1.0), LogitDistillation(temperature=1.0)])
def test_extreme_logits_give_finite_values_and_gradients(dtype, objective):
    extremes = torch.tensor([1e4, -1e4, 0.0])
    student = extremes[torch.randint(3, (90, 400), generator=torch.Generator().manual_seed(0))]
    teacher = extremes[torch.randint(3, (90, 400), generator=torch.Generator().manual_seed(1))]
    student[0], teacher[0] = -1e4, -1e4
    student[0, 0], teacher[0, 1] = 1e4, 1e4  # as sure as can be, of different classes
    student[1], teacher[1] = teacher[0], student[0]
    student = student.to(dtype).requires_grad_()
    loss, _ = objective.divergence(student, teacher.to(dtype), torch.arange(90) % 400)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss) and torch.isfinite(student.grad).all()


def test_two_classes_are_refused():
    with pytest.raises(ValueError, match="num_class: expected 3 or more"):
        decoupled_divergence(logits(4, 2), logits(4, 2), torch.zeros(4, dtype=torch.int64), 1.0)


# The objective


class Fixed(torch.nn.Module):
    """Gives the logits it was made with, and counts its calls."""

    def __init__(self, value: torch.Tensor):
        super().__init__()
        self.value, self.calls = torch.nn.Parameter(value), 0

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.value[data.long()]


def batch(indices: list[int]) -> dict[str, torch.Tensor]:
    index = torch.tensor(indices)
    return {"data": index.double(), "data_bone": index.flip(0).double(), "label": index % 5, "index": index}


def test_loss_is_the_published_formula_with_the_divergence_fading_in():
    objective = DecoupledKnowledge(alpha=0.5, beta=2.0, temperature=3.0, ce_weight=0.7, warm_up_epoch=4)
    student, teacher, label = Fixed(logits(9, 5, seed=1)), Fixed(logits(9, 5, seed=2)), torch.arange(9) % 5
    objective.teacher = Teacher([teacher], ["data"])
    takd, nakd = (term.mean() for term in plain(student.value, teacher.value, label, 3.0))
    ce = F.cross_entropy(student.value, label)
    for epoch, share in ((1, 0.25), (2, 0.5), (4, 1.0), (30, 1.0)):
        objective.set_epoch(epoch)
        loss, _, terms = objective(student, batch(list(range(9))))
        torch.testing.assert_close(loss, 0.7 * ce + share * 9 * (0.5 * takd + 2 * nakd))
    assert set(terms) == {"ce", "takd", "nakd", "agreement"}
    same = student.value.argmax(1) == teacher.value.argmax(1)
    assert terms["agreement"] == 100 * same.double().mean()


def test_plain_distillation_is_the_divergence_of_all_classes():
    objective = LogitDistillation(alpha=0.5, temperature=2.0, ce_weight=0.0, warm_up_epoch=0)
    student, teacher = Fixed(logits(9, 5, seed=1)), Fixed(logits(9, 5, seed=2))
    objective.teacher = Teacher([teacher], ["data"])
    loss, _, terms = objective(student, batch(list(range(9))))
    torch.testing.assert_close(loss, 4 * 0.5 * divergence(student.value, teacher.value, 2.0).mean())
    assert set(terms) == {"ce", "kl", "agreement"}


def test_several_teachers_are_averaged_each_seeing_its_own_modality():
    joint, bone = Fixed(logits(6, 5, seed=1)), Fixed(logits(6, 5, seed=2))
    teacher = Teacher([joint, bone], ["data", "data_bone"])
    torch.testing.assert_close(teacher(batch([0, 1, 2])), (joint.value[:3] + bone.value[[2, 1, 0]]).detach() / 2)
    weighted = Teacher([joint, bone], ["data", "data_bone"], weights=[0.6, 0.2])
    expected = (0.75 * joint.value[:3] + 0.25 * bone.value[[2, 1, 0]]).detach()
    torch.testing.assert_close(weighted(batch([0, 1, 2])), expected)


def test_a_teacher_is_never_trained():
    network = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5))
    objective = DecoupledKnowledge()
    objective.teacher = Teacher([network], ["data"])
    objective.train()
    assert not any(module.training for module in network.modules())
    before = {key: value.clone() for key, value in network.state_dict().items()}
    out = objective.teacher({"data": torch.randn(6, 1)})
    assert not out.requires_grad and not any(p.requires_grad for p in network.parameters())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_cached_logits_are_those_of_the_teacher_and_are_computed_once():
    network = Fixed(logits(6, 5))
    plain_teacher, cached = Teacher([network], ["data"]), Teacher([network], ["data"], cache_size=6)
    for indices in ([0, 1, 2], [3, 4, 5], [5, 0, 3], [2, 1, 4]):
        assert torch.equal(cached(batch(indices)), plain_teacher(batch(indices)))
    assert network.calls == 4 + 2


@pytest.mark.parametrize(
    "arguments", [{"temperature": 0}, {"alpha": -1}, {"beta": float("nan")}, {"warm_up_epoch": -1}]
)
def test_invalid_constants_are_refused(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}: expected .*, got"):
        DecoupledKnowledge(**arguments)


# Runs


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, one_thread):
    """A benchmark of four easy actions in ST-GCN's format, the configuration of a network, and that network trained
    for one epoch."""
    folder = tmp_path_factory.mktemp("distillation")
    random = np.random.default_rng(0)
    label = np.arange(CLIPS) % CLASSES
    for part in ("train", "val"):
        pose = np.random.default_rng(1).normal(size=(CLASSES, 3, 1, JOINTS, 1))[label]
        data = pose + 0.1 * random.normal(size=(CLIPS, 3, FRAMES, JOINTS, 1))
        np.save(folder / f"{part}_data_joint.npy", data.astype(np.float32))
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps(([f"{part}{i}" for i in range(CLIPS)], label.tolist())))
    options = {
        "feeder": "feeders.feeder_kinetics.Feeder",
        "train_feeder_args": {"data_path": str(folder / "train_data_joint.npy"), "skeleton": "graph.ntu_rgb_d"},
        "test_feeder_args": {"data_path": str(folder / "val_data_joint.npy"), "skeleton": "graph.ntu_rgb_d"},
        "model": "model.ctrgcn.Model",
        "model_args": {
            "num_class": CLASSES,
            "num_point": JOINTS,
            "num_person": 1,
            "graph": "graph.ntu_rgb_d.Graph",
            "channels": [16, 16],
        },
        **{"batch_size": 16, "num_epoch": 2, "device": "cpu", "num_worker": 0, "base_lr": 0.05, "nesterov": True},
    }
    (folder / "teacher.yaml").write_text(yaml.safe_dump(options))
    for modality in ("joint", "bone"):
        assert (
            main(
                [
                    "--config",
                    f"{folder}/teacher.yaml",
                    "--work-dir",
                    f"{folder}/teacher/{modality}",
                    "--modality",
                    modality,
                ]
            )
            == 0
        )
    teacher = {
        "model": "model.ctrgcn.Model",
        "model_args": {"channels": [16, 16]},
        "weights": f"{folder}/teacher/{{modality}}/last.pt",
    }
    options |= {
        "teacher": teacher,
        "objective": "torchlight.distillation.DecoupledKnowledge",
        "objective_args": {"warm_up_epoch": 2},
    }
    options["model_args"] = options["model_args"] | {"channels": [8]}
    (folder / "student.yaml").write_text(yaml.safe_dump(options))
    return folder


def teach(folder, name: str, *flags: str, code: int = 0) -> list[dict]:
    """Train a student; the epochs of its metrics.jsonl."""
    assert main(["--config", f"{folder}/student.yaml", "--work-dir", f"{folder}/{name}", *flags]) == code
    file = folder / name / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def refusal(folder, capsys, *flags: str) -> str:
    """What a refused run says; it must leave nothing behind."""
    teach(folder, "refused", *flags, code=2)
    assert not (folder / "refused").exists()
    return capsys.readouterr().err


def test_a_student_learns_from_the_teacher_of_its_own_modality_and_is_independent_of_it_afterwards(folder, capsys):
    lines = teach(folder, "student", "--modality", "bone")
    assert {"train_ce", "train_takd", "train_nakd", "train_agreement"} <= set(lines[-1])
    log = (folder / "student/log.txt").read_text()
    assert (
        log.count("test top-1") >= 2
        and f"teacher 1: model.ctrgcn.Model, bone stream, {folder}/teacher/bone/last.pt" in log
    )
    (folder / "teacher").rename(folder / "gone")
    try:  # the checkpoint holds the student alone
        config, weights = f"{folder}/student/config.yaml", f"{folder}/student/last.pt"
        assert (
            main(["--config", config, "--work-dir", f"{folder}/student", "--phase", "test", "--weights", weights]) == 0
        )
    finally:
        (folder / "gone").rename(folder / "teacher")
    names = torch.load(weights, weights_only=True)["model"]
    assert not any("teacher" in name for name in names)
    assert load_config(config).teacher == load_config(folder / "student.yaml").teacher


def test_the_share_of_the_teacher_grows_with_the_epochs_of_the_run(folder):
    lines = teach(
        folder, "warm", "--objective-args", "warm_up_epoch=2", "alpha=1", "beta=1", "ce_weight=0", "temperature=1"
    )
    for line, share in zip(lines, (0.5, 1.0), strict=True):
        assert line["train_loss"] == pytest.approx(share * (line["train_takd"] + line["train_nakd"]), rel=1e-5)


def test_each_teacher_of_a_run_sees_its_own_modality_and_the_cache_changes_nothing(folder, monkeypatch):
    seen = []
    look = Teacher.mean_logits
    monkeypatch.setattr(
        Teacher,
        "mean_logits",
        lambda self, batch: seen.append([batch[key] for key in self.inputs]) or look(self, batch),
    )
    both = [
        {"model": "model.ctrgcn.Model", "model_args": {"channels": [16, 16]}, "modality": m} for m in ("joint", "bone")
    ]
    both = [entry | {"weights": f"{folder}/teacher/{{modality}}/last.pt"} for entry in both]
    both[1]["weight"] = 1e-9
    flags = ("--teacher", *(json.dumps(entry) for entry in both))
    fresh, cached = teach(folder, "fresh", *flags), teach(folder, "cached", *flags, "--teacher-cache", "true")
    for a, b in zip(fresh, cached, strict=True):
        for key in ("train_loss", "train_takd", "test_cross_entropy", "train_agreement"):
            assert a[key] == pytest.approx(b[key], rel=1e-4), key
    log = (folder / "fresh/log.txt").read_text()
    (alone,) = re.findall(r"teacher 1: .* test top-1 (.*) %", log)
    assert f"the 2 teachers together: test top-1 {alone} %" in log  # the second one has next to no weight
    parents = torch.tensor(SKELETON.bone_parents)
    torch.testing.assert_close(seen[0][1], seen[0][0] - seen[0][0][:, :, :, parents])
    assert len(seen) == 1 + 4 + 1 + 2  # a rehearsal, then two epochs of two batches; with the cache one epoch of them


def test_a_teacher_without_weight_changes_nothing_and_without_a_teacher_none_is_loaded(folder, monkeypatch):
    teach(folder, "weightless", "--objective-args", "alpha=0", "beta=0", "warm_up_epoch=0")
    monkeypatch.delattr("torchlight.training.experiment.load_teachers")
    flags = ["--model-args", "channels=[8]", "--work-dir", f"{folder}/alone"]
    assert main(["--config", f"{folder}/teacher.yaml", *flags]) == 0
    a, b = (torch.load(folder / name / "last.pt", weights_only=True)["model"] for name in ("weightless", "alone"))
    assert all(torch.allclose(a[key], b[key], atol=1e-6) for key in a)


def test_a_teacher_and_its_objective_need_each_other(folder, capsys):
    assert "teacher: expected an objective that takes one" in refusal(
        folder, capsys, "--objective", "torchlight.objective.Classification", "--objective-args", "alpha=1"
    )
    main(
        [
            "--config",
            f"{folder}/teacher.yaml",
            "--work-dir",
            f"{folder}/refused",
            "--objective",
            "torchlight.distillation.LogitDistillation",
        ]
    )
    assert "teacher: missing" in capsys.readouterr().err
    assert not (folder / "refused").exists()


def entry(folder, **changes) -> str:
    good = {
        "model": "model.ctrgcn.Model",
        "model_args": {"channels": [16, 16]},
        "weights": f"{folder}/teacher/joint/last.pt",
    }
    return json.dumps(good | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": "nowhere/last.pt"}, "weights: expected a file, got 'nowhere/last.pt'; train the teacher first"),
        ({"weights": ""}, "weights: expected a file, got ''"),
        ({"weights": None}, "weights: expected text, got None"),
        ({"weigths": "x"}, "weigths: unknown argument; did you mean weights?"),
        ({"modality": "bones"}, "modality: expected joint, bone.* got 'bones'"),
        ({"weight": 0}, "teacher 1: weight: expected a finite number above 0, got 0.0"),
        ({"model": "model.ctrgnc.Model"}, "did you mean ctrgcn?"),
        ({"model_args": {"chanels": [16]}}, "model_args.chanels: unknown argument; did you mean channels?"),
        ({"model_args": {"channels": [16, 16, 16]}}, "teacher 1: .*expected the weights of this network, got others"),
        (
            {"model_args": {"channels": [16, 16], "num_class": 7}},
            "teacher 1: model_args.num_class: expected 4 as for the student, got 7",
        ),
        (
            {"model_args": {"channels": [16, 16], "num_point": 20, "graph": "graph.ucla.Graph"}},
            "num_point: expected 25, because the data has 25 joints, got 20",
        ),
    ],
)
def test_an_unusable_teacher_is_refused_before_training(folder, capsys, changes, words):
    assert re.search(words, refusal(folder, capsys, "--teacher", entry(folder, **changes)))


def test_a_teacher_of_another_stream_than_its_entry_names_is_refused(folder, capsys):
    weights = f"{folder}/teacher/bone/last.pt"
    words = f"teacher 1: {weights}: expected --modality bone as in the training, got joint"
    assert words in refusal(folder, capsys, "--teacher", entry(folder, weights=weights))


def test_an_untrained_teacher_is_refused(folder, capsys):
    content = torch.load(folder / "teacher/joint/last.pt", weights_only=True)
    content["model"]["fc.weight"].zero_()
    torch.save({"model": content["model"]}, folder / "untrained.pt")
    assert "expected a test top-1 above 1.5 times chance" in refusal(
        folder, capsys, "--teacher", entry(folder, weights=f"{folder}/untrained.pt")
    )


def test_the_cache_is_refused_where_clips_are_augmented(folder, capsys):
    flags = ("--teacher-cache", "true", "--train-feeder-args", "random_move=true")
    assert "expected the same clips in every epoch" in refusal(folder, capsys, *flags)


# Configurations of the students


ROOT = Path(__file__).resolve().parents[2]
STUDENTS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "config").glob("**/dke*.yaml"))


@pytest.mark.parametrize("file", STUDENTS)
def test_the_teacher_is_the_network_of_the_file_that_its_weights_come_from(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # which holds no weights
    config = load_config(ROOT / file, {"modality": "bone"})
    teachers, problems = teacher_configs(config), find_problems(config)
    assert len(teachers) == len(problems)  # none but the weights, which are not part of the project
    for number, (teacher, problem) in enumerate(zip(teachers, problems, strict=True), 1):
        assert problem.startswith(f"teacher {number}: weights: expected a file, got 'work_dir/")
        path = teacher.weights.removeprefix("work_dir/").removesuffix(f"/{teacher.modality}/last.pt")
        source = load_config(ROOT / "config" / f"{path}.yaml")
        assert Path(file).parent == Path("config") / Path(path).parent
        assert (teacher.model, teacher.model_args) == (source.model, source.model_args)
        assert teacher.train_feeder_args == source.train_feeder_args
        assert teacher.test_feeder_args == source.test_feeder_args


def test_the_streams_that_teach_one_student_are_fused_with_the_published_weights():
    config = load_config(ROOT / "config/NW-UCLA/dke7_streams.yaml")
    weights = dict(zip((t.modality for t in teacher_configs(config)), teacher_weights(config), strict=True))
    streams = ["joint", "bone", "joint_motion", "bone_motion"]
    assert weights == dict(zip(streams, fuse.preset_weights("ctrgcn", streams), strict=True))
    assert other_modalities(config) == ["bone", "bone_motion", "joint_motion"]


@pytest.mark.parametrize(
    ("name", "parameters", "entries"), [("dke9", 1_064_444, 744), ("dke7", 372_788, 574), ("dke_s8", 2_522_696, 298)]
)
def test_students_have_their_published_size(name, parameters, entries):
    config = load_config(ROOT / f"config/ntu/xsub/{name}.yaml")
    model = import_object(config.model)(**config.model_args)
    assert sum(p.numel() for p in model.parameters()) == parameters and len(model.state_dict()) == entries


def test_every_benchmark_has_every_stage():
    benchmarks = ("NW-UCLA", "ntu/xsub", "ntu/xview", "ntu120/xsub", "ntu120/xset")
    stages = ("dke7", "dke7_assistant", "dke9", "dke9_review", "dke_s8")
    files = [f"config/{benchmark}/{stage}.yaml" for benchmark in benchmarks for stage in stages]
    others = ["config/NW-UCLA/dke7_msg3d.yaml", "config/NW-UCLA/dke7_streams.yaml"]
    assert STUDENTS == sorted(files + others)


def test_commands_of_the_documentation_are_understood():
    lines = re.findall(r"^python main\.py (.*?)(?:#.*)?$", (ROOT / "docs/distillation.md").read_text(), re.M)
    assert len(lines) == 4
    for line in lines:
        options = parse(line.split())
        assert load_config(ROOT / options.pop("config"), options).model
