"""Properties of every feeder."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader

from feeders import (
    feeder_kinetics,
    feeder_ntu,
    feeder_pyskl,
    feeder_skateformer,
    feeder_skateformer_ucla,
    feeder_ucla,
)
from feeders.modality import bone, motion
from graph import hand, kinetics, ntu_rgb_d, ucla
from tests.feeders.synthetic import rewrite_manifest
from torchlight.system.modalities import COORDINATES

RECIPES = ("ntu", "ucla", "kinetics", "pyskl", "skateformer", "skateformer_ucla")


def identity(batch):
    return batch


@pytest.fixture(params=RECIPES)
def make(request, store, ucla_store, kinetics_store):
    """A training feeder with everything random that its recipe has."""
    recipes = {
        "ntu": (feeder_ntu, store, "xsub", dict(p_interval=[0.5, 1], random_rot=True)),
        "ucla": (feeder_ucla, ucla_store, "xview", {}),
        "kinetics": (
            feeder_kinetics,
            kinetics_store,
            "all",
            dict(window_size=50, random_choose=True, random_shift=True, random_move=True),
        ),
        "pyskl": (feeder_pyskl, store, "xsub", dict(random_rot=0.3, random_scale=0.1, random_noise=0.01)),
        "skateformer": (feeder_skateformer, store, "xsub", dict(p_interval=[0.5, 1], intra_prob=1, inter_prob=0)),
        "skateformer_ucla": (feeder_skateformer_ucla, ucla_store, "xview", {}),
    }
    module, path, split, args = recipes[request.param]
    return lambda **more: module.Feeder(str(path), split, **{"part": "train", **args, **more})


@pytest.mark.parametrize("modality", COORDINATES)
def test_a_batch_keeps_the_contract(make, modality):
    feeder = make(modality=modality, repeat=2)
    batch = feeder.__getitems__([len(feeder) - 1, 0, 1])
    N = len(feeder) // 2
    assert (
        batch["data"].shape == (3, *feeder.shape)
        and batch["data"].dtype == torch.float32
        and batch["data"].is_contiguous()
    )
    assert feeder.shape == (feeder.channels, feeder.shape[1], feeder.num_point, feeder.num_person)
    assert batch["index"].tolist() == [N - 1, 0, 1] and batch["label"].tolist() == feeder.label[[N - 1, 0, 1]].tolist()
    assert feeder.frames.shape == (N,) and feeder.frames.min() > 0
    assert len(feeder.name) == N and feeder.num_class > feeder.label.max() and torch.isfinite(batch["data"]).all()
    one = feeder[1]
    assert torch.equal(one["data"], batch["data"][2]) and one["label"].shape == ()


def test_a_clip_does_not_depend_on_the_batch_it_is_in(make):
    feeder = make(repeat=3)
    together = feeder.batch(range(len(feeder)), 5)["data"]
    order = torch.randperm(len(feeder), generator=torch.Generator().manual_seed(0))
    shuffled = feeder.batch(order.tolist(), 5)["data"]
    torch.testing.assert_close(shuffled, together[order], rtol=0, atol=0)
    alone = torch.cat([feeder.batch([i], 5)["data"] for i in range(len(feeder))])
    torch.testing.assert_close(alone, together, rtol=0, atol=0)


def test_epochs_seeds_and_repeats_differ_and_are_reproducible(make):
    feeder = make(repeat=2)
    N = len(feeder) // 2
    first = feeder.batch(range(2 * N), 0)["data"]
    assert torch.equal(first, make(repeat=2).batch(range(2 * N), 0)["data"])
    for other in (
        feeder.batch(range(2 * N), 1)["data"],
        make(repeat=2, seed=1).batch(range(2 * N), 0)["data"],
        first.roll(N, 0),
    ):
        same = (first == other).flatten(1).all(1)
        assert int(same.sum()) <= 1, same  # the clip of one frame, scaled, is always the same
    feeder.set_epoch(1)
    assert torch.equal(feeder.__getitems__([0, 1])["data"], feeder.batch([0, 1], 1)["data"])


def test_other_modalities_are_derived_from_the_same_augmented_clip(make):
    batch = make(also=COORDINATES[1:]).batch([0, 1, 2], 9)
    for word in COORDINATES[1:]:
        assert torch.equal(batch[f"data_{word}"], make(modality=word).batch([0, 1, 2], 9)["data"])
    assert torch.equal(batch["data"], make().batch([0, 1, 2], 9)["data"])


def test_workers_do_not_change_batches_and_get_the_next_epoch(make):
    feeder = make(repeat=4)
    batches = list(BatchSampler(range(len(feeder)), 5, drop_last=False))
    loader = DataLoader(feeder, batch_sampler=batches, collate_fn=identity, num_workers=2, persistent_workers=True)
    for epoch in (0, 1):
        feeder.set_epoch(epoch)
        for indices, batch in zip(batches, loader, strict=True):
            assert torch.equal(batch["data"], feeder.batch(indices, epoch)["data"])


def test_a_feeder_can_be_pickled_without_its_clips(make):
    feeder = make(also=["bone"])
    content = pickle.dumps(feeder)
    assert len(content) < feeder.clips.frames.nbytes
    again = pickle.loads(content)
    assert torch.equal(again.batch([0, 1], 2)["data_bone"], feeder.batch([0, 1], 2)["data_bone"])


def test_moved_clips_give_the_same_batch(make):
    feeder = make()
    before = feeder.batch([0, 1], 0)
    after = feeder.to("cpu").batch([0, 1], 0, device="cpu")
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    "args, text",
    [
        ({"modality": "velocity"}, "modality: expected joint, bone, .* or kbone_motion, got 'velocity'"),
        ({"also": ["bones"]}, "also: expected a list, each joint, .* got .'bones'"),
        ({"part": "val"}, "part: expected train or test, got 'val'"),
        ({"repeat": 0}, "repeat: expected an integer from 1 to 1000000, got 0"),
        ({"window_size": -1}, "window_size: expected an integer from [01] to 100000, got -1"),
        ({"skeleton": "graph.hand"}, "expected clips of 21 joints as in the skeleton hand, got"),
        (
            {"skeleton": "graph.nobody"},
            "skeleton: expected a module of graph/, a body layout or .*, got 'graph.nobody'",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(make, args, text):
    with pytest.raises(ValueError, match=text):
        make(**args)


def test_an_index_beyond_the_end_is_refused(make):
    feeder = make()
    with pytest.raises(IndexError):
        feeder[len(feeder)]
    assert torch.equal(feeder[-1]["data"], feeder[len(feeder) - 1]["data"])


def test_a_store_without_the_part_is_refused(store):
    with pytest.raises(ValueError, match="expected a split with a part, xsub/train, xsub/test, got 'xview'/test"):
        feeder_ntu.Feeder(str(store), "xview", "test")


def test_the_split_of_a_store_with_only_one_needs_no_name(store):
    named, unnamed = (feeder_ntu.Feeder(str(store), split, "test") for split in ("xsub", ""))
    assert unnamed.name.tolist() == named.name.tolist()


@pytest.mark.parametrize(
    "skeleton", [body.SKELETON for body in (ntu_rgb_d, ucla, kinetics, hand)], ids=lambda s: s.name
)
def test_bones_add_up_along_the_chain_to_the_root(skeleton):
    x = torch.randn(2, 3, 4, skeleton.num_joint, 2, dtype=torch.float64)
    b = bone(x, skeleton.bone_parents)
    root = next(i for i, p in enumerate(skeleton.bone_parents) if i == p)
    for joint in range(skeleton.num_joint):
        total, at = x[:, :, :, root].clone(), joint
        while at != root:
            total += b[:, :, :, at]
            at = skeleton.bone_parents[at]
        torch.testing.assert_close(total, x[:, :, :, joint])


def test_motions_add_up_to_the_displacement_and_end_with_zeros():
    x = torch.randn(2, 3, 9, 5, 2, dtype=torch.float64)
    m = motion(x)
    torch.testing.assert_close(m.sum(2), x[:, :, -1] - x[:, :, 0])
    assert (m[:, :, -1] == 0).all()
    short = motion(x, last=torch.tensor([4, 8]))
    assert (short[0, :, 4:] == 0).all() and torch.equal(short[0, :, :4], m[0, :, :4]) and torch.equal(short[1], m[1])


def test_scores_of_bones_and_motions_are_means():
    x = torch.rand(1, 3, 6, 3, 1)
    b, m = bone(x, (0, 0, 1), score=True), motion(x, score=True)
    np.testing.assert_allclose(b[0, 2, :, 2], (x[0, 2, :, 2] + x[0, 2, :, 1]) / 2)
    assert torch.equal(b[:, 2, :, 0], x[:, 2, :, 0]) and torch.equal(b[:, :2, :, 1], x[:, :2, :, 1] - x[:, :2, :, 0])
    np.testing.assert_allclose(m[0, 2, :-1], (x[0, 2, 1:] + x[0, 2, :-1]) / 2)
    assert (m[:, :, -1] == 0).all()


def test_the_examples_of_the_docs_run(store):
    text = (Path(__file__).parents[2] / "docs" / "feeders.md").read_text()
    code, own = (part.split("```")[0] for part in text.split("```python\n")[1:])
    code = code.replace("data/ntu/ctrgcn.clips", str(store)).replace("64, drop_last=True", "3, drop_last=True")
    scope = {"__name__": __name__}
    exec(code, scope)
    assert scope["batch"]["data"].shape == (3, 3, 64, 25, 2)
    exec(own, scope)
    one, two = (scope["Feeder"](str(store), "xsub", window_size=9, scale=scale).batch([0, 1], 0) for scale in (1, 2))
    assert one["data"].shape == (2, 3, 9, 25, 2) and torch.equal(2 * one["data"], two["data"])


def test_joints_can_be_appended_by_every_recipe(make):
    more = {"random_move": False} if "random_move" in make().__dict__ else {}
    feeder = make(append_joints=True, modality="bone", **more)
    batch, joints = feeder.batch([0, 1], 0), make(**more).batch([0, 1], 0)["data"]
    assert batch["data"].shape[1:] == feeder.shape and feeder.shape[0] == 2 * feeder.channels
    assert torch.equal(batch["data"][:, feeder.channels :], joints)


def test_modalities_relative_to_the_center_keep_the_coordinates_of_the_center(make):
    more = {"random_move": False} if "random_move" in make().__dict__ else {}
    feeder = make(relative=["joint", "bone"], also=["bone", "joint_motion"], **more)
    batch, plain = feeder.batch([0, 1], 0), make(also=["joint_motion"], **more).batch([0, 1], 0)
    center, root = (
        feeder.skeleton.center,
        next(joint for joint, parent in enumerate(feeder.bone_parents) if joint == parent),
    )
    x = plain["data"]
    expected = x - x[:, :, :, center, None]
    expected[:, :, :, center] = x[:, :, :, center]
    torch.testing.assert_close(batch["data"], expected)
    torch.testing.assert_close(batch["data_bone"][:, :, :, root], x[:, :, :, root])
    torch.testing.assert_close(batch["data_joint_motion"], plain["data_joint_motion"])


@pytest.mark.parametrize("more", [{"append_joints": True}, {"relative": ["joint"]}])
def test_stored_bones_give_no_joints(store, more):
    bones = str(rewrite_manifest(store, modality="bone"))
    assert feeder_ntu.Feeder(bones, "xsub", modality="bone").stored == "bone"
    with pytest.raises(ValueError, match="modality: expected bone, the modality of the data"):
        feeder_ntu.Feeder(bones, "xsub", modality="bone", **more)
