"""Configuration: flat YAML and flags into one typed, documented dataclass.

Command line > file > `base:` of the file > default. Every problem of a configuration is collected and raised together.
"""

import typing
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import yaml

Modality = Literal["joint", "bone", "joint_motion", "bone_motion"]


class ConfigError(ValueError):
    """One or more mistakes in a configuration, each a line `key: what was found; what is allowed; what to do`."""

    def __init__(self, problems: list[str]):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A documented dataclass field; mutable defaults are copied."""
    metadata["help"] = help
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(kw_only=True)
class Run:
    """What to do, where and with what; `invocation` options belong to one call and are not kept with the run."""

    phase: Literal["train", "test", "model_size", "show", "report", "export-weights"] = option(
        "train", "what to do", invocation=True
    )
    config: str | None = option(None, "YAML file of the experiment", invocation=True)
    resume: bool = option(False, "go on with the run in work_dir", invocation=True)
    overwrite: bool = option(False, "replace the run in work_dir", invocation=True)
    weights: str | None = option(None, "checkpoint to test or to start from", invocation=True)
    weights_key: str | None = option(
        None, "which state dict of the weights file, for files that hold several", invocation=True
    )
    ignore_weights: list[str] = option(
        [], "leave out weights whose names begin with one of these (fc: a new classifier)", invocation=True
    )
    save_score: bool = option(
        False, "write epoch1_test_score.pkl {sample name: logits} after --phase test", invocation=True
    )
    save_feature: bool = option(
        False, "write epoch1_test_feature.pkl {sample name: pooled features} after --phase test", invocation=True
    )
    ema: bool = option(False, "test the moving average of the weights (model_ema of the file)", invocation=True)
    work_dir: str | None = option(None, "where the run lives; default work_dir/<dataset>/<split>/<model>/<modality>")
    device: list[str] = option(
        [], "GPU numbers or cpu, several for several processes; default: GPU 0 where there is one"
    )
    seed: int = option(1, "a run is a function of (config, seed, data)")
    deterministic: bool = option(False, "on a GPU: only repeatable kernels, slower (the CPU always repeats)")
    num_worker: int | None = option(
        None, "processes per device that make batches; default: as many as pay (docs/performance.md)"
    )


@dataclass(kw_only=True)
class Data:
    """The clips: a feeder class and its arguments."""

    feeder: str | None = option(None, "dotted path of the feeder class")
    train_feeder_args: dict = option({}, "arguments of the training feeder")
    test_feeder_args: dict = option({}, "arguments of the test feeder")
    hold_out: list[str] = option(
        [],
        "test on the training clips whose names have one of these words (s03, P017), train on the others, leave the test part unread",
    )
    modality: Modality = option("joint", "the stream: joint, bone, joint_motion or bone_motion")
    batch_size: int = option(64, "clips per optimizer step, over all devices and accumulation steps")
    test_batch_size: int = option(64, "clips per evaluation step and device")
    data_on_device: bool = option(
        True, "on a GPU: hold the clips there and make batches there, if they fit and num_worker asks for none"
    )


@dataclass(kw_only=True)
class Network:
    """The network and the loss."""

    model: str | None = option(None, "dotted path of the model class")
    model_args: dict = option({}, "arguments of the model")
    objective: str = option("torchlight.objective.Classification", "dotted path of the objective class")
    objective_args: dict = option({}, "arguments of the objective (label_smoothing, mixup_alpha ...)")
    teacher: list[dict] = option(
        [], "frozen teachers for distillation, each {model, model_args, weights, weights_key, modality}"
    )
    teacher_cache: bool = option(False, "keep the teachers' logits of each clip, for recipes without augmentation")


@dataclass(kw_only=True)
class Optimization:
    """The recipe."""

    optimizer: Literal["SGD", "Adam", "AdamW"] = option("SGD", "optimizer")
    base_lr: float = option(0.1, "learning rate for the whole batch_size, after the warm-up")
    momentum: float = option(0.9, "momentum of SGD")
    nesterov: bool = option(True, "Nesterov momentum of SGD")
    weight_decay: float = option(0.0001, "weight decay")
    weight_decay_end: float | None = option(None, "weight decay at the end of a cosine; default: constant")
    decay_all: bool = option(True, "weight decay on every parameter; false: not on vectors and biases")
    num_epoch: int = option(65, "epochs")
    lr_schedule: Literal["step", "cosine"] = option("step", "course of the learning rate after the warm-up")
    lr_interval: Literal["epoch", "step"] = option(
        "epoch", "when the learning rate changes: every epoch or every optimizer step"
    )
    step: list[int] = option([], "epochs (from 0) at which the learning rate is multiplied by lr_decay_rate")
    lr_decay_rate: float = option(0.1, "factor at each step")
    min_lr: float = option(0.0, "where the cosine ends")
    warm_up_epoch: int = option(0, "epochs of linear warm-up")
    update_freq: int = option(1, "backward passes per optimizer step; batch_size is divided by it")
    clip_grad: float = option(0.0, "largest norm of the gradient; 0: no clipping")
    freeze: list[str] = option(
        [], "parameters whose name contains one of these are not trained in the first freeze_epoch epochs"
    )
    freeze_epoch: int = option(0, "how many epochs freeze lasts")
    ema_decay: float = option(0.0, "decay of the moving average of the weights (model_ema); 0: none")
    precision: Literal["float32", "bfloat16", "float16"] = option(
        "float32", "arithmetic of the forward pass (autocast)"
    )
    tf32: bool = option(False, "TF32 matrix products on GPUs: faster, 10 bits of mantissa")
    compile: bool = option(False, "torch.compile the network for training")
    sync_bn: bool = option(False, "batch norm over all GPUs instead of each one's share")


@dataclass(kw_only=True)
class Records:
    """Evaluation, checkpoints and logs."""

    eval_interval: int = option(1, "evaluate every so many epochs, and after the last")
    save_interval: int = option(1, "write last.pt every so many epochs, and after the last")
    save_every_steps: int = option(0, "write last.pt also every so many optimizer steps within an epoch; 0: no")
    keep: int = option(0, "how many of the latest checkpoints stay as epoch_<n>.pt beside last.pt")
    log_interval: int = option(100, "optimizer steps between two looks at the loss (each waits for the device)")


@dataclass(kw_only=True)
class Config(Records, Optimization, Network, Data, Run):
    """A resolved experiment: every option of the five sections, flat as in the YAML files.

    `origins` tells where each option that is not a default comes from.
    """

    def __post_init__(self) -> None:
        self.origins: dict[str, str] = {}

    def to_yaml(self) -> str:
        """The experiment as YAML that loads to an equal configuration (options of one call left out)."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if not f.metadata.get("invocation")}
        return yaml.safe_dump({k: v for k, v in kept.items() if v is not None}, sort_keys=False, width=140)


