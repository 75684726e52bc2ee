"""Teachers of a distillation: frozen networks described by the option `teacher`, their checks and their logits."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchlight.config.imports import check_arguments, import_class
from torchlight.config.options import Config, ConfigError
from torchlight.contract import Feeder, network_inputs, takes_teacher
from torchlight.distillation import DecoupledKnowledge, precise
from torchlight.system.modalities import Modality
from torchlight.system.text import quote

SHARED_ARGUMENTS = ("num_class", "num_point", "num_person", "graph", "in_channels")  # the student's unless given
CHANCE_FACTOR = 1.5  # a teacher must be better than chance by this factor


@dataclass(kw_only=True)
class Entry:
    """One mapping of the option `teacher`."""

    model: str
    weights: str
    model_args: dict[str, Any] = field(default_factory=dict)
    weights_key: str | None = None
    modality: Modality | None = None
    weight: float = 1.0


class Teacher(nn.Module):
    """The weighted mean of the logits of frozen networks: batch -> (N, num_class); always in evaluation mode.

    Args:
        inputs: the key of each network's input in a batch.
        cache_size: number of training clips whose logits are cached; 0: no cache.
        weights: of the networks; default: equal ones.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        inputs: Sequence[str],
        cache_size: int = 0,
        weights: Sequence[float] | None = None,
    ):
        super().__init__()
        self.weights = [1.0] * len(models) if weights is None else list(weights)
        self.models, self.inputs, self.cache_size = nn.ModuleList(models), tuple(inputs), cache_size
        self.cache: Tensor | None = None
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Teacher":
        """Stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        if not self.cache_size:
            return self.mean_logits(batch)
        index = batch["index"]
        if (
            self.cache is None or self.cache[index].isnan().any()
        ):  # waits for the device, but less than the networks take
            logits = self.mean_logits(batch)
            if self.cache is None:
                self.cache = logits.new_full((self.cache_size, logits.shape[1]), torch.nan)
            self.cache[index] = logits
        return self.cache[index]

    def forget(self) -> None:
        """Discard the cached logits."""
        self.cache = None

    def mean_logits(self, batch: dict[str, Tensor]) -> Tensor:
        logits = [
            precise(model(*network_inputs(model, batch, key)))
            for model, key in zip(self.models, self.inputs, strict=True)
        ]
        return sum(weight * x for weight, x in zip(self.weights, logits, strict=True)) / sum(self.weights)


def teacher_configs(config: Config) -> list[Config]:
    """Each teacher as a configuration: its network, weights and modality; all other options are those of the student.

    Sizes that are missing in its model_args are those of the student. `{modality}` in the path of its weights is
    replaced by its modality.
    """
    configs = []
    for entry in (Entry(**entry) for entry in config.teacher):
        shared = {name: config.model_args[name] for name in SHARED_ARGUMENTS if name in config.model_args}
        modality = entry.modality or config.modality
        own = {"model": entry.model, "model_args": {**shared, **entry.model_args}, "modality": modality}
        weights = entry.weights.replace("{modality}", modality)
        configs.append(replace(config, **own, weights=weights, weights_key=entry.weights_key, teacher=[]))
    return configs


def teacher_weights(config: Config) -> list[float]:
    """The weight of each teacher's logits."""
    return [Entry(**entry).weight for entry in config.teacher]


def other_modalities(config: Config) -> list[str]:
    """The modalities, in addition to that of the student, that the training batches must contain for the teachers."""
    return sorted({teacher.modality for teacher in teacher_configs(config)} - {config.modality})


def find_problems(config: Config) -> list[str]:
    """What is wrong with the options `teacher` and `teacher_cache`, found without building anything.

    Teachers are only used in training. Valid entries are converted in `config` to the types of `Entry`.
    """
    try:
        objective = import_class(config.objective)
    except ValueError:  # a problem of the objective
        return []
    if config.teacher and not takes_teacher(objective):
        return [
            f"teacher: expected an objective that takes one, e.g. torchlight.distillation.DecoupledKnowledge, "
            f"got {config.objective}"
        ]
    if takes_teacher(objective) and not config.teacher:
        keys = ", ".join(Entry.__dataclass_fields__)
        return [f"teacher: missing; {config.objective} requires a mapping of {keys}"]
    if config.teacher_cache and not config.teacher:
        return ["teacher_cache: expected false without a teacher, got true"]
    if config.phase != "train":
        return []
    problems = []
    classes = config.model_args.get("num_class")
    if objective is DecoupledKnowledge and isinstance(classes, int) and classes < 3:
        problems.append(
            f"objective: expected LogitDistillation for fewer than 3 classes, got DecoupledKnowledge for {classes}"
        )
    entries = []
    for number, given in enumerate(config.teacher, start=1):
        entry, wrong = check_arguments(Entry, given)
        entries.append(entry)
        problems += [f"teacher {number}: {line}" for line in wrong or entry_problems(replace(config, teacher=[entry]))]
    if not problems:
        config.teacher = entries
    return problems


def entry_problems(config: Config) -> list[str]:
    """What is wrong with the only teacher of a configuration: its network, its arguments and its file."""
    (teacher,), (weight,), problems = teacher_configs(config), teacher_weights(config), []
    if not 0 < weight < float("inf"):
        problems.append(f"weight: expected a finite number above 0, got {weight}")
    try:
        is_file = Path(teacher.weights).is_file()
    except (OSError, ValueError):  # a name that the file system does not accept
        is_file = False
    if not is_file:
        problems.append(f"weights: expected a file, got {quote(teacher.weights)}; train the teacher first")
    try:
        _, wrong = check_arguments(import_class(teacher.model), teacher.model_args)
        problems += [f"model_args.{problem}" for problem in wrong]
    except ValueError as error:
        problems.append(f"model: {error}")
    theirs, ours = teacher.model_args.get("num_class"), config.model_args.get("num_class")
    if theirs != ours:
        problems.append(f"model_args.num_class: expected {quote(ours)} as for the student, got {quote(theirs)}")
    return problems


def batch_key(teacher: Config, config: Config) -> str:
    """The key of a teacher's input in the student's batches."""
    return "data" if teacher.modality == config.modality else f"data_{teacher.modality}"


def check_repeats(feeder: Feeder, clips: int = 64) -> None:
    """Refuse to cache logits if two epochs show different clips.

    Raises:
        ConfigError: they differ.
    """
    indices = list(range(min(clips, len(feeder))))
    first, second = (feeder.batch(indices, epoch) for epoch in (0, 1))
    changed = [key for key in first if key.startswith("data") and not torch.equal(first[key], second[key])]
    if changed:
        what = ", ".join(changed)
        raise ConfigError(
            [f"teacher_cache: expected the same clips in every epoch, got augmented ones ({what}); set it to false"]
        )


def check_trained(number: int, teacher: Config, top1: float, num_class: int) -> str:
    """A line for the log on the accuracy of a teacher on the test clips, or on those that are held out.

    Raises:
        ConfigError: top1 (percent) is not above `CHANCE_FACTOR` times chance.
    """
    chance = 100 / num_class
    if top1 > CHANCE_FACTOR * chance:
        return (
            f"teacher {number}: {teacher.model}, {teacher.modality} stream, {teacher.weights}: "
            f"{teacher.tested} top-1 {top1:.2f} %"
        )
    raise ConfigError(
        [
            f"teacher {number}: expected a {teacher.tested} top-1 above {CHANCE_FACTOR} times chance ({chance:.2f} %), "
            f"got {top1:.2f} % with {teacher.weights}; check its modality, its data and its weights"
        ]
    )
