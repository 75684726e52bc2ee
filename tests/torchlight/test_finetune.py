"""A training may start from any checkpoint: what fits is kept, joints go through the map between bodies, and the
classifier is new."""

import shutil

import numpy as np
import pytest
import torch
import yaml

from graph.skeleton import find_skeleton
from model import ctrgcn, stgcnpp
from model.published import to_published
from tests.feeders.synthetic import write_store
from tests.torchlight import tiny
from torchlight.config.imports import import_object
from torchlight.config.load import load_config
from torchlight.config.options import Config
from torchlight.training import build, checkpoint, finetune
from torchlight.training.run_dir import default_work_dir
from torchlight.zoo import catalog

STILL = {"base_lr": 0.0, "num_epoch": 1, "step": []}  # nothing is learned


def rows(run) -> dict[str, finetune.Row]:
    return {row.name: row for row in finetune.read_rows(run / "finetune.csv")}


@pytest.fixture(scope="module")
def nine(tmp_path_factory, trained):
    """The checkpoint of `trained` with nine classes instead of five."""
    content = checkpoint.load(trained / "last.pt")
    content["model"] |= {"fc.weight": torch.zeros(9, 8), "fc.bias": torch.zeros(9)}
    path = tmp_path_factory.mktemp("nine") / "nine.pt"
    torch.save(content, path)
    return path


@pytest.fixture
def store_of(tmp_path):
    """A function that writes a store of twelve clips of another body."""

    def write(skeleton: str, channels: int = 3):
        V = find_skeleton(skeleton).num_joint
        draw = np.random.default_rng(0)
        clips = [draw.normal(size=(1, 12, V, channels)).astype(np.float32) for _ in range(12)]
        splits = {"own": {"train": np.arange(8), "test": np.arange(8, 12)}}
        facts = {"num_class": 3, "skeleton": skeleton, "class_names": ["a", "b", "c"]}
        return write_store(tmp_path / f"{V}.clips", clips, np.arange(12) % 3, [(0,)] * 12, splits, **facts)

    return write


def own_body(store, graph, V, **changes) -> dict:
    """Options for such a store, of a very small CTR-GCN unless changed."""
    arguments = {"data_path": str(store), "split": "own", "window_size": 8}
    network = {"num_class": 3, "num_point": V, "num_person": 1, "channels": [8, 8], **graph}
    options = {"feeder": "feeders.feeder_ntu.Feeder", "model_args": network, "batch_size": 4}
    return options | {"train_feeder_args": arguments, "test_feeder_args": arguments} | changes


def test_everything_but_the_classifier_is_kept_and_the_run_tests_and_predicts_by_itself(
    tmp_path, experiment, trained, nine, main
):
    run, config = tmp_path / "run", experiment(**STILL)
    code, out, err = main("--config", config, "--work-dir", run, "--finetune", nine)
    assert code == 0 and "new (fc.weight, fc.bias); finetune.csv lists them" in out, err
    old, new = tiny.weights(trained), tiny.weights(run)
    counted = ("running_mean", "running_var", "num_batches_tracked")
    assert all(torch.equal(old[n], new[n]) for n in new if not n.startswith("fc.") and not n.endswith(counted))
    found = rows(run)
    assert found.keys() == new.keys() and {n for n, row in found.items() if row.what == "new"} == {
        "fc.weight",
        "fc.bias",
    }
    assert found["l1.gcn1.PA"] == ("l1.gcn1.PA", "3x20x20", "kept", "")
    assert "kept    3x20x20              l1.gcn1.PA" in (run / "log.txt").read_text() and "3x20x20" not in out
    origin = checkpoint.load(run / "last.pt")["initial_weights"]
    assert (origin["file"], origin["kept"], origin["new"]) == (str(nine), len(new) - 2, 2)
    last = ("--config", run / "config.yaml", "--weights", run / "last.pt", "--work-dir", tmp_path / "t")
    assert main(*last, "--phase", "test")[0] == 0


