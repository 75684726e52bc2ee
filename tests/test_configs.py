"""Every recipe in config/ is valid and makes a training step and an evaluation step on synthetic clips, on
the CPU."""

import copy
import functools
import importlib
import itertools
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from data.cli import class_names
from data.ntu.benchmark import NTU60, NTU120
from tests.feeders.synthetic import random_clips, write_store
from tests.model.zoo import FEW, NETWORKS, narrow, shortest
from torchlight.config.checks import idle_schedule
from torchlight.config.imports import import_object
from torchlight.config.load import load_config
from torchlight.config.options import Config
from torchlight.training import build, checkpoint, optim
from torchlight.training.run_dir import default_work_dir
from torchlight.training.teacher import Teacher, batch_key, teacher_configs

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "config"
BASES = sorted((CONFIG / "base").glob("*.yaml"))
NO_RECIPES = (CONFIG, CONFIG / "base", CONFIG / "search")
RECIPES = sorted(path for path in CONFIG.rglob("*.yaml") if path.parent not in NO_RECIPES)

SMALLER = 12  # a window of 300 frames is one of 25 here
FRAMES = 300 // SMALLER
LENGTHS = [FRAMES, 9, 18, 21, FRAMES, 5]  # of four training and two test clips

# folder under data/: classes, joints, persons, splits
BENCHMARKS = {
    "ntu": (60, 25, 2, ("xsub", "xview")),
    "ntu120": (120, 25, 2, ("xsub", "xset")),
    "kinetics": (400, 18, 2, ("kinetics",)),
    "NW-UCLA": (10, 20, 1, ("xview",)),
    "demo": (8, 25, 2, ("xsub", "xview")),
}
UNPREPARED = {"finegym": (99, 17, 2, ())}  # the same, of benchmarks whose published files are read as they are
PICKLES = {  # as pyskl names them: joints
    "ntu": {"ntu60_3danno.pkl": 25, "ntu60_hrnet.pkl": 17},
    "ntu120": {"ntu120_3danno.pkl": 25, "ntu120_hrnet.pkl": 17},
    "kinetics": {"k400_hrnet.pkl": 17},
    "finegym": {"gym_hrnet.pkl": 17},
}
WITHOUT_SPLITS = ("k400_hrnet.pkl", "gym_hrnet.pkl")
BODIES = {25: "graph.ntu_rgb_d", 20: "graph.ucla", 18: "graph.kinetics"}


def name_of(path: Path) -> str:
    return str(path.relative_to(CONFIG).with_suffix(""))


def prepared(folder: str) -> list[str]:
    """Stores that the preparation of a benchmark writes unless told otherwise."""
    recipes = ("ctrgcn",) if folder == "demo" else importlib.import_module(f"data.{folder}.prepare").BENCHMARK.recipes
    return [f"data/{folder}/{recipe}.clips" for recipe in recipes]


def labels_of(num_class: int) -> np.ndarray:
    """The highest label in both parts, so that a file without a class count tells it."""
    return np.array([0, 1, num_class - 1, 2, num_class - 1, 1])


def write_pickle(path: Path, num_class: int, num_point: int, splits: tuple[str, ...]) -> None:
    """3-D joints, or the 2-D poses of a body of 17 joints with scores in a picture."""
    clips, _ = random_clips(LENGTHS, num_point)
    records = [{"frame_dir": f"c{i}", "label": int(label)} for i, label in enumerate(labels_of(num_class))]
    records = [record | {"keypoint": clip.astype(np.float16)} for record, clip in zip(records, clips, strict=True)]
    if num_point == 17:
        for record in records:
            points = record["keypoint"]
            record |= {"keypoint": 100 + 30 * points[..., :2], "keypoint_score": np.abs(points[..., 2])}
            record["img_shape"] = (240, 320)
    if path.name.startswith("k400"):
        move_detections(records, path.with_name("part_0.pkl"))
    names = [record["frame_dir"] for record in records]
    halves = (("train", names[:4]), ("val", names[4:]))
    splits = ("",) if path.name in WITHOUT_SPLITS else [f"{split}_" for split in splits]
    parts = {split + part: ids for split in splits for part, ids in halves}
    path.write_bytes(pickle.dumps({"split": parts, "annotations": records}))


def move_detections(records: list[dict], path: Path) -> None:
    """The key points of records into another file, frame by frame without identities, as PYSKL has Kinetics-400."""
    found = {}
    for record in records:
        points, score = record.pop("keypoint"), record.pop("keypoint_score")
        M, T, V, _ = points.shape
        every = np.concatenate([points, score[..., None]], -1).swapaxes(0, 1).reshape(T * M, V, 3)
        found[record["frame_dir"]] = {"keypoint": every}
        record |= {"frame_inds": np.repeat(np.arange(T), M), "raw_file": f"elsewhere/{path.name}", "total_frames": T}
    path.write_bytes(pickle.dumps(found))


