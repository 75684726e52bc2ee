"""Weights files: common checkpoint forms, strict loading, and invalid files."""

import argparse
import json
import os
import pickle
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from model import contrastive
from tests.torchlight import tiny
from torchlight.commands import main as cli
from torchlight.training import checkpoint, engine, scores


@pytest.fixture
def tested(tmp_path, experiment, main):
    """Logits by sample name of the test part with some weights, through the command line."""

    def call(weights, *argv, **changes):
        run = tmp_path / "tested"
        flags = ("--phase", "test", "--weights", weights, "--save-score", "true", *argv)
        code, _, err = main("--config", experiment(**changes), "--work-dir", run, *flags)
        assert code == 0, err
        name = scores.EMA_SCORE_FILE if "--ema" in argv else scores.SCORE_FILE
        return scores.read_scores(run / name)

    return call


@pytest.fixture(scope="module")
def expected(tmp_path_factory, experiment, trained):
    """Logits by sample name of the test part with the weights of `trained`."""
    run = tmp_path_factory.mktemp("expected")
    argv = ("--config", experiment(), "--phase", "test", "--weights", trained / "last.pt", "--save-score", "true")
    assert cli.main([str(word) for word in (*argv, "--work-dir", run)]) == 0
    return scores.read_scores(run / scores.SCORE_FILE)


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(row, other[name]) for name, row in one.items())


WRAPPINGS = {
    "flat": lambda model, ema: (model, ()),
    "ordered": lambda model, ema: (OrderedDict(model), ()),
    "state_dict": lambda model, ema: ({"state_dict": model, "meta": {"epoch": 3, "best": np.float64(0.5)}}, ()),
    "module.": lambda model, ema: ({f"module.{name}": value for name, value in model.items()}, ()),
    "state_dict of module.": lambda model, ema: (
        {"state_dict": {f"module.{n}": v for n, v in model.items()}, "epoch": 1},
        (),
    ),
    "model and model_ema": lambda model, ema: (
        {"model": model, "model_ema": ema, "args": argparse.Namespace(lr=0.004), "epoch": "best"},
        (),
    ),
    "a key of its own": lambda model, ema: ({"model": ema, "net": model}, ("--weights-key", "net")),
    "the average by its key": lambda model, ema: ({"model": ema, "model_ema": model}, ("--weights-key", "model_ema")),
    "old zip-less file": lambda model, ema: (model, ()),
}


@pytest.mark.parametrize("form", WRAPPINGS)
def test_every_common_checkpoint_form_gives_the_same_logits(tmp_path, trained, tested, expected, form):
    content = checkpoint.load(trained / "last.pt")
    wrapped, flags = WRAPPINGS[form](content["model"], content["model_ema"])
    torch.save(wrapped, tmp_path / "w.pth", _use_new_zipfile_serialization=form != "old zip-less file")
    assert same(tested(tmp_path / "w.pth", *flags), expected)


def safetensors_bytes(state: dict) -> bytes:
    """A state dict as a `.safetensors` file: length of the header, header as JSON, tensors."""
    kinds, header, parts = {torch.float32: "F32", torch.int64: "I64"}, {"__metadata__": {"format": "pt"}}, []
    for name, value in state.items():
        begin = sum(map(len, parts))
        parts.append(value.contiguous().numpy().tobytes())
        place = [begin, begin + len(parts[-1])]
        header[name] = {"dtype": kinds[value.dtype], "shape": list(value.shape), "data_offsets": place}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def test_a_safetensors_file_gives_the_same_logits_and_damaged_ones_are_refused(
    tmp_path, trained, tested, expected, experiment, main
):
    pytest.importorskip("safetensors")
    whole, file = safetensors_bytes(checkpoint.load(trained / "last.pt")["model"]), tmp_path / "model.safetensors"
    file.write_bytes(whole)
    assert same(tested(file), expected)
    for damaged in (b"", whole[:-1], whole.replace(b"F32", b"X32", 1), whole[:8] + b"x" + whole[9:], b"\xff" * 99):
        file.write_bytes(damaged)
        code, _, err = main(
            "--config", experiment(), "--phase", "test", "--weights", file, "--work-dir", tmp_path / "r"
        )
        assert code == 2 and err.count("\n") == 1 and "model.safetensors: not a whole safetensors file (" in err, err