@pytest.mark.parametrize("factor", [0.5, 0])
def test_the_backbone_learns_more_slowly_or_not_at_all(tmp_path, experiment, nine, main, factor):
    run = tmp_path / "run"
    code, _, err = main("--config", experiment(), "--work-dir", run, "--finetune", nine, "--backbone-lr", factor)
    assert code == 0, err
    content = checkpoint.load(run / "last.pt")
    old, new, groups = checkpoint.load(nine)["model"], content["model"], content["optimizer"]["param_groups"]
    changed = {
        name for name, value in new.items() if value.shape != old[name].shape or not torch.equal(old[name], value)
    }
    if factor:
        assert [group["lr"] for group in groups] == [0.05, 0.025] and len(groups[0]["params"]) == 2
        assert "l1.gcn1.PA" in changed and "data_bn.running_mean" in changed
    else:
        assert changed == {"fc.weight", "fc.bias"} and len(groups) == 1


@pytest.mark.parametrize("factor", [0.1, 0])
def test_a_resumed_fine_tuning_equals_an_uninterrupted_one_without_the_file(tmp_path, experiment, nine, main, factor):
    file = tmp_path / "copy.pt"
    shutil.copy(nine, file)
    words = ("--config", experiment(**tiny.RICH), "--finetune", file, "--backbone-lr", factor)
    assert main(*words, "--work-dir", tmp_path / "straight")[0] == 0
    assert main(*words, "--work-dir", tmp_path / "run", "--num-epoch", 1)[0] == 0
    file.unlink()
    code, _, err = main(*words, "--work-dir", tmp_path / "run", "--resume", "true")
    assert code == 0 and tiny.same_run(tmp_path / "straight", tmp_path / "run"), err
    one, other = (checkpoint.load(tmp_path / name / "last.pt")["initial_weights"] for name in ("straight", "run"))
    assert one == other and one["file"] == str(file)
    code, _, err = main(*words, "--work-dir", tmp_path / "new")
    assert code == 2 and "copy.pt" in err and not (tmp_path / "new").exists()


def test_several_processes_start_with_equal_weights(tmp_path, experiment, nine):
    words = ("--config", experiment(), "--work-dir", tmp_path / "run", "--finetune", nine, "--backbone-lr", 0)
    assert tiny.finish(*tiny.start_ranks(2, *words)) == 0
    old, new = checkpoint.load(nine)["model"], tiny.weights(tmp_path / "run")
    assert all(torch.equal(old[name], value) for name, value in new.items() if not name.startswith("fc."))


def test_a_network_of_25_joints_is_tuned_on_33_joints_of_mediapipe(tmp_path, experiment, store_of, main):
    kinect = ctrgcn.Model(5, 25, 2, "graph.ntu_rgb_d.Graph", channels=[8, 8])
    with torch.no_grad():
        kinect.l1.gcn1.PA[0, 20, 8] += 0.5
        kinect.data_bn.running_mean.copy_(torch.arange(150))
    torch.save(kinect.state_dict(), tmp_path / "flat.pt")
    graph = {"graph": "graph.custom.Graph", "graph_args": {"skeleton": "mediapipe_pose_33"}}
    config = experiment(**own_body(store_of("mediapipe_pose_33"), graph, 33), **STILL)
    words = ("--config", config, "--finetune", tmp_path / "flat.pt")
    code, out, err = main(*words, "--work-dir", tmp_path / "unknown")
    assert code == 0 and "6 tables of joints are new; name it with --finetune-body" in out, err
    code, out, err = main(*words, "--work-dir", tmp_path / "run", "--finetune-body", "graph.ntu_rgb_d")
    assert code == 0 and "6 mapped (the reverse of the map from mediapipe_pose_33 to kinect_v2_25" in out, err
    found = rows(tmp_path / "run")
    assert {name for name, row in found.items() if row.what == "mapped"} == {
        "l1.gcn1.PA",
        "l2.gcn1.PA",
        *(f"data_bn.{key}" for key in ("weight", "bias", "running_mean", "running_var")),
    }
    assert sum(row.what == "new" for row in found.values()) == 2
    code, _, err = main(*words, "--work-dir", tmp_path / "hand", "--finetune-body", "graph.hand")
    assert code == 0 and rows(tmp_path / "hand")["l1.gcn1.PA"].why.startswith("3x25x25 in the file; no map leads from")


