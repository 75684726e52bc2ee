"""A feeder and an objective that do not inherit from this project; docs/architecture.md shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchlight.contract import network_inputs


class ArrayFeeder:
    """Clips of one .npz file with the arrays `<part>_data` (N, C, T, V, M) float32 and `<part>_label` (N,) int64.

    Each training clip is scaled by a random factor of 0.9 to 1.1.
    """

    def __init__(self, data_path: str, part: str, modality: str, seed: int):
        if modality != "joint":
            raise ValueError(f"modality: expected joint, got {modality}")
        with np.load(data_path) as arrays:
            data, label = arrays[f"{part}_data"], arrays[f"{part}_label"]
            num_class = int(arrays["train_label"].max()) + 1
        self.hold(data, label, num_class, part, seed)

    def hold(self, data: np.ndarray, label: np.ndarray, num_class: int, part: str, seed: int) -> None:
        self.data, self.label, self.num_class, self.part, self.seed = data, label, num_class, part, seed
        self.name = np.array([f"{part}_{i}" for i in range(len(label))])
        self.class_names = None
        self.shape = data.shape[1:]
        self.channels, self.window, self.num_point, self.num_person = self.shape
        self.frames = np.full(len(label), self.window)

    @classmethod
    def from_clips(
        cls, clips: Sequence[np.ndarray], facts: Mapping[str, Any], images: Sequence = (), **arguments: Any
    ) -> "ArrayFeeder":
        """Clips (M, T, V, C) in memory, for `--phase predict`: as many frames of each as in training, evenly spaced."""
        feeder, even = cls.__new__(cls), []
        for clip in clips:
            time = np.linspace(0, clip.shape[1] - 1, facts["window"]).round().astype(int)
            even.append(clip[:, time].transpose(3, 1, 2, 0))
        feeder.hold(np.stack(even), np.zeros(len(clips), np.int64), facts["num_class"], "test", arguments["seed"])
        return feeder

    def __len__(self) -> int:
        return len(self.label)

    def batch(self, indices: Sequence[int], epoch: int) -> dict[str, Tensor]:
        index = torch.as_tensor(indices)
        data = torch.from_numpy(self.data)[index]
        if self.part == "train":
            scale = [np.random.default_rng((self.seed, epoch, i)).uniform(0.9, 1.1) for i in indices]
            data = data * torch.tensor(scale, dtype=torch.float32).view(-1, 1, 1, 1, 1)
        return {"data": data, "label": torch.from_numpy(self.label)[index], "index": index}


class FocalLoss(nn.Module):
    """Focal loss (Lin et al., ICCV 2017): mean of -(1 - p)^gamma log p, with p the probability of the true class."""

    def __init__(self, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        logits = model(*network_inputs(model, batch))
        log_p = -F.cross_entropy(logits.float(), batch["label"], reduction="none")
        loss = -((1 - log_p.exp()) ** self.gamma * log_p).mean()
        return loss, logits, {"probability": log_p.exp().mean()}

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return model(*network_inputs(model, batch))
