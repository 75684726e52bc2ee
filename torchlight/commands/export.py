"""The phase export: a trained network as a file for other programs."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from torchlight.config.options import COMMAND_LINE, Config, ConfigError
from torchlight.contract import network_inputs
from torchlight.export.convert import check_packages
from torchlight.export.run import FORMATS, is_exported
from torchlight.export.write import BOUNDS, export_network
from torchlight.predict.from_mediapipe import from_mediapipe
from torchlight.predict.load import EXAMPLES, EXPORTED, TrainedStream, open_stream
from torchlight.system.files import sha256
from torchlight.system.text import counted
from torchlight.training.clip_facts import plain

log = logging.getLogger("torchlight")


def export(config: Config) -> None:
    """Write the network of `weights` for inference, after a comparison with the original.

    Raises:
        ValueError: an option is missing or wrong, or the network cannot be exported.
    """
    if not config.weights:
        raise ConfigError(["weights: missing; --phase export needs the checkpoint to export"])
    if is_exported(config.weights):
        raise ConfigError([f"weights: expected a checkpoint, got {config.weights}, which is exported already"])
    check_packages(config.format)
    precision = config.precision if config.origins.get("precision") == COMMAND_LINE else "float32"
    if precision not in BOUNDS:
        raise ConfigError([f"precision: expected {' or '.join(BOUNDS)} for an exported network, got {precision}"])
    if config.output:
        check_output(Path(config.output), config.format)
    given = {key for key, origin in config.origins.items() if origin == COMMAND_LINE}
    running = {key: getattr(config, key) for key in ("ema", "weights_key", "ignore_weights") if key in given}
    changes = {} if config.recipe is None else {"recipe": config.recipe}
    stream = open_stream(
        config.weights, config if config.config else None, torch.device("cpu"), changes, running | {"device": ["cpu"]}
    )
    path = Path(config.output) if config.output else default_output(stream.path, config, precision)
    check_output(path, config.format)
    clips = [x[:EXAMPLES] for x in network_inputs(stream.model, stream.example())]
    log.info("exporting %s, which takes some seconds", stream.path)
    metadata, difference = export_network(
        *(stream.model, stream.objective, clips, path, config.format, facts_of(stream)),
        dynamic=config.dynamic is not None,
        precision=precision,
    )
    names = ", ".join(f"{name} {number}" for name, number in metadata["operators"].items())
    shapes = ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in metadata["input"].items())
    log.info("%s: %s", counted(sum(metadata["operators"].values()), "operator"), names)
    log.info("input: %s; output: logits (%s, %d)", shapes, metadata["input"]["data"][0], metadata["num_class"])
    log.info("largest difference from PyTorch in float32: %.2g (at most %g)", difference, BOUNDS[precision])
    log.info("wrote %s (%.1f MB)", path, path.stat().st_size / 1e6)


def default_output(weights: Path, config: Config, precision: str) -> Path:
    """Beside the weights: last.onnx, last.pt2, last.float16.onnx."""
    kind = "" if precision == "float32" else f".{precision}"
    return weights.with_suffix(f"{'.ema' if config.ema else ''}{kind}{FORMATS[config.format]}")


def check_output(path: Path, format: str) -> None:
    """Raise ConfigError for a file that cannot be written, before anything is computed."""
    if path.suffix.lower() != FORMATS[format]:
        other = next((name for name, suffix in FORMATS.items() if suffix == path.suffix.lower()), None)
        hint = f"; for this one give --format {other}" if other else ""
        raise ConfigError(
            [f"output: expected a file name ending with {FORMATS[format]} (--format {format}), got {path}{hint}"]
        )
    if not path.parent.is_dir() or path.is_dir():
        raise ConfigError([f"output: expected a file in a folder that exists, got {path}"])


def facts_of(stream: TrainedStream) -> dict[str, Any]:
    """The metadata of an exported network: the facts for predictions, and its origin."""
    config, facts, skeleton = stream.config, stream.facts, stream.recipe.skeleton
    arguments = {key: value for key, value in config.test_feeder_args.items() if key != "label_path"}
    arguments |= {"data_path": ""} if "data_path" in arguments else {}  # files of this machine
    kept = {key: getattr(config, key) for key in EXPORTED} | {"test_feeder_args": arguments}
    return plain(
        {
            "num_class": facts["num_class"],
            "class_names": facts.get("class_names"),
            "modality": config.modality,
            "layout": skeleton.name,
            "joints": skeleton.joints,
            "config": kept,
            "clips": {**facts, "body": dataclasses.asdict(skeleton)},
            "mediapipe": from_mediapipe(stream.recipe),
            "model": config.model,
            "weights_sha256": sha256(stream.path),
            "torch": str(torch.__version__),
        }
    )
