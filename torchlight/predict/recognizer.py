"""Trained networks that label recordings: loaded once, then used for files, arrays and streams of frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.poses.recording import Facts, Recording
from torchlight.config.options import Config, ConfigError
from torchlight.fusion.fuse import PRESETS, given_weights, lengths, preset_weights, softmax
from torchlight.predict.clips import (
    Clip,
    Settings,
    clips_of_file,
    clips_of_recording,
    recording_of_array,
    shown_recording,
)
from torchlight.predict.load import TrainedStream, open_stream
from torchlight.predict.prediction import Prediction
from torchlight.predict.stream import Stream
from torchlight.training import engine
from torchlight.training.device import autocast, choose_device
from torchlight.training.experiment import PooledFeatures

Source = str | Path | np.ndarray | Recording


class Recognizer:
    """One trained network, or the streams of an ensemble.

    weights: checkpoint files. config: the configuration of the training, for checkpoints of other programs; checkpoints
    of this program contain it. device: as `--device`; default: GPU 0 if there is one. alpha: as `--alpha`; default: the
    weights of `preset`. ema: use the moving average of the weights. recipe: how the training clips were prepared, if
    the data does not state it. changes: options that override those of the training, such as `precision`.

    Raises:
        ValueError: a checkpoint cannot be read, lacks necessary facts, or does not match the others.
    """

    def __init__(
        self,
        weights: str | Path | Sequence[str | Path],
        config: Config | str | Path | None = None,
        device: str | None = None,
        alpha: Sequence[float] = (),
        preset: str = "ctrgcn",
        ema: bool = False,
        recipe: str | None = None,
        changes: Mapping[str, Any] | None = None,
    ):
        files = [weights] if isinstance(weights, str | Path) else list(weights)
        if not files:
            raise ValueError("weights: expected at least one checkpoint, got none")
        if config is not None and not isinstance(config, Config):
            from torchlight.config.load import load_config

            config = load_config(config, {"phase": "predict"})
        running = dict(changes or {}) | ({} if device is None else {"device": device.split()})
        running |= {"ema": True} if ema else {}
        self.device = choose_device(replace(config or Config(), phase="predict", **running))
        facts = {} if recipe is None else {"recipe": recipe}
        self.streams = [open_stream(file, config, self.device, facts, running) for file in files]
        self._check_streams()
        self.space, self.alpha = self._fusion(alpha, preset)

    def _check_streams(self) -> None:
        """Raise ValueError if the streams have different classes or body layouts."""
        first = self.streams[0]
        for other in self.streams[1:]:
            if other.num_class != first.num_class or other.facts.get("class_names") != first.facts.get("class_names"):
                raise ValueError(f"{other.path}: expected the {first.num_class} classes of {first.path}, got others")
            if other.recipe.skeleton.joints != first.recipe.skeleton.joints:
                raise ValueError(f"{other.path}: expected the body {first.recipe.skeleton.name}, got another")
        self.class_names = first.facts.get("class_names") or [str(i) for i in range(first.num_class)]
        if len(self.class_names) != first.num_class:
            raise ValueError(f"{first.path}: expected {first.num_class} class names, got {len(self.class_names)}")

    def _fusion(self, alpha: Sequence[float], preset: str) -> tuple[str, np.ndarray]:
        """The space of the fusion, and a weight for each stream."""
        if preset not in PRESETS:
            raise ValueError(f"preset: expected {', '.join(PRESETS)}, got {preset!r}")
        modalities = [stream.config.modality for stream in self.streams]
        weights = given_weights(alpha, modalities) if len(alpha) else []
        if len(self.streams) == 1:
            return "logits", np.ones(1)
        return PRESETS[preset].space, np.array(weights or preset_weights(preset, modalities), np.float64)

    def predict(
        self,
        source: Source | Sequence[Source],
        settings: Settings | None = None,
        features: bool = False,
        failed: dict[str, str] | None = None,
    ) -> list[Prediction]:
        """Predictions for one or several sources: one for each clip and, with windows or `persons="each"`, for each
        person.

        source: a pose file, an array (T, V, C) or (M, T, V, C) with the joints of the network (see
        `torchlight.predict.clips.recording_of_array`), or a Recording. failed: see `clips_of_file`.

        Raises:
            ValueError: a source cannot be read, or does not fit the network; the message names the file.
        """
        sources = list(source) if isinstance(source, list | tuple) else [source]
        if not sources:
            return []
        settings = settings or Settings()
        per_stream = [
            [clip for one in sources for clip in self.clips(stream, one, settings, failed)] for stream in self.streams
        ]
        return self.predict_clips(per_stream, features)

    def clips(
        self, stream: TrainedStream, source: Source, settings: Settings, failed: dict[str, str] | None = None
    ) -> list[Clip]:
        """The clips of a source, prepared for a stream; failed: see `clips_of_file`."""
        if isinstance(source, str | Path):
            return clips_of_file(Path(source), stream.recipe, settings, stream.repeated_to, failed)
        name = "array"
        if isinstance(source, np.ndarray):
            source = recording_of_array(source, stream.recipe, settings)
        if not isinstance(source, Recording):
            raise ValueError(f"source: expected a path, a NumPy array or a Recording, got {type(source).__name__}")
        return clips_of_recording(name, source, stream.recipe, settings, stream.repeated_to)

    def stream(self, facts: Facts | None = None, settings: Settings | None = None, **options: Any) -> Stream:
        """Predictions for frames that arrive one after the other: `stream.push(seconds, frame)`.

        facts: layout, axes and units of the poses; default: those of the body of the network. settings: window, stride
        and persons. options: see `torchlight.predict.stream.Stream`.
        """
        return Stream(self.streams, self.predict_clips, facts, settings, **options)

    def shown(self, source: Source, settings: Settings | None = None) -> Recording:
        """The first recording of a source with the joints of the body, to draw it."""
        return shown_recording(source, self.streams[0].recipe, settings or Settings())

    def predict_clips(self, per_stream: list[list[Clip]], features: bool = False) -> list[Prediction]:
        """Predictions for prepared clips: one list of clips for each stream, of equal length and order."""
        places = [[(clip.source, clip.person, clip.begin) for clip in clips] for clips in per_stream]
        if any(found != places[0] for found in places):
            raise ValueError(f"{places[0][0][0]}: expected the same clips for all streams, got different ones")
        results = [score(stream, clips) for stream, clips in zip(self.streams, per_stream, strict=True)]
        scores, probabilities = self._fuse(results)
        pooled = (
            [score(stream, clips, True)[0] for stream, clips in zip(self.streams, per_stream, strict=True)]
            if features
            else None
        )
        rows = None if pooled is None else np.concatenate(pooled, 1)
        return [
            Prediction(
                clip.source,
                clip.person,
                clip.begin,
                clip.end,
                probabilities[i],
                scores[i],
                self.class_names,
                clip.observed,
                clip.imputed,
                clip.notes,
                None if rows is None else rows[i],
            )
            for i, clip in enumerate(per_stream[0])
        ]

    @property
    def multi_label(self) -> bool:
        """Whether a clip may have several labels, so that probabilities do not sum to 1."""
        return self.streams[0].facts.get("targets") == "multi-label"

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Independent probabilities of the classes if clips have several labels, else the softmax."""
        return (1 + np.tanh(logits / 2)) / 2 if self.multi_label else softmax(logits)

    def _fuse(self, results: list[tuple[np.ndarray, bool]]) -> tuple[np.ndarray, np.ndarray]:
        """(scores, probabilities) of the clips (n, num_class), from those of each stream."""
        if len(results) == 1:
            scores, done = results[0]
            return scores, scores.astype(np.float64) if done else self._probabilities(scores.astype(np.float64))
        share = self.alpha / self.alpha.sum()
        if self.space != "softmax" and not any(done for _, done in results):
            each = [found.astype(np.float64) for found, _ in results]
            if self.space == "unit":  # logits of one length in every stream; their mean length keeps the probabilities
                mean = sum(lengths(found) for found in each) / len(each)
                each = [found / lengths(found) * mean for found in each]
            scores = sum(w * found for w, found in zip(share, each, strict=True))
            return scores, self._probabilities(scores)
        each = [
            found.astype(np.float64) if done else self._probabilities(found.astype(np.float64))
            for found, done in results
        ]
        fused = sum(w * found for w, found in zip(share, each, strict=True))
        return fused, fused


def chunks(items: list, size: int) -> Iterator[list]:
    """Consecutive parts of a list."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def score(stream: TrainedStream, clips: list[Clip], features: bool = False) -> tuple[np.ndarray, bool]:
    """Scores (n, num_class) float32 of one stream, or pooled features (n, C); and whether they are probabilities."""
    config, found, done = stream.config, [], False
    network = PooledFeatures(stream.model) if features else stream.model
    for part in chunks(clips, config.test_batch_size):
        feeder = stream.feed(part)
        batch = [feeder.batch(list(range(len(part))), 0)]
        result = engine.evaluate(
            network, stream.objective, batch, stream.device, partial(autocast, config, stream.device), features
        )
        found.append(result.scores)
        done = result.probabilities
    scores = np.concatenate(found)
    if not np.isfinite(scores).all():
        raise ConfigError([f"{stream.path}: expected finite scores, got others; try --precision float32"])
    return scores, done
