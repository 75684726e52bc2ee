"""What the translations of PYSKL's configuration files share: collecting problems, data, optimizer and schedule."""

import re
from typing import Any

from torchlight.system.text import quote

GPUS = 8  # of the published recipes; the files state the batch size of one GPU only
USED = {"model", "data", "optimizer", "optimizer_config", "lr_config", "total_epochs"}
INTERVALS = {"checkpoint_config": "save_interval", "evaluation": "eval_interval", "log_config": "log_interval"}
NAMES = {"dataset_type", "ann_file", "pipeline", "modality", "graph"}  # of values that are used elsewhere
NAMES |= {f"{part}_pipeline" for part in ("train", "val", "test")}
NAMES |= {"left_kp", "right_kp", "skeletons", "left_limb", "right_limb", "class_prob"}
NAMES |= {"box_thr", "valid_ratio", "memcached", "mc_cfg"}
WITHOUT_EFFECT = {"log_level", "work_dir"}


class Translation:
    """One configuration; collects problems and notes. A subclass has `options`, all that the file means.

    clip_place: the key of the clipping of gradients in messages.
    """

    clip_place = "optimizer_config.grad_clip"

    def __init__(self, content: dict[str, Any]):
        self.content = content
        self.problems: list[str] = []
        self.notes: list[str] = []

    def options(self) -> dict[str, Any]:
        """All options."""
        raise NotImplementedError

    def note_rest(self) -> None:
        """Name what has no effect here."""
        rest = self.content.keys() - USED - INTERVALS.keys() - NAMES - WITHOUT_EFFECT
        if rest:
            self.notes.append(f"without effect here: {', '.join(sorted(rest))}")

    def problem(self, place: str, known: Any, got: Any) -> None:
        self.problems.append(f"{place}: expected {', '.join(known)}, got {quote(got)}")

    def expect(self, place: str, found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
        """The other entries of `found`; other values than the wanted ones are problems."""
        for key, value in wanted.items():
            if found.get(key, value) != value:
                self.problems.append(f"{place}.{key}: expected {value!r}, got {quote(found[key])}")
        return {key: value for key, value in found.items() if key not in wanted}

    def leftover(self, place: str, found: dict[str, Any], ignored: tuple[str, ...] = ()) -> None:
        """What was not translated is a problem."""
        for key, value in found.items():
            if key not in ignored:
                self.problems.append(
                    f"{place}.{key}: expected nothing, because it has no equivalent, got {quote(value)}"
                )

    def frame(self, model: dict[str, Any]) -> None:
        """The entries of `model` beside its networks: scores of several samples are averaged as probabilities."""
        test = self.expect("model.test_cfg", model.get("test_cfg") or {}, {"average_clips": "prob"})
        self.leftover("model.test_cfg", test, ("max_testing_views",))  # less memory
        rest = {key: value for key, value in model.items() if value}
        self.leftover("model", rest, ("type", "backbone", "cls_head", "test_cfg"))

    def part(self, name: str) -> tuple[dict[str, Any], int]:
        """The entries of the part `train` or `test` of the data, and how often an epoch has its clips."""
        part = self.content["data"][name]
        return (part["dataset"], part["times"]) if "dataset" in part else (part, 1)

    def recipe(self) -> dict[str, Any]:
        """Optimizer, schedule, epochs, intervals."""
        optimizer, schedule = dict(self.content["optimizer"]), dict(self.content["lr_config"])
        clips = self.content["data"]["videos_per_gpu"]
        batch = clips * GPUS
        self.notes.append(f"batch_size {batch}: {GPUS} GPUs x {clips} clips, as in the published recipes")
        options = {"batch_size": batch, "optimizer": optimizer.pop("type"), "base_lr": optimizer.pop("lr")}
        options |= {"momentum": optimizer.pop("momentum", 0), "weight_decay": optimizer.pop("weight_decay", 0)}
        options["nesterov"] = optimizer.pop("nesterov", False)
        hook = self.expect("optimizer_config", self.content.get("optimizer_config") or {}, {"type": "OptimizerHook"})
        clip = self.expect(self.clip_place, hook.pop("grad_clip", None) or {}, {"norm_type": 2})
        options["clip_grad"] = clip.pop("max_norm", 0)
        policy, by_epoch = schedule.pop("policy"), schedule.pop("by_epoch", True)
        options["lr_interval"] = "epoch" if by_epoch else "step"
        if policy == "CosineAnnealing":
            options |= {"lr_schedule": "cosine", "min_lr": schedule.pop("min_lr", 0)}
        elif policy == "step":
            options |= {"lr_schedule": "step", "step": list(schedule.pop("step"))}
            options["lr_decay_rate"] = schedule.pop("gamma", 0.1)
        else:
            self.problem("lr_config.policy", ("CosineAnnealing", "step"), policy)
        self.leftover("optimizer_config", hook)
        self.leftover(self.clip_place, clip)
        self.leftover("optimizer", optimizer)
        self.leftover("lr_config", schedule)
        intervals = {
            ours: self.content[key].get("interval", 1) for key, ours in INTERVALS.items() if key in self.content
        }
        return options | intervals | {"num_epoch": self.content["total_epochs"]}


def split_of(name: str) -> str:
    """The split of a part: `xsub` of xsub_val, `1` of test1, none of val."""
    numbered = re.fullmatch(r"(?:train|val|test)(\d+)", name)
    return numbered[1] if numbered else name.rpartition("_")[0]
