"""Networks, objectives and feeders for tests, many of which fail on purpose."""

import itertools
import os
import signal
import subprocess
import time

import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from feeders.feeder_ucla import Feeder
from model import ctrgcn
from torchlight.objective import Classification
from torchlight.runtime import distributed


class Plain(nn.Module):
    """Two linear layers on the mean over frames, without batch norm and dropout: (N, C, T, V, M) -> (N, num_class)."""

    def __init__(self, num_class: int, num_point: int, num_person: int, width: int = 8):
        super().__init__()
        self.first = nn.Linear(3 * num_point * num_person, width)
        self.fc = nn.Linear(width, num_class)

    def forward(self, data: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.first(data.mean(2).flatten(1))))


class Endless(nn.Module):
    """A network whose constructor never stops adding parameters."""

    def __init__(self, **arguments):
        super().__init__()
        for i in itertools.count():
            self.register_parameter(str(i), nn.Parameter(torch.empty(1)))


class Heir(ctrgcn.Model):
    """A subclass of CTR-GCN, which could have changes."""


class AtStep(Classification):
    """Calls `happen` in one forward pass of training; `at` is counted from 1."""

    def __init__(self, at: int = 5, label_smoothing: float = 0.0, mixup_alpha: float = 0.0, mixup_prob: float = 1.0):
        super().__init__(label_smoothing, mixup_alpha, mixup_prob)
        self.at, self.count = at, 0

    def forward(self, model, batch):
        self.count += 1
        loss, logits, terms = super().forward(model, batch)
        return self.happen(loss) if self.count == self.at else loss, logits, terms

    def happen(self, loss: Tensor) -> Tensor:
        raise NotImplementedError


class NotANumber(AtStep):
    """The loss and its gradient become NaN."""

    def happen(self, loss):
        return loss * torch.nan


class InfiniteGradient(AtStep):
    """The loss does not change, but its gradient becomes infinite."""

    def happen(self, loss):
        loss.register_hook(lambda gradient: gradient * torch.inf)
        return loss


class AskedToLeave(AtStep):
    """The whole process group, including data workers, receives a SIGTERM; of several ranks, only the last one."""

    def happen(self, loss):
        if distributed.world_size() == 1:
            subprocess.run(
                ["kill", "-TERM", "--", f"-{os.getpgrp()}"], start_new_session=True, check=True
            )  # from another process, as on clusters
            time.sleep(0.5)  # until the workers have ended
        elif distributed.rank() == distributed.world_size() - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss


class Breaks(AtStep):
    """Only one of the processes fails."""

    def __init__(self, at: int = 3, rank: int = 1):
        super().__init__(at)
        self.rank = rank

    def happen(self, loss):
        if distributed.rank() == self.rank:
            raise RuntimeError("failure of one process")
        return loss


class DeadlyFeeder(Feeder):
    """A feeder whose worker process is killed in the second epoch."""

    def batch(self, indices, epoch, device=None):
        if epoch == 1 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(indices, epoch, device)


class SeveralClips(Feeder):
    """A feeder with two views of each test clip; the second one is reversed in time."""

    def batch(self, indices, epoch, device=None):
        batch = super().batch(indices, epoch, device)
        if self.train:
            return batch
        views = torch.stack((batch["data"], batch["data"].flip(2)), 1).flatten(0, 1)
        return batch | {"data": views, "clips": 2}


class Interrupted(AtStep):
    """The user presses Ctrl-C."""

    def happen(self, loss):
        raise KeyboardInterrupt


class LongClips(Feeder):
    """A feeder that states a clip shape too large for any memory."""

    @property
    def shape(self):
        return 3, 10**12, 20, 1


class ManyClips(Feeder):
    """A feeder that states an extremely large number of clips."""

    def __len__(self):
        return 10**20


class NotCopied(Feeder):
    """A feeder with an attribute that cannot be sent to another process."""

    def __init__(self, data_path: str, window_size: int, part: str = "train", modality: str = "joint", seed: int = 0):
        super().__init__(data_path, part=part, modality=modality, seed=seed, window_size=window_size)
        self.secret = lambda: None


class Unannotated(Plain):
    """A network whose constructor declares no types."""

    def __init__(self, num_class, num_point, num_person, width):
        super().__init__(num_class, num_point, num_person, *width)
