"""The options: typed, documented dataclass fields, flat as in the YAML files and on the command line.

The metadata of a field: `help`; `phases`, the phases in which it has an effect (`show` prints every option); `low`,
`high` and `below`, the range of a number; `request`: the option requests an action, so it is an error to give it where
it has no effect; `invocation`: the option applies to one call and is not stored with the run; `needs`: the option only
has an effect if at least one of these other options is given.
"""

import typing
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import yaml

from torchlight.system.modalities import Modality

Phase = Literal["train", "test", "predict", "model_size", "show", "report", "robustness", "export", "export-weights"]
PHASES: tuple[str, ...] = typing.get_args(Phase)
TRAIN, TEST, PREDICT, EXPORT = ("train",), ("test",), ("predict",), ("export",)
RUN = ("train", "test", "robustness")  # phases that read data and process batches
INFER = (*RUN, "predict")  # phases that run the network
DATA = (*RUN, "model_size")  # phases that read data
MODEL = (*DATA, "export-weights")  # phases that build the network
WEIGHTS = (*INFER, "export-weights", "export")  # phases that load weights
DIRECTORY = (*RUN, "report")  # phases with a run directory
COMMAND_LINE = "command line"  # origin of an option that is not from a file
MOST_WORKERS = 256


class ConfigError(ValueError):
    """One or more mistakes in a configuration, each a line `key: expected ..., got ...; what to do`."""

    def __init__(self, problems: list[str]):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def option(default: Any, help: str, phases: tuple[str, ...], **metadata: Any) -> Any:
    """A dataclass field with metadata (see the module's docstring); mutable defaults are copied."""
    metadata |= {"help": help, "phases": phases}
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def request(default: Any, help: str, phases: tuple[str, ...], **metadata: Any) -> Any:
    """An option that belongs to one call."""
    return option(default, help, phases, request=True, invocation=True, **metadata)


@dataclass(kw_only=True)
class Run:
    """What to do, where, and with which files."""

    phase: Phase = option("train", "what to do", PHASES, invocation=True)
    config: str | None = option(
        None,
        "YAML file, or a Python file of PYSKL or mmaction2; of several files, later ones override earlier ones",
        PHASES,
        invocation=True,
    )
    resume: bool | Literal["auto"] = request(
        False, "continue the run in work_dir; auto: start a new run if there is none (for requeued jobs)", TRAIN
    )
    overwrite: bool = request(False, "replace the run in work_dir", TRAIN)
    weights: str | None = request(
        None,
        "checkpoint or .safetensors to test, predict with, export or start from (several for predict), or zoo:NAME",
        WEIGHTS,
    )
    weights_key: str | None = request(
        None, "key of the state dict in files with several state dicts", WEIGHTS, needs=("weights", "finetune")
    )
    ignore_weights: list[str] = request(
        [],
        "do not load weights whose names begin with one of these words (fc: a new classifier)",
        WEIGHTS,
        needs=("weights",),
    )
    weights_optimizer: bool = request(
        False,
        "also load the optimizer state from weights (momentum, moments); learning rates are those of the new run",
        TRAIN,
        needs=("weights",),
    )
    map_classes: bool = request(
        False,
        "reorder the classes of the weights by name to match the data; test data may have only some of the classes",
        RUN,
        needs=("weights",),
    )
    save_score: bool = request(False, "write epoch1_test_score.pkl {sample name: logits}", TEST)
    curves: list[str] = request(
        [], "degradations of the test clips: stretches, joints, noise, rate, observed; default: all", ("robustness",)
    )
    save_feature: bool = request(False, "write epoch1_test_feature.pkl {sample name: pooled features}", TEST)
    ema: bool = request(
        False, "use the moving average of the weights (model_ema of the file)", WEIGHTS, needs=("weights", "finetune")
    )
    export_names: Literal["original", "pyskl"] = request("original", "key names of the file", ("export-weights",))
    format: Literal["onnx", "torch"] = request("onnx", "format of the exported network: ONNX or torch.export", EXPORT)
    dynamic: Literal["batch"] | None = request(None, "batch: export for any number of clips instead of one", EXPORT)
    work_dir: str | None = option(
        None, "run directory; default: work_dir/<dataset>/<split>/<model>/<modality>", DIRECTORY
    )
    data_root: str | None = request(
        None, "folder that replaces data/ in paths; default: the environment variable SKELETON_DATA, else data", DATA
    )
    device: list[str] = option([], "GPU numbers or cpu, one process each; default: GPU 0 if there is one", INFER)
    seed: int = option(1, "seed; a run is a function of (config, seed, data)", DATA, low=0, high=2**32 - 1)
    deterministic: bool = option(False, "on a GPU: deterministic kernels only, slower (CPU runs always are)", INFER)
    num_worker: int | None = option(
        None, "processes per device that make batches; default: chosen automatically", RUN, low=0, high=MOST_WORKERS
    )