def test_a_safetensors_file_without_the_package_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="^safetensors: .*need it: pip install -r requirements/safetensors.txt$"):
        checkpoint.load(tmp_path / "model.safetensors")


def test_the_flag_ema_tests_the_moving_average_and_writes_its_own_score_file(tmp_path, trained, tested, expected):
    content = checkpoint.load(trained / "last.pt")
    torch.save(content["model_ema"], tmp_path / "ema.pt")
    average = tested(trained / "last.pt", "--ema", "true")
    assert same(average, tested(tmp_path / "ema.pt")) and not same(average, expected)
    tested(trained / "last.pt")
    assert sorted(path.name for path in (tmp_path / "tested").glob("*score.pkl")) == [
        "epoch1_test_ema_score.pkl",
        "epoch1_test_score.pkl",
    ]


@pytest.mark.parametrize("flags", [(), ("--ema", "true")])
def test_a_warning_names_weights_without_averaging_from_a_file_of_the_average(
    tmp_path, experiment, trained, main, flags
):
    weights = ("--phase", "test", "--weights", trained / "best_ema.pt", *flags)
    code, out, err = main("--config", experiment(), "--work-dir", tmp_path, *weights)
    words = "best_ema.pt: loaded the weights without averaging (model); for their moving average give --ema true"
    assert code == 0 and (words in out) == (not flags), err


@pytest.mark.parametrize(("key", "flags"), [("test", ()), ("test_ema", ("--ema", "true"))])
def test_a_test_gives_the_figures_of_the_training_to_the_last_digit(trained, tested, key, flags):
    rows = np.stack(list(tested(trained / "last.pt", *flags).values())).astype(np.float32)
    label = np.arange(60)[40:] * 7 % 5
    found = engine.Prediction(rows, label, np.arange(20), False)
    last = tiny.metrics(trained)[-1]
    assert (found.loss, scores.top_k(rows, label, 1)) == (last[f"{key}_loss"], last[f"{key}_top1"])


def test_an_evaluation_runs_the_copy_that_a_network_provides_and_does_not_change_the_network(
    experiment, trained, tested, monkeypatch
):
    seen = []
    whole = engine.evaluate
    monkeypatch.setattr(engine, "evaluate", lambda network, *rest: [seen.append(network), whole(network, *rest)][1])
    tested(trained / "last.pt", "--save-feature", "true")
    scored, pooled = seen
    for network in (scored, pooled.model):
        assert isinstance(network.l1.tcn1.branches[3][1], torch.nn.Identity)  # where a norm was
    seen.clear()
    saved = tiny.weights(trained)
    tested(trained / "last.pt", model="tests.torchlight.parts.Heir")
    (heir,) = seen
    assert all(torch.equal(value, saved[name]) for name, value in heir.state_dict().items())


def test_weights_with_the_names_of_pyskl_load_as_they_are(tmp_path, experiment, tested, main):
    model = {"model": "model.stgcnpp.Model", "num_epoch": 1}
    model["model_args"] = {
        "num_class": 5,
        "num_point": 20,
        "num_person": 1,
        "graph": "graph.ucla.Graph",
        "channels": [12, 12],
    }
    assert main("--config", experiment(**model), "--work-dir", tmp_path / "run")[0] == 0
    state = checkpoint.load(tmp_path / "run" / "last.pt")["model"]
    assert {name.split(".")[0] for name in state} == {"backbone", "cls_head"}
    torch.save({"meta": {"epoch": 1}, "state_dict": state}, tmp_path / "pyskl.pth")
    assert same(tested(tmp_path / "pyskl.pth", **model), tested(tmp_path / "run" / "last.pt", **model))


def test_a_model_whose_own_names_hold_the_word_module_keeps_them(tmp_path):
    torch.save({"my_module.weight": torch.ones(1), "module.bias": torch.ones(1)}, tmp_path / "w.pt")
    assert set(checkpoint.state_dict_of(checkpoint.load(tmp_path / "w.pt"), "w.pt")) == {
        "my_module.weight",
        "module.bias",
    }


