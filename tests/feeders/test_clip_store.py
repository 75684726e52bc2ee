"""Clip stores: stores are read as written, and damaged or contradictory ones are refused."""

import io
import json

import numpy as np
import pytest

from feeders import clip_store, feeder_ntu
from feeders.clip_store import ClipStore
from tests.feeders.synthetic import random_clips, rewrite_index, rewrite_manifest, write_store

TEN = np.arange(10)


def refuse(store, message):
    with pytest.raises(ValueError, match=message) as caught:
        feeder_ntu.Feeder(str(store), "xsub", "test")
    assert "\n" not in str(caught.value) and str(store) in str(caught.value)


def test_a_store_is_read_as_it_was_written(tmp_path):
    clips, persons = random_clips([3, 5], 25)
    store = ClipStore(write_store(tmp_path / "s.clips", clips, [1, 0], persons, {"a": {"test": [1, 0]}}, num_class=2))
    assert store.name.tolist() == ["clip_0", "clip_1"] and store.label.tolist() == [1, 0] and store.is_finite
    for i, clip in enumerate(clips):
        for m in range(len(clip)):
            np.testing.assert_array_equal(store.clip(i)[..., m], clip[m].transpose(2, 0, 1))
    assert store.manifest["counts"] == {"a": {"test": 2}} and store.manifest["frames"] == 3 + 2 * 5