FIELDS = {f.name: f for f in fields(Config)}
TYPES = typing.get_type_hints(Config)


def check_values(config: Config) -> list[str]:
    """Problems that types do not show."""
    problems = []
    for key in (
        "batch_size",
        "test_batch_size",
        "num_epoch",
        "eval_interval",
        "save_interval",
        "log_interval",
        "update_freq",
    ):
        if getattr(config, key) < 1:
            problems.append(f"{key}: found {getattr(config, key)}; at least 1 is needed")
    not_negative = (
        "base_lr",
        "min_lr",
        "weight_decay",
        "momentum",
        "clip_grad",
        "num_worker",
        "warm_up_epoch",
        "freeze_epoch",
        "seed",
    )
    for key in (*not_negative, "save_every_steps", "keep"):
        if not 0 <= (getattr(config, key) or 0) < float("inf"):
            problems.append(f"{key}: found {getattr(config, key)}; 0 or more is needed")
    if sorted(config.step) != config.step:
        problems.append(f"step: found {config.step}; epochs in rising order are needed")
    if not 0 <= config.ema_decay < 1:
        problems.append(f"ema_decay: found {config.ema_decay}; 0 <= ema_decay < 1 is needed")
    if bool(config.freeze) != bool(config.freeze_epoch):
        problems.append(
            f"freeze and freeze_epoch: found {config.freeze} and {config.freeze_epoch}; one needs the other"
        )
    if config.step and config.lr_schedule == "cosine":
        problems.append(
            f"step: found {config.step} with lr_schedule cosine, where it has no effect; leave one of them out"
        )
    if config.nesterov and not config.momentum and config.optimizer == "SGD":
        problems.append("nesterov: found true with momentum 0; set nesterov false or a momentum")
    if (
        any(word != "cpu" and not word.isdigit() for word in config.device)
        or len({word == "cpu" for word in config.device}) > 1
    ):
        problems.append(
            f"device: found {' '.join(config.device)}; GPU numbers or cpu are needed, not both; e.g. --device 0 1"
        )
    if config.weight_decay_end is not None and (config.weight_decay_end < 0 or not config.weight_decay):
        problems.append(
            f"weight_decay_end: found {config.weight_decay_end} after weight_decay {config.weight_decay}; "
            "0 or more is needed, and a weight_decay to begin with"
        )
    if config.resume and config.overwrite:
        problems.append("resume and overwrite: found both; choose one")
    return problems
