"""Entries of the zoo from a file in weights/ to scores: the data that they read, and the tests that they refuse."""

import dataclasses
import pickle
import pkgutil

import numpy as np
import pytest
import torch

from feeders.feeder_pyskl import Feeder
from model.published import open_checkpoint, to_published
from tests.feeders.synthetic import random_clips, write_store
from tests.model.test_published import published_state
from tests.model.zoo import build
from torchlight.config.load import load_config
from torchlight.predict.recognizer import Recognizer
from torchlight.training import scores
from torchlight.zoo import catalog

ENTRIES = catalog.entries()


@pytest.fixture
def test_entry(tmp_path, monkeypatch, main, no_class_tables):
    """Tests an entry whose file holds `state`; returns the scores, or what is printed if it fails."""
    monkeypatch.chdir(tmp_path)

    def call(name, state, *argv, expected=0):
        entry = dataclasses.replace(ENTRIES[name], sha256="")
        monkeypatch.setattr(catalog, "entries", lambda: {name: entry})
        entry.file.parent.mkdir(exist_ok=True)
        torch.save({"state_dict": state, "meta": {}}, entry.file)
        flags = ("--phase", "test", "--save-score", "true", "--work-dir", "run", "--device", "cpu")
        code, out, err = main("--weights", f"zoo:{name}", *flags, *argv)
        assert code == expected, err
        return err if expected else scores.read_scores(tmp_path / "run" / scores.SCORE_FILE)

    return call


def poses(V, T=(23, 40), kind=np.float16):
    """Two clips of V joints in pixels with scores, the second of two persons."""
    draw = np.random.default_rng(0)
    size = (((i + 1), frames, V) for i, frames in enumerate(T))
    return [
        {"keypoint": (draw.random((*s, 2)) * 900).astype(kind), "keypoint_score": draw.random(s).astype(kind)}
        for s in size
    ]


def records(clips):
    return [
        {"frame_dir": f"c{i}", "label": i, "img_shape": (1080, 1920), "total_frames": 9} | clip
        for i, clip in enumerate(clips)
    ]


def write_pickle(path, clips, split="val"):
    found = records(clips)
    path.write_bytes(pickle.dumps({"split": {split: [r["frame_dir"] for r in found]}, "annotations": found}))


def write_detections(path):
    """As PYSKL has Kinetics-400: the key points of both clips in another file."""
    draw = np.random.default_rng(0)
    frame = [np.sort(draw.integers(0, 40, n)) for n in (50, 90)]
    found = {f"c{i}": {"keypoint": (draw.random((len(f), 17, 3)) * 3).astype(np.float16)} for i, f in enumerate(frame)}
    (path.parent / "part.pkl").write_bytes(pickle.dumps(found))
    write_pickle(path, [{"frame_inds": f, "raw_file": "kpfiles/part.pkl"} for f in frame])


def write_list(path):
    """As mmaction2 0.x has NTU RGB+D: records without splits."""
    clips, _ = random_clips([23, 40], 25)
    path.write_bytes(pickle.dumps(records([{"keypoint": clip} for clip in clips])))


def written(network, **special):
    """A state dict of 17 joints, under the names of PYSKL."""
    args = {"num_class": 60, "num_point": 17, "num_person": 2, "graph": "graph.coco.Graph"} | special
    torch.manual_seed(0)
    model = build(network, **args)
    return to_published(model.state_dict(), f"model.{network}.Model", args)


def uav_state():
    wide = {"channels": [96] * 3 + [192] * 3 + [384] * 3, "joint_embedding": True, "num_class": 155}
    return build("dgstgcn", num_point=17, graph="graph.uav.Graph", **wide).state_dict()


