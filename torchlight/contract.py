"""What a model, a feeder and an objective are. A class that fulfills a protocol works everywhere; it inherits from
nothing here.

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

    With the class attribute `takes_time = True` it also takes the times of the frames, (N, T), as an optional second
    argument; so does `features`. With `takes_heatmaps = True` a clip is heatmaps (N, K, T, H, W) of K joints or limbs.
    """

    def __call__(self, data: Tensor) -> Tensor: ...


@runtime_checkable
class FeatureModel(Protocol):
    """A model with `features`: (N, C, T, V, M) -> (N, C_out, T', V, M), for `--save-feature`."""

    def features(self, data: Tensor) -> Tensor: ...


@runtime_checkable
class ContrastModel(Protocol):
    """A model that in training returns (logits, {loss: embeddings (N, D)}), for the objectives of
    `torchlight.contrastive`. contrast_heads: the module that holds the state of each loss as buffers."""

    contrast_heads: Mapping[str, nn.Module]


class Objective(Protocol):
    """An nn.Module that maps (model, batch) to (loss, logits, terms).

    It calls the model only as `model(...)`, with `network_inputs(model, batch)`. logits are (N, num_class), or None
    where they answer to no label of the batch; terms are further means over the batch to log.
    """

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]: ...

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (N, num_class); sees no labels."""
        ...


@runtime_checkable
class EpochObjective(Protocol):
    """An objective that changes with the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """`epoch`, counted from 1, begins."""
        ...


@runtime_checkable
class DecidingObjective(Protocol):
    """An objective with random decisions of the host (whether and how a batch is mixed)."""

    def decide(self) -> Mapping[str, float | None]:
        """The decisions about the next training batch, which the engine puts into it; numbers become tensors () float64
        on the device."""
        ...


@runtime_checkable
class ClassObjective(Protocol):
    """An objective that must know the classes of the training clips, as class weights do."""

    def set_classes(self, names: Sequence[str], counts: np.ndarray, clips: int) -> None:
        """Names and numbers of clips of the classes (num_class,), which are sums of weights for soft labels, and the
        number of all clips; called once, before the first step of a training."""
        ...


@runtime_checkable
class Feeder(Protocol):
    """Clips as batches, of one part (train or test) of a benchmark.

    name (N,) str and label (N,) int64 describe the clips in the order of the test scores; len() counts the clips of an
    epoch, which are more than N where clips are repeated. shape is (C, T, V, M), or (K, T, H, W) of heatmaps, of a clip
    as it is yielded.
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
        """The clips of these numbers in this epoch, a pure function of its arguments."""
        ...


@runtime_checkable
class DescribedFeeder(Protocol):
    """A feeder that knows where its clips come from: `manifest` of the data (class count, hashes, ...) and the body of
    the clips."""

    manifest: Mapping[str, Any]
    skeleton: Any  # graph.body.Skeleton


@runtime_checkable
class TargetFeeder(DescribedFeeder, Protocol):
    """A feeder whose clips may have several labels, or weights of labels: target (N, num_class) float32 from 0 to 1, in
    its batches as "target"; None: one label each. `manifest["targets"]` is "multi-label" or "soft"; label is the class
    with the largest weight."""

    target: np.ndarray | None


@runtime_checkable
class ClipFeeder(Protocol):
    """A feeder that can also be made of clips in memory, for `--phase predict`."""

    @classmethod
    def from_clips(
        cls,
        clips: Sequence[np.ndarray],
        facts: Mapping[str, Any],
        images: Sequence[tuple[int, int] | None] = (),
        **arguments: Any,
    ) -> Feeder:
        """A feeder of these clips in this order, prepared as those of the test part.

        clips: each (M, T, V, C) float32, zeros for absent persons. facts: those of the data that the network was
        trained with, as `manifest`. images: height and width in pixels of the picture of each clip; empty: unknown.
        arguments: those of the test feeder.
        """
        ...


@runtime_checkable
class RawClipFeeder(ClipFeeder, Protocol):
    """A feeder that also gives its clips as they are stored, for `--phase robustness`."""

    def raw_clip(self, i: int) -> tuple[np.ndarray, tuple[int, int] | None]:
        """Clip i (M, T, V, C) as `from_clips` takes it, and height and width of its picture if known."""
        ...


@runtime_checkable
class SizedFeeder(Protocol):
    """A feeder that knows the length of its clips: `frames` (N,), and `window`, the frames that clips are padded to."""

    frames: np.ndarray
    window: int | None


@runtime_checkable
class DrawnFeeder(Protocol):
    """A feeder whose batches are no coordinates, with all persons in one map, and that gives the coordinates of a clip
    for a picture of it."""

    def joints(self, clip: int) -> Tensor:
        """The coordinates of a clip (C, T, V, M), y upwards."""
        ...


@runtime_checkable
class MovableFeeder(Protocol):
    """A feeder that can hold its clips on a device and make batches there.

    A GPU makes several batches at once: a clip must not depend on the other clips of its batch. The tensors of a batch
    have one or more rows for each clip.
    """

    device: torch.device

    def to(self, device: torch.device) -> Any: ...


def network_inputs(model: nn.Module, batch: Batch, key: str = "data") -> tuple[Tensor, ...]:
    """The arguments of a network for the clips `batch[key]`: the clips, and `batch["time"]` if the batch has it and the
    network takes it.

    The network may be inside of another module (DDP, torch.compile).
    """
    takes_time = "time" in batch and any(getattr(type(module), "takes_time", False) for module in model.modules())
    return (batch[key], batch["time"]) if takes_time else (batch[key],)


def missing_attributes(feeder: Any) -> list[str]:
    """Names of the `Feeder` contract that an object lacks."""
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
    """Whether the class of a network or an objective says `graph_safe = True`: in training, the host decides nothing in
    its forward pass, so that a CUDA graph can repeat it.

    Neither reads it values from the device, nor does it draw random numbers or change attributes on the host, but in
    `decide`. What a class inherits does not count, because a subclass may have another forward pass.
    """
    return vars(type(part)).get("graph_safe") is True


def takes_teacher(objective: Any) -> bool:
    """Whether an objective class learns from teachers: it has `takes_teacher = True`, and its instances an attribute
    `teacher`."""
    return getattr(objective, "takes_teacher", False)


def kind_of_targets(feeder: Any) -> str | None:
    """What the targets of a feeder's clips are: "multi-label", "soft", or None for one label each."""
    has_targets = isinstance(feeder, TargetFeeder) and feeder.target is not None
    return feeder.manifest.get("targets") if has_targets else None


def multi_label_targets(feeder: Any) -> np.ndarray | None:
    """The targets (N, num_class) of clips with several labels; None where each clip has one label, or soft ones."""
    return feeder.target if kind_of_targets(feeder) == "multi-label" else None