@dataclass(kw_only=True)
class Data:
    """The clips: a feeder class and its arguments."""

    feeder: str | None = option(None, "dotted path of the feeder class", DATA)
    train_feeder_args: dict = option({}, "arguments of the training feeder", TRAIN)
    test_feeder_args: dict = option({}, "arguments of the test feeder", DATA)
    hold_out: list[str] = option(
        [],
        "test on the training clips whose names contain one of these words (s03, P017) and train on the others",
        (*DATA, "report"),
    )
    modality: Modality = option(
        "joint",
        "stream: joint, bone, kbone (bones over two joints), the motion of one: joint_motion, ..., or limb (heatmaps)",
        (*DATA, "report"),
    )
    batch_size: int = option(64, "clips per optimizer step, over all devices and accumulation steps", TRAIN, low=1)
    sampler: Literal["shuffled", "balanced"] = option(
        "shuffled",
        "shuffled: each clip once per epoch; balanced: each class equally often (clips of small classes are repeated)",
        TRAIN,
    )
    test_batch_size: int = option(64, "clips per evaluation step and device", INFER, low=1)
    data_on_device: bool = option(
        True, "on a GPU: keep the clips and make batches there, if they fit and num_worker is not set", RUN
    )


@dataclass(kw_only=True)
class Network:
    """The network and the loss."""

    model: str | None = option(None, "dotted path of the model class", MODEL)
    model_args: dict = option({}, "arguments of the model", MODEL)
    objective: str = option("torchlight.objective.Classification", "dotted path of the objective class", RUN)
    objective_args: dict = option({}, "arguments of the objective (label_smoothing, mixup_alpha, ...)", RUN)
    finetune: str | None = option(
        None,
        "checkpoint, or zoo:NAME, to start from with a new classifier (docs/finetune.md)",
        TRAIN,
    )
    finetune_body: str | None = option(
        None, "body layout of the finetune file, if the file does not state it: graph.ucla, body_25", TRAIN
    )
    teacher: list[dict] = option(
        [], "frozen teachers for distillation, each {model, model_args, weights, weights_key, modality, weight}", TRAIN
    )
    teacher_cache: bool = option(
        False, "cache the teachers' logits of each clip, for recipes without augmentation", TRAIN, request=True
    )


@dataclass(kw_only=True)
class Optimization:
    """The optimizer, its schedules, and the numerical precision."""

    optimizer: Literal["SGD", "Adam", "AdamW"] = option("SGD", "optimizer", TRAIN)
    base_lr: float = option(0.1, "learning rate of the global batch_size, after the warm-up", TRAIN, low=0)
    backbone_lr: float = option(
        1.0, "learning rate factor of the parameters from finetune; 0 freezes them and their statistics", TRAIN, low=0
    )
    momentum: float = option(0.9, "momentum of SGD", TRAIN, low=0)
    nesterov: bool = option(True, "Nesterov momentum of SGD", TRAIN)
    weight_decay: float = option(0.0001, "weight decay", TRAIN, low=0)
    weight_decay_end: float | None = option(None, "final weight decay of a cosine; default: constant", TRAIN, low=0)
    decay_all: bool = option(True, "apply weight decay to all parameters; false: except vectors and biases", TRAIN)
    num_epoch: int = option(65, "number of epochs", TRAIN, low=1)
    lr_schedule: Literal["step", "cosine"] = option("step", "learning rate schedule after the warm-up", TRAIN)
    lr_interval: Literal["epoch", "step"] = option(
        "epoch", "when the learning rate changes: every epoch or every optimizer step", TRAIN
    )
    step: list[int] = option([], "epochs (from 0) at which the learning rate is multiplied by lr_decay_rate", TRAIN)
    lr_decay_rate: float = option(0.1, "factor at each step", TRAIN, low=0)
    min_lr: float = option(0.0, "final learning rate of the cosine", TRAIN, low=0)
    warm_up_epoch: int = option(0, "epochs of linear warm-up", TRAIN, low=0)
    warm_up_interval: Literal["epoch", "step"] | None = option(
        None, "when the learning rate changes during the warm-up; default: lr_interval", TRAIN
    )
    warm_up_lr: float | None = option(None, "initial rate of a warm-up within the cosine (timm)", TRAIN, low=0)
    update_freq: int = option(1, "accumulation steps per optimizer step; batch_size is divided by it", TRAIN, low=1)
    clip_grad: float = option(0.0, "maximum norm of the gradient; 0: no clipping", TRAIN, low=0)
    freeze: list[str] = option(
        [], "parameters whose names contain one of these are not trained in the first freeze_epoch epochs", TRAIN
    )
    freeze_epoch: int = option(0, "number of epochs that freeze lasts", TRAIN, low=0)
    ema_decay: float = option(0.0, "decay of the moving average of the weights; 0: none", TRAIN, low=0, below=1)
    precision: Literal["float32", "bfloat16", "float16"] = option(
        "float32", "precision of the forward pass (autocast) or of an exported network", (*INFER, "export")
    )
    tf32: bool | Literal["convolutions"] = option(
        "convolutions", "on a GPU: operations in TF32 (10 bits of mantissa); true: also matrix products", INFER
    )
    compile: bool = option(False, "torch.compile the network for training", TRAIN)
    cuda_graph: bool | Literal["auto"] = option(
        False, "on a GPU: record the training step as a CUDA graph; auto: if it is known to be possible", TRAIN
    )
    sync_bn: bool = option(False, "batch norm statistics over all GPUs instead of per GPU", TRAIN)


