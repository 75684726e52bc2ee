"""Checks beyond types: numbers out of range, options that contradict each other, and options without effect."""

from collections.abc import Iterable
from typing import Any

from torchlight.config.options import FIELDS, Config
from torchlight.system.text import quote


def check_values(config: Config) -> list[str]:
    """Problems beyond wrong types: numbers out of range, and options that contradict each other."""
    problems = [problem for name in FIELDS if (problem := check_range(name, getattr(config, name)))]
    problems += check_finetune(config)
    for wrong, message in (
        (
            any(epoch < 0 for epoch in config.step) or sorted(config.step) != config.step,
            f"step: expected epochs from 0 in ascending order, got {quote(config.step)}",
        ),
        (
            bool(config.freeze) != bool(config.freeze_epoch),
            f"freeze and freeze_epoch: expected both or neither, got {quote(config.freeze)} and {config.freeze_epoch}",
        ),
        (
            config.step and config.lr_schedule == "cosine",
            f"step: expected none with lr_schedule cosine, where it has no effect, got {quote(config.step)}",
        ),
        (
            config.min_lr > config.base_lr and config.lr_schedule == "cosine",
            f"min_lr: expected at most base_lr {config.base_lr}, got {config.min_lr}",
        ),
        (
            config.warm_up_lr is not None and (not config.warm_up_epoch or config.lr_schedule != "cosine"),
            "warm_up_lr: expected lr_schedule cosine and a warm_up_epoch above 0, "
            f"got {config.lr_schedule} and {config.warm_up_epoch}",
        ),
        (
            config.nesterov and not config.momentum and config.optimizer == "SGD",
            "nesterov: expected false with momentum 0, got true; set nesterov false or a momentum",
        ),
        (
            config.weight_decay_end is not None and not config.weight_decay,
            f"weight_decay_end: expected a weight_decay above 0 to start from, got {config.weight_decay}",
        ),
        (
            config.weights_optimizer and config.ignore_weights,
            "weights_optimizer: expected no ignore_weights, because its state is that of all weights, got both",
        ),
        (
            config.map_classes and config.ignore_weights,
            "map_classes: expected no ignore_weights, because it maps the classifier of the weights, got both",
        ),
        (config.resume and config.overwrite, "resume and overwrite: expected one of them, got both"),
        (
            not are_devices(config.device),
            f"device: expected different GPU numbers, or cpu, got {quote(' '.join(config.device))}; e.g. --device 0 1",
        ),
    ):
        if wrong:
            problems.append(message)
    return problems


def check_finetune(config: Config) -> list[str]:
    """Fine-tuning options that contradict each other. A test may combine weights with the options of its run."""
    problems = []
    if config.finetune and config.weights and config.phase == "train":
        problems.append("finetune and weights: expected one of them, got both")
    if not config.finetune and (config.backbone_lr != 1 or config.finetune_body):
        problems.append("backbone_lr, finetune_body: expected --finetune as well, got none")
    if config.freeze and config.backbone_lr == 0:
        hint = "give --freeze --freeze-epoch 0"
        problems.append(f"backbone_lr: expected above 0 with freeze, which would release the backbone, got 0; {hint}")
    return problems


def idle_schedule(config: Config) -> list[str]:
    """Parts of the learning rate schedule that have no effect, or another one than their options say."""
    epochs, warm, step = config.num_epoch, config.warm_up_epoch, config.step
    notes = []
    if warm >= epochs:
        notes.append(f"warm_up_epoch: expected fewer than num_epoch {epochs}, got {warm}: all epochs are warm-up")
    if step and min(step) >= epochs:
        notes.append(
            f"step: expected an epoch before num_epoch {epochs}, got {step}: the learning rate never decreases"
        )
    if step and min(step) < warm:
        notes.append(f"step: expected epochs after the warm-up of {warm} epochs, got {step}")
    return notes


def check_range(name: str, value: Any) -> str | None:
    """The problem of a number that is outside the range of its option."""
    facts = FIELDS[name].metadata
    low, high, below = facts.get("low"), facts.get("high"), facts.get("below")
    if (
        low is None
        or value is None
        or (low <= value and (high is None or value <= high) and (below is None or value < below))
    ):
        return None
    if below is not None:
        return f"{name}: expected {low} <= {name} < {below}, got {value}"
    return f"{name}: expected {low} {'or more' if high is None else f'to {high}'}, got {value}"


def are_devices(words: list[str]) -> bool:
    """Whether these are different GPU numbers, or cpu once or several times."""
    if set(words) <= {"cpu"}:
        return True
    return len(set(words)) == len(words) and all(word.isascii() and word.isdigit() for word in words)


def find_without_effect(config: Config, given: Iterable[str]) -> tuple[list[str], list[str]]:
    """Which of the options given on the command line have no effect: (problems of requests, names of all others).

    A run may be tested with the flags of its training. Flags that describe the experiment are therefore not errors;
    they are only named.
    """
    problems, others = [], []
    for name in given:
        if name not in FIELDS or getattr(config, name) in (None, False, [], {}):
            continue
        facts = FIELDS[name].metadata
        flag = f"--{name.replace('_', '-')}"
        if config.phase not in (*facts["phases"], "show"):
            if facts.get("request"):
                where = " or ".join(f"--phase {phase}" for phase in facts["phases"])
                problems.append(f"{name}: expected {where}, got --phase {config.phase}, where {flag} has no effect")
            else:
                others.append(name)
        elif "needs" in facts and not any(getattr(config, key) for key in facts["needs"]) and config.phase != "show":
            needed = " or ".join(f"--{key}" for key in facts["needs"])
            problems.append(f"{name}: expected {needed} as well, got none; {flag} has no effect without it")
    return problems, others
