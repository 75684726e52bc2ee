"""Files of PYSKL, mmaction2 and their descendants through the command line, in the forms that these write."""

import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
import torch

from model import contrastive
from model.published import open_checkpoint
from tests.feeders.synthetic import random_clips, write_store
from tests.model.test_published import EXPECTED, KEYS, published_state
from tests.torchlight.test_weights import Bomb
from torchlight.training import checkpoint, scores

NAMES = [name for name in KEYS if not name.endswith("_k400")]


def meta(**more):
    """What mmcv writes beside the weights."""
    return {"env_info": "sys.platform: linux", "seed": 42, "epoch": 16, "iter": 100, "time": "now"} | more


WRAPPINGS = {
    "pyskl, best": lambda state: {
        "meta": meta(hook_msgs={"best_score": np.float64(0.9), "best_ckpt": "best.pth"}),
        "state_dict": state,
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(1)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    },
    "pyskl, last epoch": lambda state: {"meta": meta(config="model = dict()"), "state_dict": state, "optimizer": {}},
    "mmaction2": lambda state: {"meta": meta(cfg="", dataset_meta={}), "state_dict": state},
    "flat": lambda state: state,
    "DistributedDataParallel": lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    "model_state_dict": lambda state: {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {"state": {}}},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    arrays, persons = random_clips([9, 16, 20], 25)
    splits = {"xsub": {"train": np.arange(3), "test": np.arange(3)}}
    folder = tmp_path_factory.mktemp("data") / "ntu.clips"
    return write_store(folder, arrays, [0, 3, 5], persons, splits, num_class=60, skeleton="graph.ntu_rgb_d")


@pytest.fixture
def test_phase(tmp_path, experiment, clips, main, no_class_tables):
    """Logits of a file by the command line."""

    def call(weights, network, model_args, *argv, expected=0, run=None):
        run = run or tmp_path / "run"
        feeder = {"data_path": str(clips), "split": "xsub", "window_size": 8}
        file = experiment(
            feeder="feeders.feeder_pyskl.Feeder",
            train_feeder_args=feeder,
            test_feeder_args=feeder,
            model=f"model.{network}.Model",
            model_args={"num_class": 60, "num_point": 25, "num_person": 2, "graph": "graph.ntu_rgb_d.Graph"}
            | model_args,
        )
        flags = ("--phase", "test", "--weights", weights, "--save-score", "true", *argv)
        code, out, err = main("--config", file, "--work-dir", run, *flags)
        assert code == expected, err
        return err if expected else (scores.read_scores(run / scores.SCORE_FILE), out)

    return call


def as_written(name: str) -> OrderedDict:
    """A state dict as PyTorch makes it, with the attribute that survives pickling."""
    state = OrderedDict(published_state(name))
    state._metadata = OrderedDict({"": {"version": 1}})
    return state


@pytest.mark.parametrize("name", NAMES)
def test_a_published_file_gives_the_logits_of_its_converted_weights(tmp_path, test_phase, name):
    state = as_written(name)
    wrapping = list(WRAPPINGS.values())[NAMES.index(name) % len(WRAPPINGS)]
    torch.save(wrapping(state), tmp_path / "j.pth")
    found = open_checkpoint(state)
    torch.save(found.state, tmp_path / "converted.pt")
    network, special = EXPECTED[name]
    args = {key: value for key, value in found.model_args.items() if key in special or key == "graph_args"}
    logits, out = test_phase(tmp_path / "j.pth", network, args)
    expected, _ = test_phase(tmp_path / "converted.pt", network, args)
    assert logits.keys() == expected.keys() and all(np.array_equal(row, expected[key]) for key, row in logits.items())
    assert (found.family in out) == (set(state) != set(found.state))
    if name.startswith("firework8"):
        line = next(line for line in out.splitlines() if "only used in training" in line)
        assert all(".".join(key.split(".")[:2]) in line for key in found.dropped)


def test_heads_of_an_objective_are_loaded_by_the_network_that_has_them(tmp_path):
    state = as_written("firework8_protogcn")
    args = open_checkpoint(state).model_args
    torch.save(state, tmp_path / "j.pth")
    model = contrastive.ProtoGCN(**args)
    checkpoint.load_weights(model, tmp_path / "j.pth", ignore=["cls_head.csc_loss.memory"], model_args=args)
    loaded, heads = model.state_dict(), open_checkpoint(state).dropped
    assert heads and all(torch.equal(loaded[name], state[name]) for name in heads if name in loaded)


def test_a_file_of_another_network_names_the_one_that_it_fits(tmp_path, test_phase):
    torch.save({"state_dict": as_written("pyskl_ctrgcn"), "meta": meta()}, tmp_path / "j.pth")
    err = test_phase(tmp_path / "j.pth", "stgcn", {}, expected=2)
    assert "the file contains PYSKL CTR-GCN, which fits model: model.ctrgcn.Model, model_args: {num_class: 60" in err
    assert "relu_after_tcn: true" in err and err.count("\n") == 1
    err = test_phase(tmp_path / "j.pth", "ctrgcn", {}, expected=2)
    assert "model_args: relu_after_tcn: expected the arguments of the weights" in err
    err = test_phase(tmp_path / "j.pth", "ctrgcn", {"relu_after_tcn": True, "num_person": 1}, expected=2)
    assert "num_person: expected 2" in err or "num_person: 2" in err


def test_a_wide_network_is_recognized_by_its_channels(tmp_path, test_phase):
    torch.save(as_written("firework8_skeletonagent"), tmp_path / "j.pth")
    err = test_phase(tmp_path / "j.pth", "dgstgcn", {}, expected=2)
    assert "channels, joint_embedding: expected the arguments of the weights" in err


def test_unknown_entries_of_a_wide_network_are_named_in_a_warning(tmp_path, test_phase):
    state = as_written("firework8_protogcn") | {"cls_head.other.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "j.pth")
    _, out = test_phase(tmp_path / "j.pth", *EXPECTED["firework8_protogcn"])
    assert "not loaded, unknown: cls_head.other.weight" in out


def test_an_unknown_entry_of_another_family_is_refused(tmp_path, test_phase):
    torch.save(as_written("pyskl_aagcn") | {"backbone.extra": torch.zeros(1)}, tmp_path / "j.pth")
    assert "1 unknown (first: extra)" in test_phase(tmp_path / "j.pth", "aagcn", {}, expected=2)


def test_training_starts_from_a_published_file_with_a_new_classifier(
    tmp_path, experiment, clips, main, no_class_tables
):
    torch.save({"state_dict": as_written("pyskl_aagcn"), "meta": meta()}, tmp_path / "j.pth")
    feeder = {"data_path": str(clips), "split": "xsub", "window_size": 8}
    file = experiment(
        feeder="feeders.feeder_pyskl.Feeder",
        train_feeder_args=feeder,
        test_feeder_args=feeder,
        model="model.aagcn.Model",
        model_args={"num_class": 60, "num_point": 25, "num_person": 2, "graph": "graph.ntu_rgb_d.Graph"},
        num_epoch=1,
        batch_size=2,
        base_lr=0.0,
    )
    argv = ("--weights", tmp_path / "j.pth", "--ignore-weights", "fc")
    assert main("--config", file, "--work-dir", tmp_path / "run", *argv)[0] == 0
    state, found = published_state("pyskl_aagcn"), checkpoint.load(tmp_path / "run" / "last.pt")["model"]
    assert torch.equal(found["l3.gcn1.PA"], state["backbone.gcn.2.gcn.A"])
    assert not torch.equal(found["fc.weight"], state["cls_head.fc_cls.weight"])


@pytest.mark.parametrize("old", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("form", WRAPPINGS)
def test_a_file_with_code_is_refused_and_no_code_runs(tmp_path, test_phase, form, old):
    content = WRAPPINGS[form](as_written("pyskl_stgcn"))
    content.get("meta", content)["hook_msgs"] = Bomb(tmp_path / "trace")
    torch.save(content, tmp_path / "j.pth", _use_new_zipfile_serialization=not old)
    err = test_phase(tmp_path / "j.pth", "stgcn", {}, expected=2)
    assert "nothing in it was run" in err and not (tmp_path / "trace").exists()
    assert not (tmp_path / "run").exists()


def test_a_file_of_an_own_training_with_mmaction2_is_refused_with_the_command_that_helps(
    tmp_path, test_phase, monkeypatch
):
    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = type("HistoryBuffer", (), {"__module__": module.__name__})
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    content = WRAPPINGS["mmaction2"](as_written("mmaction2-1.x_stgcn"))
    torch.save(content | {"message_hub": {"log_scalars": {"loss": module.HistoryBuffer()}}}, tmp_path / "j.pth")
    err = test_phase(tmp_path / "j.pth", "stgcn", {}, expected=2)
    assert "HistoryBuffer" in err and "tools/deployment/publish_model.py IN.pth OUT.pth" in err


@pytest.mark.parametrize("form", WRAPPINGS)
def test_a_damaged_file_of_any_form_is_refused(tmp_path, test_phase, form):
    torch.save(WRAPPINGS[form](as_written("pyskl_stgcn")), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "j.pth").write_bytes(whole[: len(whole) // 3])
    assert "not a whole file of plain tensors" in test_phase(tmp_path / "j.pth", "stgcn", {}, expected=2)
    state = as_written("pyskl_stgcn")
    del state["backbone.gcn.4.gcn.PA"]
    torch.save(WRAPPINGS[form](state), tmp_path / "j.pth")
    assert "1 entries missing (first: edge_importance.4)" in test_phase(tmp_path / "j.pth", "stgcn", {}, expected=2)
    state = as_written("pyskl_stgcn") | {"backbone.gcn.0.gcn.A": torch.zeros(())}
    torch.save(WRAPPINGS[form](state), tmp_path / "j.pth")
    assert "j.pth: " in test_phase(tmp_path / "j.pth", "stgcn", {}, expected=2)
    (tmp_path / "j.pth").write_bytes(pickle.dumps(WRAPPINGS[form](dict(a=1))))
    assert "j.pth: " in test_phase(tmp_path / "j.pth", "stgcn", {}, expected=2)


@pytest.mark.parametrize("name", ["pyskl_aagcn", "pyskl_ctrgcn", "pyskl_dgstgcn", "pyskl_stgcn"])
def test_weights_exported_for_pyskl_equal_the_original_file(tmp_path, experiment, main, name):
    state = as_written(name)
    torch.save({"state_dict": state, "meta": meta()}, tmp_path / "j.pth")
    found = open_checkpoint(state)
    file = experiment(model=found.model, model_args=found.model_args)
    argv = ("--config", file, "--phase", "export-weights", "--weights", tmp_path / "j.pth", "--export-names", "pyskl")
    code, out, err = main(*argv)
    assert code == 0 and f"wrote {tmp_path / 'j.pyskl.pth'}: {len(state)} entries" in out, err
    written = torch.load(tmp_path / "j.pyskl.pth")
    assert written["meta"] == {} and written["state_dict"].keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in written["state_dict"].items() if key != "backbone.A")


def test_a_network_that_pyskl_does_not_have_is_not_exported_for_it(tmp_path, experiment, trained, main):
    argv = ("--phase", "export-weights", "--weights", trained / "last.pt", "--export-names", "pyskl")
    code, _, err = main("--config", experiment(), *argv)
    assert code == 2 and "model_args: expected a network that equals PYSKL CTR-GCN, got another" in err
    assert not list(trained.glob("*.pyskl.pth"))
