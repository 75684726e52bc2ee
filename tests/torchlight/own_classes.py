"""A feeder and an objective that inherit from nothing of ours; docs/architecture.md prints them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ArrayFeeder:
    """Clips of one .npz file with the arrays `<part>_data` (N, C, T, V, M) float32 and `<part>_label` (N,) int64.

    Each training clip is scaled by a random factor of 0.9 to 1.1.
    """

    def __init__(self, data_path: str, part: str, modality: str, seed: int):
        if modality != "joint":
            raise ValueError(f"modality: expected joint, got {modality}")
        with np.load(data_path) as arrays:
            self.data, self.label = arrays[f"{part}_data"], arrays[f"{part}_label"]
            self.num_class = int(arrays["train_label"].max()) + 1
        self.part, self.seed = part, seed
        self.name = np.array([f"{part}_{i}" for i in range(len(self.label))])
        self.class_names = None
        self.shape = self.data.shape[1:]
        self.channels, _, self.num_point, self.num_person = self.shape

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
        logits = model(batch["data"])
        log_p = -F.cross_entropy(logits.float(), batch["label"], reduction="none")
        loss = -((1 - log_p.exp()) ** self.gamma * log_p).mean()
        return loss, logits, {"probability": log_p.exp().mean()}

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return model(batch["data"])
