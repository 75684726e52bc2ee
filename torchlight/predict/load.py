"""Loading of a checkpoint as a trained stream: network, objective, feeder and recipe, ready for prediction."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from data.known_facts import known_facts
from data.recipes import Prepared, Recipe
from graph.body import MAX_JOINTS, Skeleton
from graph.skeleton import find_skeleton
from torchlight.config.load import combine, load_config
from torchlight.config.options import Config, ConfigError
from torchlight.contract import ClipFeeder, DrawnFeeder, Feeder
from torchlight.export.run import is_exported, open_exported
from torchlight.predict.clips import Clip
from torchlight.system.consent import ADMITTED
from torchlight.system.text import quote
from torchlight.system.yaml_files import parse_yaml
from torchlight.training import build, checkpoint, engine
from torchlight.training.clip_facts import clip_facts
from torchlight.zoo import catalog
from torchlight.zoo.download import local_file

log = logging.getLogger("torchlight")
# Classes that a checkpoint may use; a configuration from the user may use all classes that are allowed in training.
OWN = ("model.", "feeders.", "torchlight.objective.", "torchlight.distillation.", "torchlight.contrastive.")
USED = ("model", "model_args", "feeder", "test_feeder_args", "objective", "objective_args", "modality", "seed")
USED += ("test_batch_size", "precision", "tf32")  # the options of a training that predictions depend on
EXPORTED = ("feeder", "test_feeder_args", "modality", "seed", "test_batch_size")  # options in an exported network
EXPORT_RUNNING = ("device", "test_batch_size")  # options of a prediction with an exported network
CUSTOM_GRAPH = "graph.custom.Graph"
EXAMPLES = 4  # number of clips on which an exported network is compared
PICTURE = (1080, 1920)  # height and width, for clips of poses in pixels


@dataclass
class TrainedStream:
    """One trained network with its objective, feeder and recipe.

    facts: as returned by `torchlight.training.clip_facts`. The network is on `device`, in evaluation mode.
    """

    path: Path
    config: Config
    facts: Mapping[str, Any]
    recipe: Recipe
    feeder: type[ClipFeeder]
    model: nn.Module
    objective: nn.Module
    device: torch.device

    @property
    def num_class(self) -> int:
        """Number of classes."""
        return self.facts["num_class"]

    @property
    def repeated_to(self) -> int | None:
        """Number of frames to which a window is repeated if the training clips were padded with zeros; else None."""
        arguments, facts = self.config.test_feeder_args, self.facts
        if arguments.get("sampling") == "pad":
            return arguments.get("window_size")
        return facts.get("window") if facts.get("pad") == "zero" and facts.get("recipe") != "ctrgcn" else None

    def feed(self, clips: Sequence[Clip]) -> Feeder:
        """A feeder of these clips, with the arguments of the test feeder."""
        facts = {key: value for key, value in self.facts.items() if key not in ("modality", "body", "lengths")}
        return self.feeder.from_clips(
            [clip.prepared.frames for clip in clips],
            facts | {"skeleton": self.recipe.skeleton},
            [clip.prepared.image for clip in clips],
            **self.config.test_feeder_args | build.feeder_extras(self.config, "test"),
        )

    def example(self) -> dict[str, torch.Tensor]:
        """A batch of random clips prepared by the test feeder; every second clip has a single person.

        For feeders that draw heatmaps, which are large, there are fewer clips.

        Raises:
            ConfigError: the feeder returns clips of different lengths.
        """
        draw, facts, clips = np.random.default_rng(0), self.facts, []
        M, V, C = facts["num_person"], self.recipe.skeleton.num_joint, facts["channels"]
        is_drawn = issubclass(self.feeder, DrawnFeeder)
        for i in range(2 if is_drawn else EXAMPLES):
            T = 40 + 10 * i
            frames = draw.normal(size=(M, 1, V, C)) + draw.normal(size=(M, T, V, C)).cumsum(1) / 30
            if is_drawn:  # pixels, and scores
                frames = np.concatenate([500 + 100 * frames[..., :2], np.ones_like(frames[..., 2:])], -1)
            if i % 2:
                frames[1:] = 0
            image = PICTURE if is_drawn else None
            clips.append(Clip(str(i), "", 0.0, 0.0, Prepared(str(i), frames.astype(np.float32), image)))
        batch, first = (self.feed(some).batch(list(range(len(some))), 0) for some in (clips, clips[:1]))
        if batch["data"].shape[2] != first["data"].shape[2]:
            raise ConfigError(["test_feeder_args.window_size: expected a number of frames, got clips of any length"])
        return batch


def open_stream(
    path: str | Path, config: Config | None, device: torch.device, changes: dict[str, Any], running: dict[str, Any]
) -> TrainedStream:
    """Load a trained stream.

    path: a file, or `zoo:NAME`. config: the experiment, for checkpoints of other programs or with classes from outside
    this project; None: the one in the checkpoint or the zoo. changes: facts that the user overrides, such as
    `recipe`. running: options that the user overrides, such as `precision`.

    Raises:
        ValueError: the file cannot be read, or its facts are incomplete and no configuration is given.
    """
    if config is None and str(path).startswith(catalog.PREFIX):
        config = load_config(None, {"weights": str(path), "phase": "predict"})
    path = local_file(str(path))
    if is_exported(path):
        return open_export(path, config, device, changes, running)
    content = checkpoint.load(path)
    own = config is None
    config = replace(config_of(content, path) if own else config, **running)
    found = content.get("clips") if isinstance(content, dict) else None
    try:
        classes = build.preflight(config, ("feeder", "model", "objective"))
    except ConfigError as error:
        raise ConfigError([f"{path}: config: {'; '.join(error.problems)}"] if own else error.problems) from error
    if not isinstance(classes["feeder"], ClipFeeder):
        raise ConfigError(
            [f"feeder: expected a class with from_clips (torchlight.contract.ClipFeeder), got {config.feeder}"]
        )
    facts = check_facts(found if found is not None else facts_of_data(config, classes["feeder"]), path)
    facts = complete_facts(facts, config) | changes
    skeleton = skeleton_of(facts, config, path)
    if config.model_args.get("graph") == CUSTOM_GRAPH:  # the file of the skeleton may be on another machine
        graph_args = config.model_args.get("graph_args") or {}
        config.model_args = config.model_args | {"graph_args": graph_args | {"skeleton": skeleton}}
    model = build.build_model(config, classes["model"])
    key = "model_ema" if config.ema and not config.weights_key else config.weights_key
    checkpoint.load_weights(model, path, key, config.ignore_weights, config.model_args)
    model = engine.for_inference(model.to(device)).eval()
    objective = build.build_objective(config, classes["objective"]).to(device).eval()
    recipe = recipe_of(skeleton, facts, changes)
    return TrainedStream(path, config, facts, recipe, classes["feeder"], model, objective, device)


def open_export(
    path: Path, config: Config | None, device: torch.device, changes: dict[str, Any], running: dict[str, Any]
) -> TrainedStream:
    """Load an exported network as a stream; its metadata replace the facts of a checkpoint. Arguments as in
    `open_stream`.

    Raises:
        ValueError: the file cannot be read, or an option has no effect on an exported network.
    """
    wrong = (
        ["config"] if config is not None and config.config else [key for key in running if key not in EXPORT_RUNNING]
    )
    if wrong:
        raise ConfigError(
            [f"{key}: expected none with an exported network, got {path}; export it again" for key in wrong]
        )
    network = open_exported(path)
    config = replace(config_of(network.metadata, path, ("feeder",)), **running)
    try:
        feeder = build.preflight(config, ("feeder",))["feeder"]
    except ConfigError as error:
        raise ConfigError([f"{path}: config: {'; '.join(error.problems)}"]) from error
    facts = check_facts(network.metadata.get("clips"), path) | changes
    skeleton = skeleton_of(facts, config, path)
    if facts.get("targets") == "multi-label":
        config.objective = "torchlight.objective.MultiLabel"
    objective = build.build_objective(config, build.preflight(config, ("objective",))["objective"])
    return TrainedStream(
        path, config, facts, recipe_of(skeleton, facts, changes), feeder, network.eval(), objective, device
    )


def recipe_of(skeleton: Skeleton, facts: dict[str, Any], changes: dict[str, Any]) -> Recipe:
    """The recipe that prepares recordings like the training clips; raises ConfigError if the body layout does not have
    this recipe."""
    recipe = Recipe(skeleton, facts)
    if "recipe" in changes and changes["recipe"] not in recipe.known:
        known = " or ".join(recipe.known) or "none"
        raise ConfigError([f"recipe: expected {known} for {skeleton.name}, got {quote(changes['recipe'])}"])
    return recipe


def config_of(content: Any, path: Path, classes: Sequence[str] = ("model", "feeder", "objective")) -> Config:
    """The configuration in a checkpoint or in the metadata of an exported network. classes: options that name its
    classes. Raises ValueError if there is no configuration or a class is not allowed."""
    found = content.get("config") if isinstance(content, dict) else None
    if not isinstance(found, str | dict):
        raise ValueError(f"{path}: expected a checkpoint of this program, got weights only; give --config, too")
    options = parse_yaml(found, f"{path}: config") if isinstance(found, str) else found
    if not isinstance(options, dict):
        raise ValueError(f"{path}: config: expected a mapping of options, got {quote(options)}")
    problems: list[str] = []
    used = {key: value for key, value in options.items() if key in USED}
    values = combine([(f"{path}: config", used)], problems)
    if problems:
        raise ConfigError(["; ".join(problems)])
    config = replace(Config(), **values, phase="predict")
    for key in classes:
        name = getattr(config, key)
        if not isinstance(name, str) or not (name.startswith(OWN) or name.split(".")[0] in ADMITTED):
            raise ValueError(
                f"{path}: config: {key}: expected a class of this project, got {quote(name)}; if you trust it, admit "
                "its module with --import, or give the configuration of the training with --config"
            )
    return config


def facts_of_data(config: Config, feeder: type) -> dict[str, Any]:
    """The facts for a checkpoint without facts, from the data of its configuration or, if it is missing, from its path.

    Raises:
        ConfigError: the data does not exist, and its path is not that of a known benchmark.
    """
    try:
        clips = build.build_feeder(config, feeder, "test")
    except ConfigError as error:
        found = known_facts(str(config.test_feeder_args.get("data_path", "")), getattr(feeder, "detected", 2))
        if found is None:
            reason = "; ".join(error.problems)
            raise ConfigError([f"{reason}; needed because the checkpoint has no facts about its clips"]) from error
        return found | {key: config.model_args[key] for key in ("num_class",) if key in config.model_args}
    arguments = config.train_feeder_args or config.test_feeder_args  # a checkpoint's configuration has the latter only
    try:
        train = build.build_feeder(replace(config, train_feeder_args=arguments), feeder, "train")
    except ConfigError:  # only the test part exists: the lengths of training clips are not known
        return {key: value for key, value in clip_facts(clips, clips).items() if key != "lengths"}
    return clip_facts(train, clips)


def complete_facts(facts: dict[str, Any], config: Config) -> dict[str, Any]:
    """Facts with those of the benchmark that its data does not contain: the frame rate of 2-D poses, and the recipe of
    a published `.npz` file."""
    known = known_facts(str(config.test_feeder_args.get("data_path", "")))
    if known is not None and "rate" in known:
        facts = {"rate": known["rate"]} | facts
    if facts.get("recipe") is not None or known is None or known.get("recipe") is None:
        return facts
    if known["num_class"] != facts["num_class"]:
        known.pop("class_names")
    return known | {key: value for key, value in facts.items() if value is not None}


def check_facts(facts: Any, path: Path) -> dict[str, Any]:
    """The facts of a checkpoint, which may be damaged or from another program; raises ValueError."""
    origin = f"{path}: clips"
    if not isinstance(facts, dict) or type(facts.get("num_class")) is not int or facts["num_class"] < 1:
        raise ValueError(f"{origin}: expected facts about the training clips, got {quote(facts)}")
    names = facts.get("class_names")
    if names is not None and (not isinstance(names, list) or not all(isinstance(name, str) for name in names)):
        raise ValueError(f"{origin}: class_names: expected a list of names, got {quote(names)}")
    for key in ("num_person", "channels"):
        if type(facts.get(key)) is not int or not 0 < facts[key] <= 100:
            raise ValueError(f"{origin}: {key}: expected a whole number from 1 to 100, got {quote(facts.get(key))}")
    lengths = facts.get("lengths")
    if lengths is not None and not (
        isinstance(lengths, list) and len(lengths) == 3 and all(isinstance(x, float) and 0 < x < 1e7 for x in lengths)
    ):
        raise ValueError(f"{origin}: lengths: expected three numbers of frames, got {quote(lengths)}")
    for key, kind in {
        "recipe": str,
        "layout": str,
        "benchmark": str,
        "pad": str,
        "window": int,
        "persons_in": int,
        "rate": float,
    }.items():
        if facts.get(key) is not None and type(facts[key]) is not kind:
            raise ValueError(f"{origin}: {key}: expected {kind.__name__}, got {quote(facts[key])}")
    return facts


def skeleton_of(facts: dict[str, Any], config: Config, path: Path) -> Skeleton:
    """The body layout of the clips; raises ValueError if the checkpoint does not contain it.

    If the feeder has no skeleton, only the number of joints is known. The joints are then named by their numbers, and a
    joint that is missing in a long gap keeps its offset from the first joint. If the feeder adds joints, the body
    layout is that of the data.
    """
    if config.test_feeder_args.get("middle_joints"):
        return find_skeleton("graph.coco")
    if facts.get("body") is not None:
        return Skeleton.from_table(facts["body"])
    if facts.get("skeleton"):
        return find_skeleton(facts["skeleton"])
    V = facts.get("num_point")
    if type(V) is int and 0 < V <= MAX_JOINTS:
        return Skeleton(f"{V} joints", tuple(map(str, range(V))), (0,) * V, (0,) * V, 0)
    raise ValueError(
        f"{path}: expected the skeleton of the clips, got none; give --config with test_feeder_args.skeleton"
    )
