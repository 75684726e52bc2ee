"""Distillation: a student learns from the logits of frozen teachers as well as from the labels.

Hinton, Vinyals, Dean, NIPS workshop 2014, arXiv 1503.02531 (`LogitDistillation`).
Zhao, Cui, Song, Qiu, Liang, CVPR 2022, arXiv 2203.08679 (`DecoupledKnowledge`); the DKE-GCN students are trained in its manner.

The option `teacher` of a configuration describes the teachers; the Processor builds and proves them and gives them to the objective.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchlight.config.imports import check_arguments, import_object
from torchlight.config.options import Config, ConfigError, Modality
from torchlight.system.text import nearest

KEYS = ("model", "model_args", "weights", "weights_key", "modality")
SHARED_ARGUMENTS = (
    "num_class",
    "num_point",
    "num_person",
    "graph",
    "in_channels",
)  # facts of the data, the student's where not given
UNTRAINED = 1.5  # a teacher must be better than chance by this factor


class Distillation(nn.Module):
    """L = ce_weight CE + min(e / warm_up_epoch, 1) temperature^2 divergence(teacher, student), e the epoch counted from 1.

    The divergence, a mean over clips, is the subclass's. Terms to log: ce, those of the divergence (unweighted) and `agreement`, the
    percentage of clips that student and teacher give the same class.

    Args:
        temperature: divides the logits of both.
        ce_weight: weight of the cross entropy with the labels.
        warm_up_epoch: epochs over which the weight of the divergence rises linearly; 0: full from the start.
    """

    takes_teacher = True

    def __init__(self, temperature: float, ce_weight: float, warm_up_epoch: int):
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature: found {temperature}; a number above 0 is needed")
        for name, value in (("ce_weight", ce_weight), ("warm_up_epoch", warm_up_epoch)):
            check_weight(name, value)
        self.temperature, self.ce_weight, self.warm_up_epoch = temperature, ce_weight, warm_up_epoch
        self.teacher: Teacher | None = None
        self.set_epoch(1)

    def set_epoch(self, epoch: int) -> None:
        """The epoch that begins, counted from 1."""
        self.share = min(epoch / self.warm_up_epoch, 1.0) if self.warm_up_epoch else 1.0

    def forward(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(loss, logits (N, num_class), further terms to log)."""
        assert self.teacher is not None, "no teacher was attached to this objective"
        logits, target, label = model(batch["data"]), self.teacher(batch), batch["label"]
        ce = F.cross_entropy(precise(logits), label)
        divergence, terms = self.divergence(logits, target, label)
        loss = self.ce_weight * ce + self.share * self.temperature**2 * divergence
        agreement = 100 * (logits.detach().argmax(1) == target.argmax(1)).double().mean()
        return loss, logits, {"ce": ce, **terms, "agreement": agreement}

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Logits (N, num_class); sees neither labels nor the teacher."""
        return model(batch["data"])

    def divergence(self, student: Tensor, teacher: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (N, num_class), twice, and labels (N,) -> the weighted divergence, and its terms."""
        raise NotImplementedError


class DecoupledKnowledge(Distillation):
    """divergence = alpha TAKD + beta NAKD: what the teacher says of the labelled action, and of all the others among themselves.

    The defaults are our guess: the DKE-GCN repository names no constants (docs/distillation.md).
    """

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
    """divergence = alpha KL(teacher || student): as if beta were alpha times the teacher's doubt in the labelled action."""

    def __init__(self, alpha: float = 1.0, temperature: float = 2.0, ce_weight: float = 1.0, warm_up_epoch: int = 5):
        super().__init__(temperature, ce_weight, warm_up_epoch)
        check_weight("alpha", alpha)
        self.alpha = alpha

    def divergence(self, student: Tensor, teacher: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        kl = divergence(student, teacher, self.temperature).mean()
        return self.alpha * kl, {"kl": kl}


def check_weight(name: str, value: float) -> None:
    """Raises ValueError for a weight that is negative or no number."""
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name}: found {value}; 0 or more is needed")


# Divergences, all of (N, num_class) logits, clip by clip