def test_weights_that_were_wrapped_twice_load(tmp_path):
    state = {"fc.weight": torch.ones(2, 2), "fc.bias": torch.zeros(2)}
    torch.save({f"module.module.{name}": value for name, value in state.items()}, tmp_path / "w.pt")
    model = torch.nn.Sequential(OrderedDict(fc=torch.nn.Linear(2, 2)))
    checkpoint.load_weights(model, tmp_path / "w.pt")
    assert torch.equal(model.fc.weight, state["fc.weight"])


@pytest.mark.parametrize("flags", [(), ("--ema", "true")])
def test_exported_weights_are_flat_and_give_the_same_logits(tmp_path, experiment, trained, tested, main, flags):
    source = tmp_path / "last.pt"
    source.write_bytes((trained / "last.pt").read_bytes())
    code, out, _ = main("--config", experiment(), "--phase", "export-weights", "--weights", source, *flags)
    exported = tmp_path / ("last.ema_weights.pt" if flags else "last.weights.pt")
    assert code == 0 and str(exported) in out
    state = torch.load(exported)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert same(tested(exported), tested(trained / "last.pt", *flags))


def refused(main, experiment, folder, weights, *argv, **changes) -> str:
    """The one line that refuses weights before the run directory is touched."""
    code, _, err = main("--config", experiment(**changes), "--work-dir", folder, "--weights", weights, *argv)
    assert code == 2 and err.count("\n") == 1 and not folder.exists()
    return err


def test_weights_of_another_network_are_refused_by_name(tmp_path, experiment, trained, main):
    stgcn = {"num_class": 5, "num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph"}
    err = refused(main, experiment, tmp_path / "run", trained / "last.pt", model="model.stgcn.Model", model_args=stgcn)
    assert (
        "expected the weights of this network, got others" in err
        and "entries missing (first: " in err
        and "unknown (first: " in err
        and "the file contains model: model.ctrgcn.Model, model_args: {" in err
    )


def test_the_suggestion_lists_all_layers_whose_shape_has_the_number_of_classes():
    args = {"num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph", "channels": [8, 8]}
    one, other = (contrastive.ProtoGCN(k, **args).state_dict() for k in (5, 7))
    shapes = [name for name in one if one[name].shape != other[name].shape]
    text = checkpoint.explain(one, other, [], [], shapes, {"num_class": 5})
    assert text.endswith("give --ignore-weights cls_head.fc_cls cls_head.csc_loss.memory")
    assert "only the classifier" not in checkpoint.explain(one, other, [], [], shapes, {"num_class": 6})


def test_the_suggestion_for_weights_with_another_number_of_classes_works(tmp_path, experiment, trained, main):
    state = checkpoint.load(trained / "last.pt")["model"]
    state["fc.weight"], state["fc.bias"] = torch.zeros(9, 8), torch.zeros(9)
    torch.save(state, tmp_path / "nine.pt")
    err = refused(main, experiment, tmp_path / "run", tmp_path / "nine.pt")
    assert "only the classifier differs: for another class count give --ignore-weights fc" in err
    err = refused(main, experiment, tmp_path / "run", tmp_path / "nine.pt", "--ignore-weights", "fcc")
    assert "ignore_weights: expected the beginning of a name, got fcc; did you mean fc?" in err
    argv = ("--config", experiment(num_epoch=1), "--work-dir", tmp_path / "run", "--weights", tmp_path / "nine.pt")
    code, out, _ = main(*argv, "--ignore-weights", "fc")
    assert code == 0 and "not loaded because of ignore_weights: fc.weight, fc.bias" in out
    err = refused(main, experiment, tmp_path / "other", tmp_path / "nine.pt", "--model-args.channels", "[8, 12]")
    assert "of another shape" in err and "--ignore-weights" not in err


