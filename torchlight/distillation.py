"""Distillation: a student is trained on the labels and on the logits of frozen teachers.

Hinton, Vinyals, Dean, NIPS workshop 2014, arXiv 1503.02531 (`LogitDistillation`).
Zhao, Cui, Song, Qiu, Liang, CVPR 2022, arXiv 2203.08679 (`DecoupledKnowledge`, used for the DKE-GCN students).

The option `teacher` of a configuration describes the teachers; `torchlight.training.teacher` loads them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchlight.contract import network_inputs


class Distillation(nn.Module):
    """L = ce_weight CE + min(e / warm_up_epoch, 1) temperature^2 divergence(teacher, student) in epoch e >= 1.

    A subclass defines the divergence, a mean over clips. Terms to log: ce, the unweighted terms of the divergence, and
    `agreement`, the percentage of clips that student and teacher assign to the same class.

    Args:
        temperature: divisor of the logits of student and teacher.
        ce_weight: weight of the cross entropy with the labels.
        warm_up_epoch: epochs over which the weight of the divergence increases linearly; 0: full weight from the start.

    Raises:
        ValueError: an argument is out of range.
    """

    takes_teacher = True

    def __init__(self, temperature: float, ce_weight: float, warm_up_epoch: int):
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature: expected a finite number above 0, got {temperature}")
        for name, value in (("ce_weight", ce_weight), ("warm_up_epoch", warm_up_epoch)):
            check_weight(name, value)
        self.temperature, self.ce_weight, self.warm_up_epoch = temperature, ce_weight, warm_up_epoch
        self.teacher: nn.Module | None = None
        self.weight: Tensor
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64), persistent=False)  # of the divergence
        self.set_epoch(1)

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch, counted from 1."""
        share = min(epoch / self.warm_up_epoch, 1.0) if self.warm_up_epoch else 1.0
        self.weight.fill_(share * self.temperature**2)

    def forward(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(loss, logits (N, num_class), further terms to log)."""
        assert self.teacher is not None, "no teacher was attached to this objective"
        logits, target, label = model(*network_inputs(model, batch)), self.teacher(batch), batch["label"]
        ce = F.cross_entropy(precise(logits), label)
        divergence, terms = self.divergence(logits, target, label)
        loss = self.ce_weight * ce + self.weight.to(divergence.dtype) * divergence
        agreement = 100 * (logits.detach().argmax(1) == target.argmax(1)).double().mean()
        return loss, logits, {"ce": ce, **terms, "agreement": agreement}

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Logits (N, num_class); sees neither labels nor the teacher."""
        return model(*network_inputs(model, batch))

    def divergence(self, student: Tensor, teacher: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits of both (N, num_class) and labels (N,) -> the weighted divergence and its terms to log."""
        raise NotImplementedError


class DecoupledKnowledge(Distillation):
    """divergence = alpha TAKD + beta NAKD: the divergences of the target class and of the non-target classes.

    The defaults are our choice: the DKE-GCN repository gives no constants (docs/distillation.md).
    """

    graph_safe = True

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        temperature: float = 2.0,
        ce_weight: float = 1.0,
        warm_up_epoch: int = 5,
    ):
        super().__init__(temperature, ce_weight, warm_up_epoch)
        check_weight("alpha", alpha)
        check_weight("beta", beta)
        self.alpha, self.beta = alpha, beta

    def divergence(self, student: Tensor, teacher: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        takd, nakd = (term.mean() for term in decoupled_divergence(student, teacher, label, self.temperature))
        return self.alpha * takd + self.beta * nakd, {"takd": takd, "nakd": nakd}


class LogitDistillation(Distillation):
    """divergence = alpha KL(teacher || student): `DecoupledKnowledge` with beta = alpha (1 - p_target) per clip."""

    graph_safe = True

    def __init__(self, alpha: float = 1.0, temperature: float = 2.0, ce_weight: float = 1.0, warm_up_epoch: int = 5):
        super().__init__(temperature, ce_weight, warm_up_epoch)
        check_weight("alpha", alpha)
        self.alpha = alpha

    def divergence(self, student: Tensor, teacher: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        kl = divergence(student, teacher, self.temperature).mean()
        return self.alpha * kl, {"kl": kl}


def check_weight(name: str, value: float) -> None:
    """Raise ValueError for a weight that is negative or not finite."""
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name}: expected a finite number, 0 or more, got {value}")


# Divergences of logits (N, num_class), one value per clip


def precise(logits: Tensor) -> Tensor:
    """Logits in float32 or higher precision: the range of half precision is too small for the divergences."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def kl(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """KL(teacher || student) of log probabilities (N, K) -> (N,)."""
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(1)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher / temperature) || softmax(student / temperature)), (N,)."""
    return kl(*(F.log_softmax(precise(logits) / temperature, 1) for logits in (student, teacher)))


def decoupled_divergence(student: Tensor, teacher: Tensor, label: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Target-class and non-target-class divergence, (N,) each, without the factor temperature^2.

    Logits are (N, num_class), label (N,).

    With target class g and the teacher's probabilities p, KL(teacher || student) = TAKD + (1 - p_g) NAKD. All terms are
    computed in log space, so that all finite logits give finite values and gradients.

    Raises:
        ValueError: fewer than three classes.
    """
    if student.shape[1] < 3:
        raise ValueError(f"num_class: expected 3 or more for decoupled distillation, got {student.shape[1]}")
    (s_target, s_others), (t_target, t_others) = (
        split_target(precise(x) / temperature, label) for x in (student, teacher)
    )
    return kl(s_target, t_target), kl(s_others, t_others)


def split_target(z: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, K), target g (N,) -> log probabilities of (g, not g), (N, 2), and of the others, (N, K - 1)."""
    column = torch.arange(z.shape[1] - 1, device=z.device)
    others = z.gather(1, column + (column >= label[:, None]))  # all columns but g, so that no mask is needed
    target, rest = z.gather(1, label[:, None]).squeeze(1), others.logsumexp(1)
    return torch.stack([F.logsigmoid(target - rest), F.logsigmoid(rest - target)], 1), F.log_softmax(others, 1)