@pytest.mark.parametrize("number", [np.nan, np.inf, -2e9])
def test_coordinates_that_are_not_finite_are_not_written(tmp_path, number):
    clips, persons = random_clips([3, 5], 25)
    clips[1][0, 2, 3, 1] = number
    with pytest.raises(ValueError, match="frames.npy: expected finite coordinates below 1e[+]09, got"):
        write_store(tmp_path / "s.clips", clips, [1, 0], persons, {})
    assert not (tmp_path / "s.clips" / "manifest.json").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"label": TEN}, "label: expected numbers from 0 to 3, got 0 to 9"),
        ({"label": TEN - 1}, "label: expected numbers from 0 to 3, got -1 to 8"),
        ({"label": TEN[:9]}, "label: expected the shape .10,., N > 0, got .9,."),
        ({"label": TEN.astype(float)}, "label: expected integers"),
        ({"label": TEN.astype(object)}, "label: expected integers"),
        ({"label": None}, "expected the arrays name, .* got no array label"),
        ({"name": TEN}, "name: expected text"),
        ({"name": TEN.astype(object)}, "name: expected text"),
        ({"name": np.array(["x" * 2000] * 10)}, "names of 1000 characters"),
        ({"name": np.array(["\ud800"] * 10)}, "name: expected text that UTF-8 can encode"),
        ({"length": np.zeros(10, int)}, "length: expected numbers from 1 to"),
        ({"length": np.full(10, 10**7)}, "length: expected numbers from 1 to 1000000"),
        ({"length": np.full(10, 400)}, "(valid|start): expected .*length.* from 0"),
        ({"valid": np.full(10, 1000)}, "valid: expected length - valid from 0"),
        ({"valid": np.full(10, -1)}, "valid: expected numbers from 0"),
        ({"start": np.full(10, -1)}, "start: expected numbers from 0"),
        ({"start": np.full(10, 2**62)}, "start: expected numbers from 0"),
        ({"start": TEN + 1100}, "start: expected start . number of tracks . length from 0"),
        ({"persons": np.full((10, 2), 5)}, "start: expected start . number of tracks . length from 0"),
        ({"persons": np.full((10, 2), -2)}, "persons: expected numbers from -1"),
        ({"persons": TEN}, "persons: expected the shape .10, M., got .10,."),
        ({"persons": np.zeros((10, 0), int)}, "persons: expected the shape"),
        ({"persons": np.zeros((10, 200), int)}, "expected at most 100 person slots"),
        ({"split/xsub/test": np.array([10])}, "split/xsub/test: expected numbers from 0 to 9, got 10"),
        ({"split/xsub/test": np.array([-1])}, "split/xsub/test: expected numbers from 0 to 9"),
        ({"split/xsub/test": np.array([0.0])}, "split/xsub/test: expected integers"),
        ({"split/xsub/test": np.array([[0]])}, "split/xsub/test: expected the shape .n,."),
        ({"split/xsub/test": np.zeros(0, int)}, "expected at least one clip and one frame, got none"),
        ({"split/xsub/test": None}, "expected a split with a part, xsub/train, got 'xsub'/test"),
        ({"split": TEN}, "expected name, .* split/<name>/<part>, got 'split'"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(store, changes, message):
    refuse(rewrite_index(store, **changes), message)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format": 2}, "format: expected 'skeleton clip store 1', got 2"),
        ({"num_class": "4"}, "num_class: expected a whole number from 1 to 100000, got '4'"),
        ({"num_class": True}, "num_class: expected a whole number"),
        ({"num_class": 10**9}, "num_class: expected a whole number"),
        ({"class_names": ["a"]}, "class_names: expected 4 names, got 1"),
        ({"class_names": ["a", "b", "c", 4]}, "class_names: expected a list of names"),
        ({"class_names": ["a", "b", "c", "\ud800"]}, "class_names: expected a list of names"),
        ({"class_names": {}}, "class_names: expected a list of names, got {}"),
        ({"skeleton": 5}, "skeleton: expected a module of graph/, a body layout or a YAML file, got 5"),
        ({"num_point": 24}, "num_point: expected 25, as in the arrays, got 24"),
        ({"channels": 2}, "channels: expected 3"),
        ({"num_person": 1}, "num_person: expected 2"),
        ({"clips": 11}, "clips: expected 10"),
        ({"frames": 11}, "frames: expected"),
        ({"window": 10**9}, "window: expected 1 to 100000 frames or null"),
        ({"window": 0}, "window: expected"),
        ({"pad": "edge"}, "pad: expected zero, repeat or null, got 'edge'"),
        ({"modality": "speed"}, "modality: expected a modality"),
        ({"up": ["y"]}, "up: expected x, y or z"),
        ({"sha256": {"frames.npy": 5}}, "sha256: expected a mapping of frames.npy and index.npz to text"),
        ({"sha256": {"../frames.npy": "5"}}, "sha256: expected a mapping of frames.npy and index.npz to text"),
        ({"sha256": "x"}, "sha256: expected a mapping of frames.npy and index.npz to text"),
        ({"counts": []}, "counts: expected a mapping"),
        ({"recipe": 5}, "recipe: expected text"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(store, changes, message):
    refuse(rewrite_manifest(store, **changes), message)


@pytest.mark.parametrize("content", [b"[1]", b"5", b'"x"', b"", b"{", b"\xff", b'{"format": NaN}', b"[" * 100_000])
def test_a_manifest_of_another_kind_is_refused(store, content):
    (store / "manifest.json").write_bytes(content)
    refuse(store, "manifest.json: (expected|not valid JSON)")


@pytest.mark.parametrize(
    "frames, message",
    [
        (np.zeros((10, 3), np.float32), "expected float32 frames .R, V, C. in C order, got <f4 .10, 3."),
        (np.zeros((1176, 25, 3)), "expected float32 frames .* got <f8"),
        (np.zeros((1176, 25, 3), ">f4"), "expected float32 frames .* got >f4"),
        (np.asfortranarray(np.zeros((1176, 25, 3), np.float32)), "expected float32 frames .R, V, C. in C order"),
        (np.zeros((1176, 25, 3), object), "expected floats, got dtype object"),
        (np.zeros((2, 25, 3), np.float32), "start: expected numbers from 0 to 2"),
        (np.zeros((1176, 0, 3), np.float32), "num_point: expected 0"),
    ],
)
def test_frames_that_do_not_fit_are_refused(store, frames, message):
    np.save(store / "frames.npy", frames)
    refuse(store, message)


@pytest.mark.parametrize("name", ["frames.npy", "index.npz"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no array", "half", b"\x93NUMPY\x01\x00"])
def test_damaged_arrays_are_refused(store, name, content):
    path = store / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content)
    refuse(store, name)


def test_a_large_index_is_not_read(store, monkeypatch):
    monkeypatch.setattr(clip_store, "MAX_INDEX_BYTES", 100)
    refuse(store, "index.npz: expected at most 100 bytes, got")


def test_the_number_of_classes_follows_from_the_class_names(store):
    rewrite_manifest(store, num_class=None, class_names=list("abcdef"))
    assert feeder_ntu.Feeder(str(store), "xsub", "test").num_class == 6
    refuse(rewrite_manifest(store, class_names=["a"]), "label: expected numbers from 0 to 0")


def test_a_header_is_compared_with_the_size_of_the_file(store):
    buffer = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 25, 3)}
    np.lib.format.write_array_header_1_0(buffer, header)
    (store / "frames.npy").write_bytes(buffer.getvalue() + b"\0" * 1000)
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(manifest | {"frames": 10**12}))
    refuse(store, "frames.npy: expected 1000 bytes of data")
