"""A checkpoint records what it was trained for; a test of something else is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from tests.model.zoo import narrow
from tests.torchlight import tiny
from torchlight.config.imports import import_object
from torchlight.config.options import Config
from torchlight.fusion.cli import main as fuse
from torchlight.training import build, checkpoint, identity
from torchlight.training.scores import read_scores

NAMES = ["wave", "kick", "nod", "jump", "sit"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("identity")


def renamed(folder, name, names, order=None, **facts):
    """A copy of the tiny store with class names, performers in the names of the clips, and labels in another order of
    the classes."""
    store = tiny.write_benchmark(folder / f"{name}.clips")
    manifest = json.loads((store / "manifest.json").read_text()) | {"class_names": names} | facts
    (store / "manifest.json").write_text(json.dumps(manifest))
    with np.load(store / "index.npz") as index:
        arrays = dict(index)
    arrays["name"] = np.array([f"s{i % 4}_{i}" for i in range(len(arrays["name"]))])
    if order is not None:
        arrays["label"] = np.array([order.index(label) for label in arrays["label"]])
    np.savez(store / "index.npz", **arrays)
    return store


@pytest.fixture(scope="module")
def trained(folder, experiment):
    store = renamed(folder, "trained", NAMES, recipe="ctrgcn", missing="hold")
    arguments = {"data_path": str(store), "window_size": 8}
    config = experiment(train_feeder_args=arguments, test_feeder_args=arguments)
    assert tiny.finish(tiny.start("--config", config, "--work-dir", folder / "run")) == 0
    return config, folder / "run/last.pt"


def run_test(main, trained, store, tmp_path, *words):
    config, weights = trained
    command = ("--config", config, "--phase", "test", "--weights", weights, "--work-dir", tmp_path / "t")
    code, out, err = main(*command, "--test-feeder-args.data_path", store, *words)
    return code, out, err


def top1(out):
    return next(line for line in out.splitlines() if "top-1" in line).partition("top-1 ")[2]


def test_a_checkpoint_contains_its_identity(trained):
    clips = checkpoint.load(trained[1])["clips"]
    assert clips["class_names"] == NAMES and clips["recipe"] == "ctrgcn" and clips["body"]["name"] == "ucla"
    assert clips["num_class"] == 5 and len(clips["lengths"]) == 3


def test_data_with_the_classes_in_another_order_is_refused_and_mapped_by_name_on_request(
    trained, folder, main, tmp_path
):
    order = [2, 0, 1, 4, 3]
    store = renamed(folder, "reordered", [NAMES[i] for i in order], order)
    code, _, err = run_test(main, trained, store, tmp_path)
    assert code == 2 and "got 'nod' instead of 'wave' as class 0; --map-classes true" in err
    code, mapped, err = run_test(main, trained, store, tmp_path, "--map-classes", "true")
    assert code == 0, err
    _, straight, _ = run_test(main, trained, folder / "trained.clips", tmp_path)
    assert top1(mapped) == top1(straight)


def test_data_with_other_class_names_is_refused(trained, folder, main, tmp_path):
    store = renamed(folder, "others", [*NAMES[:4], "sitt"])
    code, _, err = run_test(main, trained, store, tmp_path, "--map-classes", "true")
    assert code == 2 and "got 'sitt'; did you mean sit?" in err


@pytest.mark.parametrize("name", ["model.stgcn.TwoStream", "model.blockgcn.Model", "model.contrastive.ACLNet"])
def test_the_classes_of_every_network_are_reordered_wherever_it_has_them(name, monkeypatch):
    narrow(name.split(".")[1], monkeypatch)
    args = {"num_class": 5, "num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph"}
    args |= {"channels": [16, 16]} if "ACLNet" in name else {}
    config = Config(model=name, model_args=args)
    model = import_object(name)(**args).eval()
    for value in model.state_dict().values():
        if value.shape[:1] == (5,) and value.is_floating_point():
            value.normal_()  # biases are zero at the beginning
    memory = model.state_dict().get("cls_head.inter_loss.memory")
    before = None if memory is None else memory.clone()
    order, clip = [3, 0, 4, 1, 2], torch.randn(2, 3, 16, 20, 1)
    with torch.no_grad():
        expected = model(clip)[:, order]
        identity.reorder_classes(model, build.class_axes(config, model), order)
        torch.testing.assert_close(model(clip), expected)
    assert before is None or torch.equal(model.state_dict()["cls_head.inter_loss.memory"], before[:, order])


def some_classes(folder, name, kept):
    """A copy of the tiny store with the clips of some classes only, numbered anew."""
    store = renamed(folder, name, [NAMES[i] for i in kept], num_class=len(kept))
    with np.load(store / "index.npz") as index:
        arrays = dict(index)
    for part in ("split/xview/train", "split/xview/test"):
        arrays[part] = np.array([i for i in arrays[part] if arrays["label"][i] in kept])
    arrays["label"] = np.array([kept.index(label) if label in kept else 0 for label in arrays["label"]])
    np.savez(store / "index.npz", **arrays)
    return store


def test_data_with_some_of_the_classes_is_tested_over_all_classes_on_request(trained, folder, main, tmp_path):
    store = some_classes(folder, "some", [3, 1])
    code, _, err = run_test(main, trained, store, tmp_path)
    assert code == 2 and "has 2 classes, got 5; --map-classes true tests some of the classes, by their names" in err
    code, out, err = run_test(main, trained, store, tmp_path, "--map-classes", "true", "--save-score", "true")
    assert code == 0 and "has 2 of the 5 classes; accuracies are over all 5" in out, err
    assert "has 2 of the 5 classes" in (tmp_path / "t/log.txt").read_text()
    found = read_scores(tmp_path / "t/epoch1_test_score.pkl")
    shutil.copy(trained[1].parent / "config.yaml", tmp_path / "t")
    assert fuse([f"--joint-dir={tmp_path / 't'}", f"--data={store}"]) == 0  # the scores of five classes
    assert run_test(main, trained, folder / "trained.clips", tmp_path, "--save-score", "true")[0] == 0
    straight = read_scores(tmp_path / "t/epoch1_test_score.pkl")
    assert 0 < len(found) < len(straight)
    for name, row in found.items():
        np.testing.assert_array_equal(row, straight[name][[3, 1, 0, 2, 4]])


def test_a_network_has_more_classes_than_the_labels_of_data_that_do_not_state_their_number(
    experiment, main, tmp_path, no_class_tables
):
    store = tiny.write_benchmark(tmp_path / "counted.clips")
    manifest = json.loads((store / "manifest.json").read_text())
    del manifest["num_class"]
    (store / "manifest.json").write_text(json.dumps(manifest))
    arguments = {"data_path": str(store), "window_size": 8}
    network = tiny.options(store)["model_args"] | {"num_class": 7}
    changes = {"model_args": network, "objective_args": {"class_weight": "balanced"}, "num_epoch": 1}
    config = experiment(train_feeder_args=arguments, test_feeder_args=arguments, **changes)
    run = tmp_path / "run"
    code, _, err = main("--config", config, "--work-dir", run)
    assert code == 0, err
    assert checkpoint.load(run / "last.pt")["clips"]["num_class"] == 7
    test = ("--config", config, "--phase", "test", "--weights", run / "last.pt", "--work-dir", run)
    assert main(*test, "--save-score", "true")[0] == 0 and fuse([f"--joint-dir={run}"]) == 0
    assert fuse([f"--joint-dir={run}", f"--data={store}"]) == 0


def test_the_tables_of_some_classes_have_the_names_of_all(trained, folder, main, tmp_path):
    store = some_classes(folder, "two", [3, 1])
    assert run_test(main, trained, store, tmp_path, "--map-classes", "true")[0] == 0
    rows = [line.split(",") for line in (tmp_path / "t/each_class_acc.csv").read_text().splitlines()[1:]]
    assert [row[1] for row in rows] == ["jump", "kick", "wave", "nod", "sit"]
    assert [int(row[2]) > 0 for row in rows] == [True, True, False, False, False]


def test_classes_are_not_mapped_where_the_names_are_unknown(trained, folder, main, tmp_path):
    config, weights = trained
    checkpoint.save(tmp_path / "flat.pt", checkpoint.load(weights)["model"])
    store = some_classes(folder, "unnamed", [3, 1])
    code, _, err = run_test(main, (config, tmp_path / "flat.pt"), store, tmp_path, "--map-classes", "true")
    assert code == 2 and "expected class names for --map-classes, got none in the file" in err


def test_a_store_that_has_changed_since_the_training_gives_a_warning_and_is_not_refused(
    trained, folder, main, tmp_path
):
    assert "SHA-256 differs" not in run_test(main, trained, folder / "trained.clips", tmp_path)[1]
    store = renamed(folder, "newer", NAMES, recipe="ctrgcn", sha256={"frames.npy": "4567"})
    code, out, err = run_test(main, trained, store, tmp_path)
    assert code == 0 and "the data is not the data of the training: its SHA-256 differs" in out, err
    assert "SHA-256 differs" in (tmp_path / "t/log.txt").read_text()


def test_data_of_another_preparation_is_refused(trained, folder, main, tmp_path):
    store = renamed(folder, "agcn", NAMES, recipe="agcn")
    code, _, err = run_test(main, trained, store, tmp_path)
    assert code == 2 and "expected data prepared by the recipe 'ctrgcn'" in err
    store = renamed(folder, "zero", NAMES, recipe="ctrgcn", missing="zero")
    code, _, err = run_test(main, trained, store, tmp_path)
    assert code == 2 and "expected data prepared with --missing 'hold' as in the training, got 'zero'" in err


def test_another_stream_is_refused(trained, folder, main, tmp_path):
    code, _, err = run_test(main, trained, folder / "trained.clips", tmp_path, "--modality", "bone")
    assert code == 2 and "expected --modality joint as in the training, got bone" in err


def test_held_out_clips_that_the_training_contained_are_refused(trained, folder, main, tmp_path):
    store = folder / "trained.clips"
    code, _, err = run_test(main, trained, store, tmp_path, "--hold-out", "s1")
    assert code == 2 and "last.pt: expected weights of a training without the clips of s1 (hold_out)" in err
    config, weights = trained
    content = checkpoint.load(weights)
    options = yaml.safe_load(content["config"])
    options["train_feeder_args"]["split"] = "another"
    checkpoint.save(tmp_path / "split.pt", content | {"config": yaml.safe_dump(options)})
    code, out, err = run_test(main, (config, tmp_path / "split.pt"), store, tmp_path, "--hold-out", "s1")
    assert code == 0 and "the clips of s1 may have been training clips of" in out, err
    content["config"] = content["config"].replace("hold_out: []", "hold_out: [s1, s2]")
    checkpoint.save(tmp_path / "without.pt", content)
    code, _, err = run_test(main, (config, tmp_path / "without.pt"), store, tmp_path, "--hold-out", "s1")
    assert code == 0, err
    del content["clips"]["sha256"]
    content["config"] = content["config"].replace("[s1, s2]", "[]").replace(str(store), "elsewhere.clips")
    checkpoint.save(tmp_path / "unknown.pt", content)
    code, out, err = run_test(main, (config, tmp_path / "unknown.pt"), store, tmp_path, "--hold-out", "s1")
    assert code == 0 and "the clips of s1 may have been training clips of" in out, err


def test_fine_tuning_warns_of_held_out_clips_that_the_training_of_the_file_contained(trained, main, tmp_path):
    command = ("--config", trained[0], "--finetune", trained[1], "--num-epoch", "1", "--work-dir", tmp_path / "run")
    code, out, err = main(*command, "--hold-out", "s1")
    expected = f"{trained[1]}: expected weights of a training without the clips of s1 (hold_out)"
    assert code == 0 and expected in out, err


@pytest.mark.parametrize(
    ("args", "trained", "given", "found"),
    [
        ({}, {}, {"graph_args": {"labeling_mode": "stgcn_spatial"}}, 1),  # a buffer that is not in the file
        ({}, {}, {"graph_args": {"labeling_mode": "spatial"}, "kernel_size": 9}, 0),  # the defaults, spelled out
        ({"name": "ctrgcn"}, {}, {"relu_after_tcn": True}, 1),
        ({"name": "ctrgcn"}, {}, {"graph_args": {"labeling_mode": "stgcn_spatial"}}, 0),  # learned, in the file
        ({"name": "ctrgcn"}, {"drop_out": 0.3, "kernels": "torch"}, {"channels": (8, 8)}, 0),
        ({"name": "ctrgcn"}, {"of_another_version": 1}, {}, 0),
    ],
)
def test_a_network_that_differs_from_that_of_the_training_is_found(args, trained, given, found):
    name = f"model.{args.get('name', 'agcn')}.Model"
    args = {"num_class": 5, "num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph", "channels": [8, 8]}
    config = Config(model=name, model_args=args | given)
    model = build.build_model(config, import_object(name))
    problems = identity.network_problems({"model": name, "model_args": args | trained}, model, config)
    assert len(problems) == found and all(key in problem for problem in problems for key in given)


def test_a_test_with_other_arguments_of_the_network_is_refused(trained, folder, main, tmp_path):
    store = folder / "trained.clips"
    code, _, err = run_test(main, trained, store, tmp_path, "--model-args.relu_after_tcn", "true")
    assert code == 2 and "model_args: expected relu_after_tcn False as in the training, got True" in err


def test_a_training_from_other_weights_warns_and_records_them(trained, folder, main, tmp_path):
    config, weights = trained
    run = tmp_path / "run"
    code, out, err = main("--config", config, "--weights", weights, "--work-dir", run, "--modality", "bone")
    assert code == 0 and "initial weights: expected --modality joint" in out and f"initial weights: {weights}" in out, (
        err
    )
    assert checkpoint.load(run / "last.pt")["initial_weights"]["file"] == str(weights)
    assert json.loads((run / "environment.json").read_text())["initial_weights"]["file"] == str(weights)


def test_files_without_identity_are_tested_as_before(trained, folder, main, tmp_path):
    config, weights = trained
    content = checkpoint.load(weights)
    checkpoint.save(tmp_path / "flat.pt", content["model"])
    store = renamed(folder, "unknown", [*NAMES[:4], "other"])
    code, _, err = run_test(main, (config, tmp_path / "flat.pt"), store, tmp_path)
    assert code == 0, err
