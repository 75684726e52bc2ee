"""Arguments of feeders have the annotated types and lie within their bounds."""

import inspect
import typing

import numpy as np
import pytest

from feeders import feeder_kinetics, feeder_ntu, feeder_pyskl, feeder_ucla
from feeders.batch_feeder import BatchFeeder
from tests.feeders.synthetic import random_clips, write_store

FEEDERS = [module.Feeder for module in (feeder_ntu, feeder_ucla, feeder_kinetics, feeder_pyskl)]
NAN = float("nan")


def refuse(feeder, path, message, **arguments):
    with pytest.raises(ValueError, match=message) as caught:
        feeder(**{"data_path": str(path), "split": "xsub", **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["abc", None, [8, 9], 8.5, True, 10**12, -1, NAN, "8", 10**400])
@pytest.mark.parametrize("feeder", FEEDERS, ids=lambda feeder: feeder.__module__)
def test_a_window_is_an_integer_of_limited_size(feeder, store, value):
    refuse(feeder, store, "window_size: expected an integer from [01] to 100000, got", window_size=value)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"repeat": 2.5}, "repeat: expected an integer from 1 to 1000000, got 2.5"),
        ({"repeat": 10**12}, "repeat: expected an integer"),
        ({"seed": 2**70}, "seed: expected an integer from"),
        ({"also": 5}, "also: expected a list, each joint.* got 5"),
        ({"hold_out": [0.5]}, r"hold_out: expected a list, each text, got \[0.5\]"),
        ({"data_path": 5}, "5: expected a clip store, got no folder"),
        ({"data_path": None}, "data_path: expected text, got None"),
        ({"data_path": "a\0b"}, "data_path: expected text"),
        ({"data_path": "a" * 5000}, "data_path: expected text"),
        ({"data_path": "a" * 300}, "expected a clip store, got no folder"),
        ({"data_path": "a" * 300 + ".npz"}, "cannot be read"),
        ({"split": ["xsub"]}, "split: expected text"),
        ({"skeleton": 5.5}, "skeleton: expected text, got 5.5"),
        ({"skeleton": [5]}, "skeleton: expected text"),
        ({"part": 3}, "part: expected train or test, got 3"),
        ({"modality": ["bone"]}, "modality: expected joint"),
        ({"label_path": [3]}, "label_path: expected text"),
    ],
)
def test_shared_arguments_of_the_wrong_type_or_size_are_refused(store, arguments, message):
    refuse(feeder_ntu.Feeder, store, message, **arguments)


@pytest.mark.parametrize(
    "feeder, arguments, message",
    [
        (feeder_ucla, {"largest_angle": "abc"}, "largest_angle: expected an integer from 0 to 180, got 'abc'"),
        (feeder_ucla, {"largest_angle": NAN}, "largest_angle: expected .* got nan"),
        (feeder_ucla, {"largest_angle": 181}, "largest_angle: expected"),
        (feeder_ntu, {"p_interval": [0.5, NAN]}, "p_interval: expected .* got .0.5, nan"),
        (feeder_ntu, {"p_interval": "all"}, "p_interval: expected a list, each a finite number, got 'all'"),
        (feeder_ntu, {"random_rot": 1}, "random_rot: expected true or false, got 1"),
        (feeder_ntu, {"unify": "yes"}, "unify: expected true or false"),
        (feeder_kinetics, {"random_move": None}, "random_move: expected true or false"),
        (feeder_pyskl, {"random_rot": True}, "random_rot: expected a finite number from 0.0 to 6.3, got True"),
        (feeder_pyskl, {"random_scale": NAN}, "random_scale: expected a finite number"),
        (feeder_pyskl, {"random_noise": -0.1}, "random_noise: expected a finite number"),
        (feeder_pyskl, {"num_clips": 10**9}, "num_clips: expected an integer from 1 to 1000"),
        (feeder_pyskl, {"align_spine": "no"}, "align_spine: expected true or false"),
        (feeder_pyskl, {"pre_normalize": 3}, "pre_normalize: expected 3d, 2d, .* or '', got 3"),
    ],
)
def test_arguments_of_one_feeder_of_the_wrong_type_or_size_are_refused(store, feeder, arguments, message):
    refuse(feeder.Feeder, store, message, **arguments)


def test_numbers_of_numpy_and_whole_numbers_for_floats_are_accepted(store):
    feeder = feeder_ntu.Feeder(str(store), "xsub", window_size=np.int64(8), p_interval=[1], repeat=np.int32(2))
    assert feeder.window_size == 8 and type(feeder.window_size) is int and feeder.p_interval == (1.0,)


def test_clips_are_repeated_in_the_training_part_only(store):
    train, test = (feeder_ntu.Feeder(str(store), "xsub", part, repeat=2) for part in ("train", "test"))
    assert len(train) == 2 * len(train.name) and len(test) == len(test.name)


def test_values_are_converted_as_those_of_a_configuration(store):
    feeder = feeder_ntu.Feeder(str(store), "xsub", p_interval=np.float32(0.5), also="bone")
    assert feeder.p_interval == (0.5,) and feeder.also == ("bone",)


@pytest.mark.parametrize("feeder", FEEDERS, ids=lambda feeder: feeder.__module__)
def test_the_signature_of_a_feeder_has_precise_annotations(feeder):
    kinds = {int, float, bool, str}
    for parameter in inspect.signature(feeder).parameters.values():
        kind = parameter.annotation
        if typing.get_origin(kind) is not None and typing.get_origin(kind) is not typing.Literal:
            (kind,) = typing.get_args(kind)
        assert kind in kinds or typing.get_origin(kind) is typing.Literal, parameter


def test_a_recipe_of_a_user_only_needs_streams(store):
    class Own(BatchFeeder):
        def streams(self, clip, random, modalities):
            x = self.clips.take(clip, random.integer(0, self.clips.length[clip][:, None], self.window_size))
            return {word: self.derive(x, word) for word in modalities}

    feeder = Own(str(store), "xsub", "test", modality="bone", window_size=5, also=["joint"])
    assert feeder.batch([0, 1], 0)["data_joint"].shape == (2, *feeder.shape) == (2, 3, 5, 25, 2)
    assert feeder.manifest["num_class"] == 4
    with pytest.raises(TypeError):
        feeder.manifest["num_class"] = 5


def test_data_that_does_not_fit_the_recipe_is_refused(tmp_path):
    clips, persons = random_clips([6, 9], 20, C=1)
    store = write_store(tmp_path / "line.clips", clips, [0, 1], persons, {"xsub": {"train": [0, 1]}})
    refuse(feeder_ucla.Feeder, store, "data_path: expected clips with x, y and z, got 1 channels")
    refuse(feeder_kinetics.Feeder, store, "random_move: expected clips with x and y, got 1", random_move=True)
    refuse(feeder_ntu.Feeder, store, "unify: expected the joints of .* got those of ucla", unify=True)