def test_a_published_hand_network_is_tuned_on_own_hands_with_the_recipe_by_one_command(
    tmp_path, experiment, store_of, main
):
    hand = {"graph": "graph.hand.Graph", "graph_args": {"labeling_mode": "spatial"}}
    network = {"channels": [12, 12], "in_channels": 2} | hand
    source = stgcnpp.Model(40, 21, 1, **network)
    torch.save(source.state_dict(), tmp_path / "hand.pth")
    config = experiment(model="model.stgcnpp.Model", **own_body(store_of("graph.hand", 2), network, 21))
    words = ("--config", config, "config/finetune.yaml", "--work-dir", tmp_path / "run", "--num-epoch", 2)
    code, out, err = main(*words, "--finetune", tmp_path / "hand.pth", "--backbone-lr", 0.1)
    assert code == 0 and "new (cls_head.fc_cls.weight, cls_head.fc_cls.bias)" in out, err
    assert "mapped" not in {row.what for row in rows(tmp_path / "run").values()}
    saved = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert (saved["lr_schedule"], saved["train_feeder_args"]["repeat"], saved["num_epoch"]) == ("cosine", 4, 2)


class Nothing:
    """A feeder that describes nothing; the body of the data is that of the network."""


def load_file(path, name, **model_args):
    """A network and the result of `finetune.load`."""
    config = Config(model=f"model.{name}.Model", model_args={"num_class": 3, "num_person": 2, **model_args})
    model = build.build_model(config, import_object(config.model))
    return model, finetune.load(config, model, Nothing(), str(path))


def write_published(path, name, **args):
    """The weights of a network under PYSKL's names; returns the network."""
    args = {"num_class": 5, "num_person": 2, **args}
    model = import_object(f"model.{name}.Model")(**args)
    torch.save(to_published(model.state_dict(), f"model.{name}.Model", args), path)
    return model


def test_a_body_that_is_guessed_from_the_number_of_joints_is_used_only_if_the_number_differs(tmp_path):
    ucla = {"num_point": 20, "graph": "graph.ucla.Graph", "channels": [8]}
    write_published(tmp_path / "own.pth", "stgcnpp", **ucla)  # PYSKL's bodies of 20 joints are COCO's
    _, start = load_file(tmp_path / "own.pth", "stgcnpp", **ucla)
    assert {row.name for row in start.rows if row.what != "kept"} == {"cls_head.fc_cls.weight", "cls_head.fc_cls.bias"}
    assert "taken for that of the data; if it is graph.coco20, give --finetune-body graph.coco20" in start.notes[1]
    _, start = load_file(tmp_path / "own.pth", "stgcnpp", num_point=17, graph="graph.coco.Graph", channels=[8])
    assert "is taken for graph.coco20 because of its 20 joints; name another with --finetune-body" in start.notes[1]


def test_the_body_of_an_entry_of_the_zoo_is_that_of_the_entry():
    path = catalog.entries()["skeletonagent_uav-human_csv1_2d_j"].file
    args = {"num_class": 155, "num_point": 17, "num_person": 2, "graph": "graph.uav.Graph", "channels": [8]}
    state = import_object("model.dgstgcn.Model")(**args).state_dict()
    origin = finetune.find_origin({}, state, str(path), Config(model="model.dgstgcn.Model"), None)
    assert origin.body == find_skeleton("graph.uav") and origin.model_args["graph_args"] == {"skeleton": origin.body}


def test_learned_changes_of_published_weights_are_separated_from_the_graph_that_they_were_trained_with(tmp_path):
    scales = {"graph_args": {"labeling_mode": "binary"}, "num_gcn_scales": 2, "num_g3d_scales": 1}
    tips = {"num_point": 25, "graph": "graph.ntu_rgb_d_tips.Graph"}  # PYSKL's
    source = write_published(tmp_path / "msg3d.pth", "msg3d", **tips, **scales)
    model, start = load_file(tmp_path / "msg3d.pth", "msg3d", **tips, **scales)
    one, other = (network.sgcn1[0].A + network.sgcn1[0].A_res for network in (source, model))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    partition = {"graph_args": {"labeling_mode": "stgcn_spatial"}}
    write_published(tmp_path / "stgcn.pth", "stgcn", **tips, **partition)
    ucla = {"num_point": 20, "graph": "graph.ucla.Graph", **partition}
    model, start = load_file(tmp_path / "stgcn.pth", "stgcn", **ucla)
    untrained = import_object("model.stgcn.Model")(num_class=3, num_person=2, **ucla)
    assert next(row for row in start.rows if row.name == "A").what == "mapped"
    torch.testing.assert_close(model.A, untrained.A, rtol=0, atol=1e-6)


