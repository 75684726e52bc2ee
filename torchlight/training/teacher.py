"""Teachers of a distillation: frozen networks described by the option `teacher`, their checks and their logits."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from torchlight.config.imports import check_arguments, import_object
from torchlight.config.options import Config, ConfigError, Modality
from torchlight.contract import Feeder, takes_teacher
from torchlight.distillation import DecoupledKnowledge, precise
from torchlight.system.text import nearest

KEYS = ("model", "model_args", "weights", "weights_key", "modality")
SHARED_ARGUMENTS = (
    "num_class",
    "num_point",
    "num_person",
    "graph",
    "in_channels",
)  # the student's unless given: facts of the data
UNTRAINED = 1.5  # a teacher must be better than chance by this factor


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

    def forget(self) -> None:
        """Discard the cached logits."""
        self.cache = None

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
    takes = takes_teacher(objective)
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


def check_repeats(feeder: Feeder, clips: int = 64) -> None:
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
