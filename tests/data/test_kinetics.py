"""Kinetics-Skeleton against reference records, and its broken files."""

import json
import pickle
import shutil

import numpy as np
import pytest

from data.kinetics.poses import match
from feeders.clip_store import ClipStore


def padded(clip: np.ndarray) -> np.ndarray:
    return np.pad(clip, ((0, 0), (0, 300 - clip.shape[1]), (0, 0), (0, 0)))


@pytest.mark.parametrize("recipe", ["agcn", "stgcn"])
def test_clips_names_labels_and_exports_equal_the_reference_bit_by_bit(recipe, kinetics_raw, reference, tmp_path, cli):
    arrays, meta = reference("kinetics")
    out = tmp_path / "k.clips"
    assert cli("kinetics", "--raw", kinetics_raw, "--recipe", recipe, "--out", out, "--strict", "--export", "npy") == 0
    store = ClipStore(out)
    for part, published in (("train", "train"), ("test", "val")):
        numbers = store.part("kinetics", part)
        expected = arrays[f"{recipe}/{published}"]
        names, labels = meta["parts"][published]["names"], meta["parts"][published]["labels"]
        assert [f"{name}.json" for name in store.name[numbers]] == names and store.label[numbers].tolist() == labels
        assert np.array_equal(np.stack([padded(store.clip(i)) for i in numbers]), expected)
        assert np.array_equal(
            np.load(tmp_path / f"{published}_data{'_joint' if recipe == 'agcn' else ''}.npy"), expected
        )
        assert pickle.loads((tmp_path / f"{published}_label.pkl").read_bytes()) == (names, labels)
    assert len(store.frames) < 0.35 * expected.shape[2] * 2 * len(store)


@pytest.mark.parametrize("persons", [2, 3])
def test_pose_matching_equals_the_reference_bit_by_bit(persons, kinetics_raw, reference, tmp_path, cli):
    arrays, _ = reference("kinetics")
    out = tmp_path / "k.clips"
    assert (
        cli(
            "kinetics",
            "--raw",
            kinetics_raw,
            "--recipe",
            "stgcn",
            "--pose-matching",
            "--persons-out",
            persons,
            "--out",
            out,
        )
        == 0
    )
    store = ClipStore(out)
    expected = {key.split("/")[1]: array for key, array in arrays.items() if key.startswith(f"match{persons}/")}
    assert expected
    for name, array in expected.items():
        assert np.array_equal(padded(store.clip(store.name.tolist().index(name))), array), name


def test_matching_follows_two_persons_whose_scores_change_rank():
    rng = np.random.default_rng(0)
    persons = np.stack([np.zeros((10, 18, 3)), np.ones((10, 18, 3))], axis=1) + rng.normal(0, 0.01, (10, 2, 18, 3))
    persons[..., 2] = np.where(np.arange(10)[:, None, None] % 2, [[0.2], [0.9]], [[0.8], [0.5]])
    order = np.argsort(-persons[..., 2].sum(-1), axis=1)
    ranked = np.take_along_axis(persons, order[..., None, None], axis=1)
    followed = match(ranked)
    assert np.abs(np.diff(followed[..., 0], axis=0)).max() < 0.2 < np.abs(np.diff(ranked[..., 0], axis=0)).max()
    assert followed[..., 2].sum((0, 2)).argmax() == 0


def test_broken_clips_are_omitted_each_with_a_reason(kinetics_raw, tmp_path, cli):
    raw = tmp_path / "raw"
    shutil.copytree(kinetics_raw, raw)
    folder = raw / "kinetics_train"
    clip = json.loads((folder / "aaa0000001_.json").read_text())

    def spoil(number: int, change) -> None:
        spoiled = json.loads(json.dumps(clip)) | {
            "label_index": json.loads((folder / f"aaa000000{number}_.json").read_text())["label_index"]
        }
        change(spoiled)
        (folder / f"aaa000000{number}_.json").write_text(json.dumps(spoiled))

    spoil(1, lambda c: c["data"][3]["skeleton"][0]["pose"].pop())
    spoil(2, lambda c: c["data"][3].update(frame_index=300))
    spoil(3, lambda c: c.update(label_index=7))
    spoil(4, lambda c: c["data"][3].pop("skeleton"))
    (folder / "aaa0000006_.json").write_text((folder / "aaa0000006_.json").read_text()[:-20])
    shutil.copy(folder / "aaa0000007_.json", folder / "zzz.json")
    out = tmp_path / "k.clips"
    assert cli("kinetics", "--raw", raw, "--out", out) == 0
    reasons = {
        entry["file"]: entry["reason"]
        for entry in json.loads((tmp_path / "k.clips.report.json").read_text())["left out"]
    }
    for name, word in (
        ("1_", "lists of equal length"),
        ("2_", "from 0 to 299"),
        ("3_", "in the label file, got 7"),
        ("4_", "expected frames"),
        ("6_", "truncated"),
    ):
        assert word in reasons.pop(f"aaa000000{name}.json")
    assert reasons == {"zzz.json": "not in kinetics_train_label.json"}
    assert cli("kinetics", "--raw", raw, "--out", tmp_path / "strict.clips", "--strict") == 2


def test_a_clip_in_both_folders_belongs_to_both_parts_if_it_is_the_same(kinetics_raw, tmp_path, cli, capsys):
    raw = tmp_path / "raw"
    shutil.copytree(kinetics_raw, raw)
    shutil.copy(raw / "kinetics_train" / "aaa0000001_.json", raw / "kinetics_val")
    labels = json.loads((raw / "kinetics_val_label.json").read_text())
    labels["aaa0000001_"] = json.loads((raw / "kinetics_train_label.json").read_text())["aaa0000001_"]
    (raw / "kinetics_val_label.json").write_text(json.dumps(labels))
    assert cli("kinetics", "--raw", raw, "--out", tmp_path / "k.clips", "--check") == 1
    assert "1 clip in both train and test (aaa0000001_)" in capsys.readouterr().out
    (raw / "kinetics_val" / "aaa0000001_.json").write_text("{}")
    assert cli("kinetics", "--raw", raw, "--out", tmp_path / "other.clips") == 2