@functools.cache
def network(model: str, arguments: str) -> torch.nn.Module:
    """One network for all recipes that build the same one; arguments as JSON."""
    torch.manual_seed(0)
    return import_object(model)(**json.loads(arguments))


def network_of(config: Config) -> torch.nn.Module:
    """With the arguments of the recipe, and small in what it leaves open."""
    few = FEW.get(config.model.split(".")[1], {})
    return network(config.model, json.dumps(few | config.model_args, sort_keys=True))


@pytest.fixture(scope="module")
def small_networks():
    """Networks have one narrow block of each kind; their whole sizes are those of tests/benchmarks/test_models_page."""
    with pytest.MonkeyPatch.context() as patch:
        for name in NETWORKS:
            narrow(name, patch)
        yield
    network.cache_clear()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, small_networks) -> Path:
    """A folder with prepared data of every benchmark, a few frames long, and with the weights of every teacher."""
    place = tmp_path_factory.mktemp("workplace")
    for folder, (num_class, num_point, num_person, splits) in (BENCHMARKS | UNPREPARED).items():
        (place / "data" / folder).mkdir(parents=True)
        for file, joints in PICKLES.get(folder, {}).items():
            write_pickle(place / "data" / folder / file, num_class, joints, splits)
        if folder in UNPREPARED:
            continue
        clips, persons = random_clips(LENGTHS, num_point)
        if num_person == 1:
            clips, persons = [clip[:1] for clip in clips], [(0,)] * len(clips)
        parts = {split: {"train": [0, 1, 2, 3], "test": [4, 5]} for split in splits}
        facts = {"num_class": num_class, "skeleton": BODIES[num_point], "window": FRAMES}
        for store in prepared(folder):
            pad = "repeat" if "ntu" in store and "agcn" in store else "zero"
            write_store(place / store, clips, labels_of(num_class), persons, parts, pad=pad, **facts)
    for config in map(load_config, RECIPES):
        for teacher in teacher_configs(config):
            weights = place / teacher.weights
            weights.parent.mkdir(parents=True, exist_ok=True)
            if not weights.exists():
                torch.save({"model": network_of(teacher).state_dict()}, weights)
    return place