CASES = {
    "protogcn_k400_val_hrnet2d_b": (lambda: published_state("firework8_protogcn_k400"), write_detections),
    "skeletonagent_k400_val_hrnet2d_k": (lambda: published_state("firework8_skeletonagent_k400"), write_detections),
    "skeletonagent_uav-human_csv1_2d_b": (uav_state, lambda path: write_pickle(path, poses(17))),
    "mmaction2-0_stgcn_ntu60_xsub_3d_j": (lambda: published_state("mmaction2-0.x_stgcn"), write_list),
    "mmaction2-0_agcn_ntu60_xsub_3d_b": (lambda: published_state("mmaction2-0.x_agcn"), write_list),
    "mmaction2_stgcn++_ntu60_xsub_hrnet2d_bm": (
        lambda: written("stgcnpp"),
        lambda path: write_pickle(path, poses(17, (23, 120)), "xsub_val"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_entry_reads_its_data_and_gives_the_logits_of_its_network(tmp_path, test_entry, name):
    state, write = CASES[name]
    state = state()
    write(tmp_path / "poses.pkl")
    flags = ("--test-feeder-args.num_clips", "2") if ENTRIES[name].dataset in ("k400", "uav-human") else ()  # of ten
    few = ("--feeder-args.window_size", "48")
    found = test_entry(name, state, "--feeder-args.data_path", tmp_path / "poses.pkl", *few, *flags)
    arguments = {"feeder_args": {"data_path": str(tmp_path / "poses.pkl"), "window_size": 48}}
    arguments |= {"test_feeder_args": {"num_clips": 2}} if flags else {}
    config = load_config(None, {"weights": f"zoo:{name}", **arguments})
    clips = Feeder(part="test", modality=config.modality, **config.test_feeder_args)
    converted = open_checkpoint(state)
    model = pkgutil.resolve_name(config.model)(**config.model_args)
    model.load_state_dict(converted.state)
    for i, row in enumerate(found.values()):
        with torch.no_grad():
            logits = model.eval()(clips.batch([i], 0)["data"])
        expected = logits[0] if clips.num_clips == 1 else logits.softmax(1).mean(0)
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


# what an entry was trained for


def ntu_store(path, names, skeleton="graph.ntu_rgb_d", **facts):
    arrays, persons = random_clips([9, 16], 25)
    splits = {"xsub": {"train": np.arange(2), "test": np.arange(2)}}
    return write_store(path, arrays, [0, 3], persons, splits, class_names=names, skeleton=skeleton, **facts)


@pytest.fixture
def names():
    return pkgutil.resolve_name("data.cli.class_names")("ntu")


SMALL = ("--feeder-args.window_size", "12", "--test-feeder-args.num_clips", "1", "--feeder-args.data_path")


@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        (lambda names: names[::-1], (), "as class 0; --map-classes true reorders them by name"),
        (lambda names: ["sing", *names[1:]], (), "expected data with the 60 classes of the training, got 'sing'"),
        (lambda names: names, ("--modality", "bone"), "expected --modality joint as in the training, got bone"),
    ],
)
def test_an_entry_is_not_tested_on_other_classes_or_another_stream(tmp_path, test_entry, names, change, flags, message):
    name, state = "aagcn_ntu60_xsub_3d_j", published_state("pyskl_aagcn")
    other = ntu_store(tmp_path / "other.clips", change(names))
    assert message in test_entry(name, state, *SMALL, other, *flags, expected=2)


def test_an_entry_is_tested_on_the_classes_of_its_benchmark_in_any_order_that_is_mapped(tmp_path, test_entry, names):
    name, state = "aagcn_ntu60_xsub_3d_j", published_state("pyskl_aagcn")
    plain = test_entry(name, state, *SMALL, ntu_store(tmp_path / "same.clips", names))
    other = ntu_store(tmp_path / "other.clips", names[::-1])
    mapped = test_entry(name, state, *SMALL, other, "--map-classes", "true")
    assert len(plain) == 2
    for row, other in zip(plain.values(), mapped.values(), strict=True):
        np.testing.assert_allclose(other, row[::-1], rtol=0, atol=1e-6)


def test_an_entry_is_not_tested_on_clips_of_another_preparation_or_body(tmp_path, test_entry, names):
    name, state = "aagcn_ntu60_xsub_3d_j", published_state("pyskl_aagcn")
    other = ntu_store(tmp_path / "other.clips", names, recipe="ctrgcn")
    message = test_entry(name, state, *SMALL, other, expected=2)
    assert "expected data prepared by the recipe 'pyskl' as in the training, got 'ctrgcn'" in message
    joints = "\n".join(f"  - j{i}" for i in range(25))
    bones = "\n".join(f"  - [j{i}, j0]" for i in range(1, 25))
    (tmp_path / "own.yaml").write_text(f"name: own\njoints:\n{joints}\nbones:\n{bones}\n")
    same = ntu_store(tmp_path / "same.clips", names)
    argv = ("--feeder-args.skeleton", tmp_path / "own.yaml", "--feeder-args.align_spine", "false")
    message = test_entry(name, state, *SMALL, same, *argv, expected=2)
    assert "expected the body 'ntu_rgb_d' of the training, got 'own'" in message


@pytest.mark.parametrize("has_data", [False, True])
def test_an_entry_of_twenty_joints_predicts_from_poses_of_seventeen(tmp_path, monkeypatch, has_data):
    name = "protogcn_k400_val_hrnet2d_j"
    entry = dataclasses.replace(ENTRIES[name], sha256="")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKELETON_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(catalog, "entries", lambda: {name: entry})
    entry.file.parent.mkdir()
    torch.save({"state_dict": published_state("firework8_protogcn_k400")}, entry.file)
    if has_data:
        (tmp_path / "data/kinetics").mkdir(parents=True)
        write_detections(tmp_path / "data/kinetics/k400_hrnet.pkl")
    recognizer = Recognizer([f"zoo:{name}"], device="cpu")
    (found,) = recognizer.predict(np.random.default_rng(0).random((40, 17, 3)).astype(np.float32) * 300)
    assert found.probabilities.shape == (400,)
    assert has_data or found.name in recognizer.class_names


def test_an_entry_with_the_configuration_of_another_network_names_the_network_of_its_weights(
    tmp_path, test_entry, names
):
    store = ntu_store(tmp_path / "same.clips", names)
    argv = ("--config", "config/ntu/xsub/stgcnpp.yaml", *SMALL, store)
    message = test_entry("ctrgcn_ntu60_xsub_3d_j", published_state("pyskl_ctrgcn"), *argv, expected=2)
    assert "the file contains PYSKL CTR-GCN, which fits model: model.ctrgcn.Model" in message