def precise(logits: Tensor) -> Tensor:
    """At least float32: half precision has neither the range nor the digits for what follows."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def kl(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """KL(teacher || student) of log probabilities (N, K) -> (N,)."""
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(1)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher / temperature) || softmax(student / temperature)), (N,)."""
    return kl(*(F.log_softmax(precise(logits) / temperature, 1) for logits in (student, teacher)))


def decoupled_divergence(student: Tensor, teacher: Tensor, label: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Target-action and non-target-action divergence, (N,) each, without the factor temperature^2; logits (N, num_class), label (N,).

    With g the labelled action and p the teacher's probabilities, KL(teacher || student) = TAKD + (1 - p_g) NAKD. Everything stays in log
    space, so that any logits give finite values and gradients. Raises ValueError for fewer than three classes.
    """
    if student.shape[1] < 3:
        raise ValueError(
            f"found {student.shape[1]} classes; decoupled distillation needs three or more: one target and others to compare"
        )
    (s_target, s_others), (t_target, t_others) = (
        split_target(precise(x) / temperature, label) for x in (student, teacher)
    )
    return kl(s_target, t_target), kl(s_others, t_others)


def split_target(z: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, K) -> log probabilities of (g, not g), (N, 2), and of the others given that it is not g, (N, K - 1)."""
    column = torch.arange(z.shape[1] - 1, device=z.device)
    others = z.gather(1, column + (column >= label[:, None]))  # all columns but g, so that nothing needs to be masked
    target, rest = z.gather(1, label[:, None]).squeeze(1), others.logsumexp(1)
    return torch.stack([F.logsigmoid(target - rest), F.logsigmoid(rest - target)], 1), F.log_softmax(others, 1)


# Teachers


class Teacher(nn.Module):
    """The mean logits of frozen networks: batch -> (N, num_class); always in evaluation mode.

    Args:
        inputs: which entry of a batch each network sees.
        cache_size: number of clips whose logits are kept instead of computed again; 0: none.
    """

    def __init__(self, models: Sequence[nn.Module], inputs: Sequence[str], cache_size: int = 0):
        super().__init__()
        self.models, self.inputs, self.cache_size = nn.ModuleList(models), tuple(inputs), cache_size
        self.cache: Tensor | None = None
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Teacher":
        """A teacher never trains."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        if not self.cache_size:
            return self.mean_logits(batch)
        index = batch["index"]
        if (
            self.cache is None or self.cache[index].isnan().any()
        ):  # waits for the device, for less than the networks would take
            logits = self.mean_logits(batch)
            if self.cache is None:
                self.cache = logits.new_full((self.cache_size, logits.shape[1]), torch.nan)
            self.cache[index] = logits
        return self.cache[index]

    def mean_logits(self, batch: dict[str, Tensor]) -> Tensor:
        logits = [precise(model(batch[key])) for model, key in zip(self.models, self.inputs, strict=True)]
        return torch.stack(logits).mean(0)


def teacher_configs(config: Config) -> list[Config]:
    """Each teacher as a configuration of its own: its network, weights and modality, and the student's everything else.

    Facts of the data that its model_args lack are the student's; `{modality}` in its weights is its modality.
    """
    configs = []
    for entry in config.teacher:
        shared = {name: config.model_args[name] for name in SHARED_ARGUMENTS if name in config.model_args}
        modality = entry.get("modality", config.modality)
        weights = str(entry.get("weights") or "").replace("{modality}", modality)
        own = {
            "model": entry.get("model"),
            "model_args": {**shared, **(entry.get("model_args") or {})},
            "modality": modality,
        }
        configs.append(replace(config, **own, weights=weights, weights_key=entry.get("weights_key"), teacher=[]))
    return configs


def other_modalities(config: Config) -> list[str]:
    """The modalities beside the student's that the training batches must hold for its teachers."""
    return sorted({teacher.modality for teacher in teacher_configs(config)} - {config.modality})


def find_problems(config: Config, objective: Callable | None) -> list[str]:
    """What is wrong with `teacher` and `teacher_cache`, found without building anything. The teachers matter to training only."""
    takes = getattr(objective, "takes_teacher", False)
    if config.teacher and objective and not takes:
        return [
            f"teacher: found one with objective {config.objective}, which takes none; "
            "set objective: torchlight.distillation.DecoupledKnowledge, or leave the teacher out"
        ]
    if takes and not config.teacher:
        return [
            f"teacher: missing; {config.objective} learns from one; give a mapping of {', '.join(KEYS)}, or another objective"
        ]
    if config.teacher_cache and not config.teacher:
        return ["teacher_cache: found true without a teacher; leave it out"]
    if config.phase != "train":
        return []
    problems = []
    classes = config.model_args.get("num_class")
    if objective is DecoupledKnowledge and isinstance(classes, int) and classes < 3:
        problems.append(
            f"objective: found {classes} classes; DecoupledKnowledge needs three or more; take LogitDistillation"
        )
    for number, (entry, teacher) in enumerate(zip(config.teacher, teacher_configs(config), strict=True), start=1):
        problems += [f"teacher {number}: {problem}" for problem in entry_problems(entry, teacher)]
        told = teacher.model_args.get("num_class")
        if told != classes:
            problems.append(
                f"teacher {number}: model_args.num_class: found {told}; the student has {classes}; both must tell the same classes"
            )
    return problems


def entry_problems(entry: dict[str, Any], teacher: Config) -> list[str]:
    """What is wrong with one teacher."""
    problems = [f"{key}: unknown key; {nearest(key, KEYS)}" for key in entry if key not in KEYS]
    if teacher.modality not in get_args(Modality):
        problems.append(f"modality: found {teacher.modality!r}; allowed: {', '.join(get_args(Modality))}")
    if not teacher.weights:
        problems.append("weights: missing; a teacher is a trained network, give its file")
    if not teacher.model:
        return [*problems, "model: missing; a dotted path is needed"]
    try:
        return problems + [
            f"model_args.{problem}" for problem in check_arguments(import_object(teacher.model), teacher.model_args)
        ]
    except ValueError as error:
        return [*problems, f"model: {error}"]


def check_files(config: Config) -> None:
    """Raise if the weights of a teacher are not there, before any data is read.

    Raises:
        ConfigError: all missing files.
    """
    files = [teacher.weights for teacher in teacher_configs(config)]
    missing = [
        f"teacher {number}: weights: found no file {file}; train the teacher first, or give the path of its weights"
        for number, file in enumerate(files, start=1)
        if not Path(file).is_file()
    ]
    if missing:
        raise ConfigError(missing)


def batch_key(teacher: Config, config: Config) -> str:
    """Which entry of the student's batches a teacher sees."""
    return "data" if teacher.modality == config.modality else f"data_{teacher.modality}"


def check_repeats(feeder: Any, clips: int = 64) -> None:
    """Raise if two epochs show different clips, so that cached logits would belong to other inputs.

    Raises:
        ConfigError: they differ.
    """
    indices = list(range(min(clips, len(feeder))))
    first, second = (feeder.batch(indices, epoch) for epoch in (0, 1))
    changed = [key for key in first if key.startswith("data") and not torch.equal(first[key], second[key])]
    if changed:
        raise ConfigError(
            [
                f"teacher_cache: found true, but the training clips are augmented ({', '.join(changed)} differ between two epochs); "
                "the teacher has to see what the student sees; set teacher_cache: false"
            ]
        )


def check_trained(number: int, teacher: Config, top1: float, num_class: int) -> str:
    """A line for the log on how good a teacher is on the test part.

    Raises:
        ConfigError: top1 (percent) is not above 1.5 times chance.
    """
    if top1 > UNTRAINED * 100 / num_class:
        return (
            f"teacher {number}: {teacher.model}, {teacher.modality} stream, {teacher.weights}: test top-1 {top1:.2f} %"
        )
    raise ConfigError(
        [
            f"teacher {number}: found {top1:.2f} % test top-1 with {teacher.weights}, and chance is {100 / num_class:.2f} %; "
            "an untrained teacher teaches nothing; check its modality, its data and its weights"
        ]
    )
