"""`--phase export`, and predictions with the files that it writes."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from tests.torchlight.predict.conftest import save_stream
from torchlight.commands import main as cli
from torchlight.export.run import open_exported
from torchlight.predict import Recognizer, Settings
from torchlight.system.paths import ROOT
from torchlight.training import checkpoint

HEADERS = Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"), "onnxruntime_cxx_api.h")


@pytest.fixture(scope="module")
def clips():
    """Recordings (T, V, C) of one person, the second one long."""
    draw = np.random.default_rng(0)
    return [draw.normal(size=(T, 20, 3)).cumsum(0) / 30 for T in (24, 70)]


@pytest.fixture
def export(main, trained, tmp_path):
    """export("--format", "onnx", ..., output="n.onnx") -> (exit code, lines of standard output, standard error)."""

    def call(*words, output="n.onnx", weights=trained / "last.pt"):
        target = ("--output", tmp_path / output) if output else ()
        code, out, err = main("--phase", "export", "--weights", weights, *target, *words)
        assert "Traceback" not in out + err and "internal error" not in err
        return code, out.splitlines(), err

    return call


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """A file of ONNX for one clip."""
    path = tmp_path_factory.mktemp("exported") / "n.onnx"
    assert cli.main(["--phase", "export", "--weights", str(trained / "last.pt"), "--output", str(path)]) == 0
    return path


def logits(weights, clips, **settings):
    found = Recognizer(weights, device="cpu").predict(clips, Settings(**settings))
    return np.stack([prediction.scores for prediction in found])


def test_a_file_of_onnx_predicts_what_the_checkpoint_predicts(export, trained, tmp_path, clips):
    code, out, err = export()
    assert code == 0, err
    text = "\n".join(out)
    assert "operators: " in text and "Conv " in text and "input: data (1, 3, 8, 20, 1); output: logits (1, 5)" in text
    assert "largest difference from PyTorch in float32: " in text and f"wrote {tmp_path / 'n.onnx'}" in text
    for settings in ({}, {"window": 0.5}):
        expected = logits(trained / "last.pt", clips, **settings)
        assert np.allclose(logits(tmp_path / "n.onnx", clips, **settings), expected, atol=1e-4)
    both = [trained / "last.pt", tmp_path / "n.onnx"]
    assert np.allclose(logits(both, clips), logits([trained / "last.pt"] * 2, clips), atol=1e-4)


def test_frames_that_arrive_one_by_one_get_the_labels_of_the_checkpoint(exported, trained, clips):
    updates = []
    for weights in (trained / "last.pt", exported):
        stream = Recognizer(weights, device="cpu").stream(settings=Settings(window=0.5, stride=0.2))
        found = [u for t, frame in enumerate(clips[1]) for u in stream.push(t / 30, frame)]
        updates.append([(u["state"], [name for name, _ in u.get("top", [])]) for u in found])
    assert updates[0] == updates[1] and any(top for _, top in updates[0])


def test_a_file_of_torch_export_predicts_after_consent(export, main, trained, tmp_path, clips):
    code, _, err = export("--format", "torch", "--dynamic", "batch", output="n.pt2")
    assert code == 0, err
    np.savez(tmp_path / "r.npz", keypoint=clips[0], layout="kinect_v1_20", axes="kinect", units="m", rate=30.0)
    words = ("--phase", "predict", "--device", "cpu", "--source", tmp_path / "r.npz", "--weights")
    code, _, err = main(*words, tmp_path / "n.pt2")
    assert code == 2 and "can run code of a .pt2 file" in err and f"--import {tmp_path / 'n.pt2'}" in err
    found = [main(*words, trained / "last.pt"), main(*words, tmp_path / "n.pt2", "--import", tmp_path / "n.pt2")]
    assert [code for code, *_ in found] == [0, 0] and found[0][1] == found[1][1]


def test_the_program_of_the_documentation_prints_the_classes_without_pytorch(exported, capsys):
    page = (ROOT / "docs/export.md").read_text()
    program = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    assert "torch" not in program
    exec(program.replace("work_dir/demo/ctrgcn/joint/last.onnx", str(exported)), {})
    lines = [line.rsplit(" ", 1) for line in capsys.readouterr().out.splitlines()]
    found = Recognizer(exported, device="cpu")
    with torch.no_grad():
        p = found.streams[0].model(torch.zeros(1, 3, 8, 20, 1)).softmax(1)[0]
    assert lines == [[found.class_names[i], f"{p[i]:.3f}"] for i in p.argsort(descending=True)[:3]]


@pytest.mark.skipif(not HEADERS.is_file(), reason=f"{HEADERS}: not there (ONNXRUNTIME_INCLUDE names its folder)")
def test_the_cpp_program_of_the_documentation_prints_the_class_that_python_predicts(exported, tmp_path, clips):
    page = (ROOT / "docs/export.md").read_text()
    (tmp_path / "label.cpp").write_text(re.search(r"```cpp\n(.*?)```", page, re.DOTALL)[1])
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):  # the package has neither of the names of an installation
        (tmp_path / name).symlink_to(library)
    words = ["c++", "-std=c++17", "label.cpp", "-I", HEADERS.parent, "-L", ".", "-lonnxruntime", "-o", "label"]
    words += [f"-Wl,-rpath,{tmp_path}"]
    subprocess.run(words, cwd=tmp_path, check=True)
    recognizer = Recognizer(exported, device="cpu")
    stream = recognizer.streams[0]
    for i, clip in enumerate(clips):
        batch = stream.feed(recognizer.clips(stream, clip, Settings())).batch([0], 0)
        batch["data"].numpy().astype("<f4").tofile(tmp_path / f"{i}.f32")
        words = [tmp_path / "label", exported, tmp_path / f"{i}.f32"]
        lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
        assert lines == [f"class {recognizer.predict(clip)[0].label}", json.dumps(stream.facts["class_names"])]
    short = subprocess.run([tmp_path / "label", exported, tmp_path / "label.cpp"], capture_output=True, text=True)
    assert short.returncode == 2 and "label.cpp: expected 480 numbers" in short.stderr


def test_the_metadata_contain_what_an_application_needs_and_nothing_about_this_machine(
    export, trained, store, tmp_path
):
    assert export("--dynamic", "batch")[0] == 0
    metadata = open_exported(tmp_path / "n.onnx").metadata
    facts = checkpoint.load(trained / "last.pt")["clips"]
    assert metadata["input"] == {"data": ["batch", 3, 8, 20, 1]} and metadata["num_class"] == 5
    assert metadata["class_names"] == facts["class_names"] and metadata["joints"] == list(facts["body"]["joints"])
    assert (metadata["layout"], metadata["modality"], metadata["precision"]) == ("ucla", "joint", "float32")
    assert metadata["clips"]["lengths"] == facts["lengths"] and metadata["model"] == "model.ctrgcn.Model"
    content = (tmp_path / "n.onnx").read_bytes()
    for place in (trained, store, Path(torch.__file__).parent, ROOT):
        assert str(place).encode() not in content


def test_the_moving_average_and_weights_of_other_programs_are_exported(export, trained, experiment, tmp_path, clips):
    assert export("--ema", "true", output="ema.onnx")[0] == 0
    average = Recognizer(trained / "last.pt", device="cpu", ema=True).predict(clips)
    assert np.allclose(logits(tmp_path / "ema.onnx", clips), np.stack([p.scores for p in average]), atol=1e-4)
    torch.save(checkpoint.load(trained / "last.pt")["model_ema"], tmp_path / "flat.pt")
    code, _, err = export("--config", experiment(), output="flat.onnx", weights=tmp_path / "flat.pt")
    assert code == 0, err
    assert np.allclose(logits(tmp_path / "flat.onnx", clips), logits(tmp_path / "ema.onnx", clips), atol=1e-4)


def test_several_samples_of_a_clip_are_averaged_as_by_the_checkpoint(export, store, tmp_path, clips):
    arguments = {"data_path": str(store), "split": "xview", "window_size": 12, "pre_normalize": "", "num_clips": 3}
    feeder = {"feeder": "feeders.feeder_pyskl.Feeder", "test_feeder_args": arguments}
    weights, _ = save_stream(tmp_path, "graph.ucla.Graph", 2, 20, **feeder)
    code, _, err = export(weights=weights)
    assert code == 0, err
    expected = logits(weights, clips)
    assert np.allclose(expected.sum(1), 1, atol=1e-5)  # probabilities
    assert np.allclose(logits(tmp_path / "n.onnx", clips), expected, atol=1e-4)


def test_the_file_is_beside_the_weights_if_no_output_is_given(export, trained, tmp_path):
    weights = tmp_path / "w.pt"
    weights.write_bytes((trained / "last.pt").read_bytes())
    assert export("--precision", "float16", output=None, weights=weights)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.float16.onnx", "w.pt"]
    assert open_exported(tmp_path / "w.float16.onnx").metadata["precision"] == "float16"


WRONG = [  # words, the message
    (("--format", "tflite"), "format: expected onnx or torch, got 'tflite'"),
    (("--dynamic", "time"), "dynamic: expected batch"),
    (("--precision", "bfloat16"), "precision: expected float32 or float16 for an exported network, got bfloat16"),
    (("--output", "missing/n.onnx"), "output: expected a file in a folder that exists, got missing/n.onnx"),
    (("--output", "n.pt2"), "a file name ending with .onnx (--format onnx), got n.pt2; for this one give --format"),
    (("--output", "n.onnx", "--format", "torch"), "output: expected a file name ending with .pt2"),
    (("--output", "/proc/n.onnx"), "output: /proc/n.onnx: cannot be written"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_wrong_option_is_one_error_message(words, message, export):
    code, _, err = export(*words, output=None)
    assert code == 2 and message in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(package, export, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    code, out, err = export()
    assert code == 2 and f"error: {package}: " in err and "pip install -r requirements/export.txt" in err
    assert not list(tmp_path.iterdir())


def bad_files(folder: Path) -> dict[str, str]:
    """{file that is no exported network: the message}."""
    for suffix in ("onnx", "pt2"):
        (folder / f"text.{suffix}").write_text("no network")
        with zipfile.ZipFile(folder / f"zip.{suffix}", "w") as archive:
            archive.writestr("a.txt", "no network")
    return {
        "text.onnx": "expected a network in the ONNX format, got a file that onnxruntime cannot read",
        "zip.onnx": "expected a network in the ONNX format, got a file that onnxruntime cannot read",
        "text.pt2": "expected a network that --phase export wrote, got a file that torch.export cannot read",
        "zip.pt2": "expected a network that --phase export wrote, got an archive that torch.export cannot read",
        "missing.onnx": "cannot be read",
    }


def test_a_file_that_is_not_a_network_is_one_error_message(main, tmp_path):
    for name, message in bad_files(tmp_path).items():
        path = tmp_path / name
        words = ("--phase", "predict", "--device", "cpu", "--weights", path, "--source", path)
        code, _, err = main(*words, *(("--import", path) if name.endswith("pt2") else ()))
        assert code == 2 and f"{path}: {message}" in err and len(err.splitlines()) == 1, err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": None}, "expected a network that --phase export wrote, got a file without its metadata"),
        ({"input": {"data": [1, 3]}}, "input: data: expected numbers of clips and sizes of axes, got"),
        ({"input": {"data": [1, 3, 9, 20, 1]}}, "data: expected the shape (N, 3, 9, 20, 1), got"),
        ({"num_class": 7}, "expected logits of the shape (1, 7), got (1, 5)"),
        ({"clips": {}}, "clips: expected facts about the training clips"),
        ({"config": "feeder: os.system"}, "config: feeder: expected a class of this project, got 'os.system'"),
    ],
)
def test_changed_metadata_are_refused(change, message, exported, tmp_path, clips):
    import onnx

    model = onnx.load(exported)
    for entry in model.metadata_props:
        if entry.key in change:
            entry.value = json.dumps(change[entry.key])
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(ValueError) as error:
        Recognizer(tmp_path / "changed.onnx", device="cpu").predict(clips[0])
    assert message in str(error.value)


def test_options_that_have_no_effect_on_an_exported_network_are_refused(export, exported, main, experiment):
    source = exported
    for words in (("--precision", "bfloat16"), ("--ema", "true"), ("--config", experiment())):
        code, _, err = main("--phase", "predict", "--weights", source, "--source", source, *words)
        assert code == 2 and f"{words[0][2:]}: expected none with an exported network" in err
    code, _, err = export(weights=source, output="again.onnx")
    assert code == 2 and "weights: expected a checkpoint" in err
    code, _, err = main("--phase", "predict", "--weights", "a.pt", "--source", source, "--dynamic", "batch")
    assert code == 2 and "dynamic: expected --phase export, got --phase predict" in err
