"""Protocols for models, feeders and objectives. Any class that implements a protocol can be used; it does not have to
inherit from it.

Axes: N batch, C channels, T frames, V joints, M person slots.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

Batch = dict[
    str, Any
]  # "data" (N, C, T, V, M) float32, "label" (N,) int64, "index" (N,) int64, and whatever an objective needs


class Model(Protocol):
    """An nn.Module that maps clips to logits: (N, C, T, V, M) -> (N, num_class).

    With the class attribute `takes_time = True`, it also takes the times of the frames, (N, T), as an optional second
    argument; so does `features`. With `takes_heatmaps = True`, its input is heatmaps (N, K, T, H, W) of K joints or
    limbs.
    """

    def __call__(self, data: Tensor) -> Tensor: ...


@runtime_checkable
class FeatureModel(Protocol):
    """A model with `features`: (N, C, T, V, M) -> (N, C_out, T', V, M), for `--save-feature`."""

    def features(self, data: Tensor) -> Tensor: ...


@runtime_checkable
class ContrastModel(Protocol):
    """A model that returns (logits, {loss: embeddings (N, D)}) in training, for the objectives of
    `torchlight.contrastive`. contrast_heads: for each loss, the module whose buffers are its state."""

    contrast_heads: Mapping[str, nn.Module]


class Objective(Protocol):
    """An nn.Module that maps (model, batch) to (loss, logits, terms).

    It calls the model only as `model(...)`, with `network_inputs(model, batch)`. logits are (N, num_class), or None if
    they do not correspond to the labels of the batch (mixup); terms are further means over the batch to log.
    """

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]: ...

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (N, num_class); sees no labels."""
        ...


@runtime_checkable
class EpochObjective(Protocol):
    """An objective that changes with the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch; `epoch` is counted from 1."""
        ...


@runtime_checkable
class DecidingObjective(Protocol):
    """An objective that makes random decisions on the host (whether and how a batch is mixed)."""

    def decide(self) -> Mapping[str, float | None]:
        """The decisions about the next training batch. The engine adds them to the batch; numbers become float64
        tensors of shape () on the device."""
        ...


@runtime_checkable
class ClassObjective(Protocol):
    """An objective that needs the classes of the training clips, for example for class weights."""

    def set_classes(self, names: Sequence[str], counts: np.ndarray, clips: int) -> None:
        """Called once before the first training step.

        names: names of the classes. counts: number of clips of each class (num_class,), or the sum of their weights for
        soft labels. clips: total number of clips.
        """
        ...


@runtime_checkable
class Feeder(Protocol):
    """Clips as batches, of one part (train or test) of a benchmark.

    name (N,) str and label (N,) int64 describe the clips in the order of the test scores; len() is the number of clips
    in an epoch, which is larger than N if clips are repeated. shape is the shape of a clip in a batch: (C, T, V, M), or
    (K, T, H, W) for heatmaps.
    """

    name: np.ndarray
    label: np.ndarray
    num_class: int
    class_names: Sequence[str] | None
    num_point: int
    num_person: int
    channels: int
    shape: tuple[int, int, int, int]

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        """The clips with these numbers in this epoch; a pure function of its arguments."""
        ...


@runtime_checkable
class DescribedFeeder(Protocol):
    """A feeder with facts about its data: `manifest` (class count, hashes, ...) and `skeleton`, the body layout of the
    clips."""

    manifest: Mapping[str, Any]
    skeleton: Any  # graph.body.Skeleton


@runtime_checkable
class TargetFeeder(DescribedFeeder, Protocol):
    """A feeder whose clips may have several labels or soft labels.

    target: (N, num_class) float32 from 0 to 1, which batches contain as "target"; None: one label per clip.
    `manifest["targets"]` is "multi-label" or "soft". label is the class with the largest weight.
    """

    target: np.ndarray | None


@runtime_checkable
class ClipFeeder(Protocol):
    """A feeder that can also be made from clips in memory, for `--phase predict`."""

    @classmethod
    def from_clips(
        cls,
        clips: Sequence[np.ndarray],
        facts: Mapping[str, Any],
        images: Sequence[tuple[int, int] | None] = (),
        **arguments: Any,
    ) -> Feeder:
        """A feeder of these clips, in this order, processed like those of the test part.

        clips: each (M, T, V, C) float32, zeros for absent persons. facts: facts about the training data, as in
        `manifest`. images: height and width in pixels of the image of each clip; empty: unknown. arguments: the
        arguments of the test feeder.
        """
        ...


@runtime_checkable
class RawClipFeeder(ClipFeeder, Protocol):
    """A feeder that also returns its clips as they are stored, for `--phase robustness`."""

    def raw_clip(self, i: int) -> tuple[np.ndarray, tuple[int, int] | None]:
        """Clip i (M, T, V, C) in the form that `from_clips` takes, and the height and width of its image if known."""
        ...


@runtime_checkable
class SizedFeeder(Protocol):
    """A feeder with the lengths of its clips: `frames` (N,), and `window`, the number of frames that clips are padded
    to."""

    frames: np.ndarray
    window: int | None


@runtime_checkable
class DrawnFeeder(Protocol):
    """A feeder whose batches are heatmaps of all persons instead of coordinates. `joints` returns the coordinates of a
    clip for drawing."""

    def joints(self, clip: int) -> Tensor:
        """The coordinates of a clip, (C, T, V, M), with y pointing up."""
        ...


@runtime_checkable
class MovableFeeder(Protocol):
    """A feeder that can store its clips on a device and make batches there.

    Several batches are made at once on a GPU, so a clip must not depend on the other clips of its batch. The tensors
    of a batch have one or more rows for each clip.
    """

    device: torch.device

    def to(self, device: torch.device) -> Any: ...


def network_inputs(model: nn.Module, batch: Batch, key: str = "data") -> tuple[Tensor, ...]:
    """The arguments of a network for the clips `batch[key]`: the clips, and `batch["time"]` if the batch has it and the
    network takes it.

    The network may be wrapped in another module (DDP, torch.compile).
    """
    takes_time = "time" in batch and any(getattr(type(module), "takes_time", False) for module in model.modules())
    return (batch[key], batch["time"]) if takes_time else (batch[key],)


def missing_attributes(feeder: Any) -> list[str]:
    """Names of the attributes of `Feeder` that an object lacks."""
    required = (
        "batch",
        "__len__",
        "name",
        "label",
        "num_class",
        "class_names",
        "num_point",
        "num_person",
        "channels",
        "shape",
    )
    return [name for name in required if not hasattr(feeder, name)]


def manifest_of(feeder: Any) -> Mapping[str, Any]:
    """The manifest of a feeder's data, empty if it has none."""
    return feeder.manifest if isinstance(feeder, DescribedFeeder) else {}


def is_graph_safe(part: nn.Module) -> bool:
    """Whether the class of a network or an objective sets `graph_safe = True`: its forward pass in training does not
    depend on decisions of the host, so a CUDA graph can repeat it.

    Such a forward pass does not copy values from the device to the host. It does not draw random numbers or change
    attributes on the host, except in `decide`. Inherited attributes do not count, because the forward pass of a
    subclass may differ.
    """
    return vars(type(part)).get("graph_safe") is True


def takes_teacher(objective: Any) -> bool:
    """Whether an objective class uses teachers: it sets `takes_teacher = True`, and its instances have an attribute
    `teacher`."""
    return getattr(objective, "takes_teacher", False)


def kind_of_targets(feeder: Any) -> str | None:
    """The kind of targets of a feeder's clips: "multi-label", "soft", or None for one label per clip."""
    has_targets = isinstance(feeder, TargetFeeder) and feeder.target is not None
    return feeder.manifest.get("targets") if has_targets else None


def multi_label_targets(feeder: Any) -> np.ndarray | None:
    """The targets (N, num_class) of clips with several labels; None if the clips have one label each or soft labels."""
    return feeder.target if kind_of_targets(feeder) == "multi-label" else None
