"""Raw files of the benchmarks, and checkpoints that predict them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.conftest import cli, kinetics_raw, ntu_raw  # noqa: F401
from torchlight.config.options import Config
from torchlight.training import build, checkpoint, engine
from torchlight.training.clip_facts import clip_facts

SMALL = {"model": "model.ctrgcn.Model", "channels": [8, 8]}


@pytest.fixture(scope="session")
def ucla_raw(tmp_path_factory) -> Path:
    """Twelve synthetic clips in the format of NW-UCLA: two actions, two performers, three views."""
    folder = tmp_path_factory.mktemp("ucla_raw")
    draw = np.random.default_rng(5)
    for action in (1, 2):
        for performer in (1, 2):
            for view in (1, 2, 3):
                poses = draw.normal(size=(int(draw.integers(20, 60)), 20, 3)).cumsum(0) / 30 + draw.normal(size=(20, 3))
                name = f"a{action:02d}_s{performer:02d}_e00_v{view:02d}"
                (folder / f"{name}.json").write_text(json.dumps({"label": action, "skeletons": poses.tolist()}))
    return folder


def save_stream(
    folder: Path, graph: str, persons: int, joints: int, seed: int = 3, graph_args: dict | None = None, **options
) -> tuple[Path, Config]:
    """A checkpoint with random weights, as a training writes it, and its configuration."""
    torch.manual_seed(seed)
    network = options.pop("network", SMALL)
    noise = 0.3 if network is SMALL else 0.08  # with 0.3, the logits of deep networks would be huge
    config = replace(Config(), phase="test", device=["cpu"], objective="torchlight.objective.Classification", **options)
    config.model = network["model"]
    config.model_args = {"num_point": joints, "num_person": persons, "graph": graph, "graph_args": graph_args or {}}
    config.model_args |= {key: value for key, value in network.items() if key != "model"}
    classes = build.preflight(replace(config, model_args=config.model_args | {"num_class": 1}), ("feeder",))
    feeder = build.build_feeder(config, classes["feeder"], "test")
    config.model_args |= {"num_class": feeder.num_class}
    model = build.build_model(config, build.preflight(config, ("model",))["model"])
    for value in model.state_dict().values():  # so that batch norms and all blocks have an effect
        if value.is_floating_point():
            value.add_(noise * torch.rand(value.shape))
    classifier = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    classifier.weight.data.div_(100)  # probabilities that differ between clips
    path = folder / "last.pt"
    facts = clip_facts(feeder, feeder)
    checkpoint.save(path, {"model": model.state_dict(), "config": config.to_yaml(), "clips": facts})
    return path, config


def scores_of_test(path: Path, config: Config) -> dict[str, np.ndarray]:
    """{clip: scores} of the test part, as `--phase test` computes them."""
    classes = build.preflight(config, ("feeder", "model", "objective"))
    feeder = build.build_feeder(config, classes["feeder"], "test")
    model = build.build_model(config, classes["model"])
    checkpoint.load_weights(model, path)
    objective = build.build_objective(config, classes["objective"])
    batch = feeder.batch(list(range(len(feeder))), 0)
    found = engine.evaluate(engine.for_inference(model), objective, [batch], torch.device("cpu"))
    return dict(zip(feeder.name[found.index].tolist(), found.scores, strict=True))