@dataclass(kw_only=True)
class Records:
    """Evaluation, checkpoints and logs."""

    eval_interval: int = option(1, "epochs between two evaluations; the last epoch is always evaluated", TRAIN, low=1)
    save_interval: int = option(1, "epochs between two writes of last.pt; the last epoch is always saved", TRAIN, low=1)
    save_every_steps: int = option(
        0, "optimizer steps between two writes of last.pt within an epoch; 0: none", TRAIN, low=0
    )
    keep: int = option(0, "number of latest checkpoints to keep as epoch_<n>.pt in addition to last.pt", TRAIN, low=0)
    log_interval: int = option(
        100, "optimizer steps between two records of the loss in TensorBoard (each waits for the device)", TRAIN, low=1
    )


@dataclass(kw_only=True)
class Predict:
    """Predictions for new recordings."""

    further_weights: list[str] = request(
        [], "further files of --weights, whose streams are fused with the first", PREDICT, needs=("weights",)
    )
    source: str | None = request(
        None,
        "what to predict: a pose file, a folder or a pattern; a video, a camera number or an rtsp address; - for poses "
        "on standard input",
        PREDICT,
    )
    output: str | None = request(
        None,
        "file for the predictions: .jsonl or .csv; segments also .srt, .vtt, .txt (Audacity) or .tsv (ELAN); for the "
        "exported network: .onnx or .pt2",
        (*PREDICT, *EXPORT),
    )
    save_picture: str | None = request(
        None,
        "file for an animation of the recordings with their labels: .gif or .html; for a live source: .mp4",
        PREDICT,
    )
    top_k: int = request(3, "classes to list for each clip", PREDICT, low=1, high=1000)
    persons: Literal["auto", "scene", "each"] = request(
        "auto", "scene: one label for all persons; each: one per person; auto: each with --window", PREDICT
    )
    window: float | None = request(
        None, "seconds of a sliding window over long recordings; 0: the median training clip", PREDICT, low=0, high=1e6
    )
    stride: float | None = request(
        None,
        "seconds between two windows; default: a tenth of the window",
        PREDICT,
        low=0.001,
        high=1e6,
        needs=("window",),
    )
    threshold: float = request(0.5, "probability below which no action is reported", PREDICT, low=0, high=1)
    switch_cost: float = request(0.05, "cost of a change of label between segments, in nat seconds", PREDICT, low=0)
    shortest: float = request(0.5, "minimum length of a segment in seconds", PREDICT, low=0)
    background: str | None = request(None, "name of the background class (no action)", PREDICT)
    truth: str | None = request(
        None, "CSV of true segments (start_s, end_s, label, recording) to compare with", PREDICT
    )
    layout: str | None = request(None, "body layout of the poses, if the file does not state it", PREDICT)
    frame_rate: float | None = request(
        None, "frames per second, if the file does not state it", PREDICT, low=0.001, high=1e6
    )
    image_size: list[int] = request([], "width and height of the image, if the file does not state it", PREDICT)
    mirror: bool = request(False, "the image is mirrored: exchange left and right", PREDICT)
    recipe: str | None = request(
        None,
        "how the training clips were prepared (ctrgcn, agcn, ...), if the checkpoint does not state it",
        (*PREDICT, *EXPORT),
    )
    alpha: list[float] = request([], "weights of the streams; default: those of --preset", PREDICT)
    preset: str = request("ctrgcn", "published weights of the streams, as in ensemble.py", PREDICT)
    pose_model: list[str] = request(
        [], "pose estimator: a .task file (MediaPipe) or detector and pose .onnx files (RTMPose)", PREDICT
    )
    live: bool = request(False, "play a video in real time and drop frames, as a camera does", PREDICT)
    show: bool = request(False, "show the video with its labels in a window", PREDICT)


@dataclass(kw_only=True)
class Config(Predict, Records, Optimization, Network, Data, Run):
    """A resolved experiment: every option of the six sections.

    `origins` contains the origin of each option that is not a default.
    """

    def __post_init__(self) -> None:
        self.origins: dict[str, str] = {}

    @property
    def tested(self) -> str:
        """Name of the clips that are evaluated: the test clips, or the held-out training clips."""
        return "held-out" if self.hold_out else "test"

    def to_yaml(self) -> str:
        """The experiment as YAML that loads to an equal configuration (options of one call left out)."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if not f.metadata.get("invocation")}
        return yaml.safe_dump({k: v for k, v in kept.items() if v is not None}, sort_keys=False, width=140)


FIELDS = {f.name: f for f in fields(Config)}
TYPES = typing.get_type_hints(Config)
FEEDER_ARGS = ("train_feeder_args", "test_feeder_args")
SHARED = {"feeder_args": FEEDER_ARGS}  # keys of files and flags that set several options
SHARED_HELP = {"feeder_args": "arguments of both feeders; train_feeder_args and test_feeder_args override them"}