@pytest.mark.parametrize("what", ["missing", "folder", "empty", "truncated", "text"])
def test_a_file_that_is_not_a_complete_weights_file_is_refused(tmp_path, experiment, trained, main, what):
    path = tmp_path / "w.pt"
    whole = (trained / "last.pt").read_bytes()
    if what == "folder":
        path.mkdir()
    elif what != "missing":
        path.write_bytes(
            {
                "empty": b"",
                "truncated": whole[: len(whole) // 2],
                "text": b"version https://git-lfs.github.com/spec/v1\n",
            }[what]
        )
    err = refused(main, experiment, tmp_path / "run", path)
    reason = {"missing": "cannot be read", "folder": "got a folder"}
    assert reason.get(what, "not a whole file of plain tensors") in err


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", ["torch", "old", "pickle"])
def test_a_file_that_would_run_code_is_refused_and_no_code_runs(tmp_path, experiment, main, form):
    path, trace = tmp_path / "w.pt", tmp_path / "trace"
    content = {"model": {"fc.weight": torch.zeros(1)}, "extra": Bomb(trace)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    err = refused(main, experiment, tmp_path / "run", path)
    assert "not a whole file of plain tensors" in err and "nothing in it was run" in err and not trace.exists()
    assert form == "pickle" or "system" in err
    assert "weights_only" not in err  # torch's advice to switch the safety off


def test_the_error_of_a_file_without_weights_lists_its_content(tmp_path, experiment, main):
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    assert "expected weights under model or state_dict, got 'epoch'" in refused(
        main, experiment, tmp_path / "run", tmp_path / "w.pt"
    )
    torch.save({"net": {"a": torch.ones(1)}}, tmp_path / "w.pt")
    assert "name one of net as --weights-key" in refused(main, experiment, tmp_path / "run", tmp_path / "w.pt")
    assert "expected net, got 'nest'" in refused(
        main, experiment, tmp_path / "run", tmp_path / "w.pt", "--weights-key", "nest"
    )
    torch.save([torch.ones(1)], tmp_path / "w.pt")
    assert "expected a state dict, got list" in refused(main, experiment, tmp_path / "run", tmp_path / "w.pt")


def test_a_test_without_weights_or_without_the_requested_average_is_refused(tmp_path, experiment, main, trained):
    code, _, err = main("--config", experiment(), "--phase", "test", "--work-dir", tmp_path / "run")
    assert code == 2 and "weights: missing; --phase test needs the file to test" in err
    code, _, err = main("--config", experiment(), "--phase", "export-weights", "--work-dir", tmp_path / "run")
    assert code == 2 and "weights: missing" in err
    torch.save({"model": checkpoint.load(trained / "last.pt")["model"]}, tmp_path / "w.pt")
    err = refused(main, experiment, tmp_path / "run", tmp_path / "w.pt", "--ema", "true")
    assert "expected model, got 'model_ema'; only a training with --ema-decay has a moving average" in err


def test_errors_of_a_run_directory_as_weights_and_of_a_missing_configuration_name_the_file_to_give(trained, main):
    code, _, err = main("--phase", "test", "--weights", trained / "last.pt")
    assert code == 2 and f"model: missing; give --config FILE, such as {trained / 'config.yaml'}\n" in err
    with pytest.raises(ValueError, match=f"expected a file, got a folder; give {trained / 'last.pt'}$"):
        checkpoint.load(trained)


def test_a_training_starts_from_the_given_weights(tmp_path, experiment, trained, main):
    argv = ("--work-dir", tmp_path / "run", "--weights", trained / "last.pt", "--ema", "true")
    assert main("--config", experiment(num_epoch=1, ema_decay=0.5, base_lr=0.0, step=[]), *argv)[0] == 0
    average, found = checkpoint.load(trained / "last.pt")["model_ema"], tiny.weights(tmp_path / "run")
    assert all(
        torch.equal(value, found[name])
        for name, value in average.items()
        if "running" not in name and "tracked" not in name
    )


def test_a_checkpoint_that_cannot_be_written_does_not_change_the_old_one(tmp_path):
    checkpoint.save(tmp_path / "last.pt", {"epoch": 1})
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(AttributeError):
        checkpoint.save(tmp_path / "last.pt", {"epoch": lambda: 2})
    assert (tmp_path / "last.pt").read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_very_long_name_in_a_pickle_is_refused_at_once(tmp_path, legacy):
    """PyTorch would need time that is quadratic in the length of the name."""
    path = tmp_path / "long.pt"
    content = b"\x80\x02ctorch\n" + b"a" * 2000 + b"\nq\x00."
    if legacy:
        path.write_bytes(b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {})) + content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("long/data.pkl", content)
    with pytest.raises(ValueError, match="names of at most 1000 characters, got 20"):
        checkpoint.load(path)