@pytest.fixture
def here(workplace, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.chdir(workplace)


def smaller(config: Config) -> Config:
    """The same recipe with short windows, as far as the network takes them."""
    short, least = {}, shortest(network_of(config))
    for key in ("train_feeder_args", "test_feeder_args"):
        if "window_size" in getattr(config, key):
            short[key] = {"window_size": max(getattr(config, key)["window_size"] // SMALLER, least)}
        if "size" in getattr(config, key):
            short[key]["size"] = 16
    return load_config(config.config, short)


def give_teachers(config: Config, objective: torch.nn.Module) -> None:
    models = [copy.deepcopy(network_of(teacher)) for teacher in teacher_configs(config)]
    for model, teacher in zip(models, teacher_configs(config), strict=True):
        checkpoint.load_weights(model, teacher.weights, teacher.weights_key)
    objective.teacher = Teacher(models, [batch_key(t, config) for t in teacher_configs(config)])


@pytest.mark.parametrize("file", RECIPES, ids=name_of)
def test_a_recipe_is_valid_and_makes_a_training_and_an_evaluation_step(file, here):
    classes = build.preflight(load_config(file), ("feeder", "model", "objective"))
    config = smaller(load_config(file))
    feeders = {part: build.build_feeder(config, classes["feeder"], part) for part in ("train", "test")}
    for feeder in feeders.values():
        build.check_fit(config, feeder)
    model, objective = network_of(config), build.build_objective(config, classes["objective"])
    if config.teacher:
        give_teachers(config, objective)

    optimizer = optim.build_optimizer(config, model)
    optim.set_schedule(optimizer, config, 1, 1 + config.num_epoch)  # where a warm-up by steps has left 0
    assert not config.freeze or optim.set_frozen(model, config.freeze, True)
    before = [p.detach().clone() for p in model.parameters()]
    model.train()
    for step in range(config.update_freq):
        loss, _, _ = objective(model, feeders["train"].batch([2 * step, 2 * step + 1], epoch=0))
        (loss / config.update_freq).backward()
        assert torch.isfinite(loss)
    optimizer.step()
    optimizer.zero_grad()
    optim.set_frozen(model, config.freeze, False)
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))

    model.eval()
    batch = feeders["test"].batch([0, 1], epoch=0)
    with torch.inference_mode():
        logits = objective.predict(model, batch)
    assert logits.shape == (2 * batch.get("clips", 1), config.model_args["num_class"]) and logits.isfinite().all()


@pytest.mark.parametrize("file", RECIPES, ids=name_of)
def test_a_recipe_reads_every_stream(file, here):
    short = smaller(load_config(file))
    streams = ("limb",) if "size" in short.test_feeder_args else ("bone", "joint_motion", "bone_motion")
    for modality in streams:
        config = load_config(
            file,
            {"modality": modality} | {key: getattr(short, key) for key in ("train_feeder_args", "test_feeder_args")},
        )
        for part in ("train", "test"):
            feeder = build.build_feeder(config, import_object(config.feeder), part)
            data = feeder.batch([0, 1], epoch=0)["data"]
            assert data.shape[1:] == feeder.shape and data.abs().sum() > 0


@pytest.mark.parametrize("file", RECIPES, ids=name_of)
def test_a_recipe_reads_what_the_benchmark_of_its_folder_writes(file):
    config, (folder, *split) = load_config(file), file.relative_to(CONFIG).parent.parts
    num_class, num_point, num_person, splits = (BENCHMARKS | UNPREPARED)[folder]
    file = Path(config.test_feeder_args["data_path"]).name
    num_point, splits = PICKLES.get(folder, {}).get(file, num_point), ("",) if file in WITHOUT_SPLITS else splits
    classes = config.test_feeder_args.get("classes") or range(num_class)
    assert classes == config.train_feeder_args.get("classes", classes) and set(classes) <= set(range(num_class))
    expected = [len(classes), num_point, num_person]
    assert [config.model_args[key] for key in ("num_class", "num_point", "num_person")] == expected
    for arguments in (config.train_feeder_args, config.test_feeder_args):
        assert arguments["data_path"] in [
            *(prepared(folder) if folder in BENCHMARKS else ()),
            *(f"data/{folder}/{file}" for file in PICKLES.get(folder, {})),
        ]
        named = arguments.get("split", "")
        assert named in splits and split in ([], ["recipe"], [named])  # recipe/ holds our own ones


def test_the_benchmarks_have_the_classes_and_splits_that_the_recipes_say():
    assert {folder: counts[0] for folder, counts in BENCHMARKS.items()} == {
        folder: len(class_names(folder)) for folder in BENCHMARKS
    }
    found = {edition.folder: tuple(edition.splits) for edition in (NTU60, NTU120)} | {"demo": tuple(NTU60.splits)}
    names, labels = np.array(["a01_s01_e00_v01"]), np.array([0])
    found["NW-UCLA"] = tuple(importlib.import_module("data.NW-UCLA.prepare").view_split(names, labels))
    found["kinetics"] = tuple(
        importlib.import_module("data.kinetics.prepare").split({"train": frozenset(names)}, names, labels)
    )
    assert found == {folder: facts[3] for folder, facts in BENCHMARKS.items()}


@pytest.mark.parametrize("file", [*BASES, *RECIPES], ids=name_of)
def test_the_header_of_a_file_names_the_origin_of_the_recipe(file):
    header = " ".join(itertools.takewhile(lambda line: line.startswith("# "), file.read_text().splitlines()))
    assert re.search(r"recipe|published|trains? on|teacher|demo", header), header


def test_a_base_has_no_base_and_is_used_by_some_recipe():
    used = {(path.parent / yaml.safe_load(path.read_text()).get("base", "")).resolve() for path in RECIPES}
    assert not [path for path in BASES if "base" in yaml.safe_load(path.read_text())]
    assert set(BASES) <= used


@pytest.mark.parametrize("file", RECIPES, ids=name_of)
def test_the_folder_of_a_run_follows_from_its_file_and_its_whole_schedule_has_an_effect(file):
    config = load_config(file, {"modality": "bone"})
    assert default_work_dir(config) == Path("work_dir") / name_of(file) / "bone"
    assert not idle_schedule(config)


@pytest.mark.parametrize("file", [f for f in RECIPES if "teacher" in f.read_text()], ids=name_of)
def test_the_teacher_of_a_recipe_is_the_result_of_a_recipe_on_the_same_split(file):
    config = load_config(file)
    for teacher in teacher_configs(config):
        run = Path(teacher.weights).parent
        file_of_teacher = CONFIG / run.relative_to("work_dir").parent.with_suffix(".yaml")
        source = load_config(file_of_teacher, {"modality": teacher.modality})
        assert default_work_dir(source) == run
        assert (source.model, source.model_args) == (teacher.model, teacher.model_args)
        assert source.test_feeder_args == config.test_feeder_args