def test_the_joints_that_ntu_and_coco_share_are_kept_from_one_to_the_other(tmp_path, monkeypatch):
    args = {"num_point": 13, "num_person": 2, "depths": [1, 1], "base_channels": 16}
    source = import_object("model.tsgcnext.Model")(num_class=5, graph="graph.ntu_rgb_d.Graph", unify="ntu", **args)
    torch.save(source.state_dict(), tmp_path / "ts.pt")
    config = Config(model="model.tsgcnext.Model", finetune_body="graph.ntu_rgb_d")
    config.model_args = {"num_class": 3, "graph": "graph.coco.Graph", "unify": "coco", **args}
    model = build.build_model(config, import_object(config.model))
    monkeypatch.setattr(finetune, "body_of", lambda *_: find_skeleton("graph.coco"))
    start = finetune.load(config, model, Nothing(), str(tmp_path / "ts.pt"))
    assert {row.name for row in start.rows if row.what != "kept"} == {"fc.weight", "fc.bias"}
    assert torch.equal(model.l2.PA, source.l2.PA) and "the 13 joints of the network are taken for" in start.notes[1]


def test_another_network_and_other_files_are_refused(tmp_path, experiment, trained, store, main):
    args = {"num_class": 5, "num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph", "channels": [8, 8]}
    config = experiment(model="model.stgcnpp.Model", model_args=args)
    text = tmp_path / "text.pt"
    text.write_text("no checkpoint")
    torch.save(stgcnpp.Model(**args).state_dict(), tmp_path / "other.pth")
    for file, message in (
        (trained / "last.pt", "0% of its values fit; the file contains model: model.ctrgcn.Model, model_args: {"),
        (text, "text.pt: not a whole file of plain tensors"),
        (tmp_path / "none.pt", "none.pt: cannot be read"),
    ):
        code, _, err = main("--config", config, "--work-dir", tmp_path / "run", "--finetune", file)
        assert code == 2 and message in err and err.count("\n") == 1 and not (tmp_path / "run").exists(), err
    code, _, err = main("--config", experiment(), "--work-dir", tmp_path / "run", "--finetune", tmp_path / "other.pth")
    assert code == 2 and "the file contains" in err and "model: model.stgcnpp.Model" in err, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--finetune", "a.pt", "--weights", "a.pt"), "finetune and weights: expected one of them, got both"),
        (("--backbone-lr", "0.1"), "backbone_lr, finetune_body: expected --finetune as well, got none"),
        (
            ("--finetune", "a.pt", "--backbone-lr", "0", "--freeze", "PA", "--freeze-epoch", "1"),
            "backbone_lr: expected above 0 with freeze",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(experiment, main, tmp_path, words, message):
    code, _, err = main("--config", experiment(), "--work-dir", tmp_path / "run", *words)
    assert code == 2 and message in err


def test_later_files_of_options_override_earlier_ones(tmp_path):
    for name, text in {
        "a": "base_lr: 1.0\nnum_epoch: 3\n",
        "b": "base_lr: 2.0\n",
        "c": "base: b.yaml\nseed: 4\n",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    config = load_config([tmp_path / "a.yaml", tmp_path / "c.yaml"])
    assert (config.base_lr, config.num_epoch, config.seed) == (2.0, 3, 4)
    assert config.config == str(tmp_path / "a.yaml") and config.origins["base_lr"] == str(tmp_path / "b.yaml")


@pytest.mark.parametrize("name", ["NW-UCLA", "ntu/xsub", "kinetics"])
def test_the_recipe_overrides_the_files_of_the_benchmarks(name):
    config = load_config([f"config/{name}/ctrgcn.yaml", "config/finetune.yaml"])
    build.preflight(config, ("feeder", "model", "objective"))
    assert (config.lr_schedule, config.step, config.train_feeder_args["repeat"]) == ("cosine", [], 4)


def test_a_fine_tuning_has_a_folder_of_its_own():
    config = load_config("config/NW-UCLA/ctrgcn.yaml", {"finetune": "a.pt"})
    assert str(default_work_dir(config)) == "work_dir/NW-UCLA/ctrgcn/joint_finetuned"
