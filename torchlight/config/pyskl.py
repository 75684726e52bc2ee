"""Configuration files of PYSKL and of its descendants ProtoGCN, ACLNet and SkeletonAgent, read as data and translated.

The files of the descendants are read for testing; their training has recipes here (config/ntu/xsub/protogcn.yaml).
"""

from pathlib import Path
from typing import Any

from torchlight.config.options import ConfigError
from torchlight.config.python_literals import read_python
from torchlight.system.text import quote

GPUS = 8  # of the published recipes; the files state the batch size of one GPU only
NETWORKS = {
    "STGCN": "model.stgcn.Model",
    "AAGCN": "model.aagcn.Model",
    "CTRGCN": "model.ctrgcn.Model",
    "MSG3D": "model.msg3d.Model",
    "DGSTGCN": "model.dgstgcn.Model",
}
WIDE = [96] * 4 + [192] * 3 + [384] * 3
DESCENDANTS = {  # DG-STGCN with these arguments
    "ProtoGCN": {"channels": WIDE},
    "GCN_Module": {"channels": WIDE},
    "GCN_Module_LLM_K400": {"channels": WIDE},
    "GCN_Module_LLM": {"channels": WIDE[1:], "joint_embedding": True},
}
OBJECTIVE = ("num_prototype", "llm_model", "llm_modality", "num_classes")  # of a descendant, in its network
HEAD = ("joint_cfg", "data_cfg", "weight", "interval_epoch", "weight_1", "weight_2", "work_dir")  # and its classifier
FIXED_ARGS = {"CTRGCN": {"relu_after_tcn": True}, "MSG3D": {"num_gcn_scales": 13, "num_g3d_scales": 6}}
STGCNPP = {"gcn_adaptive": "init", "gcn_with_res": True, "tcn_type": "mstcn"}
BRANCHES = [(3, 1), (3, 2), (3, 3), (3, 4), ("max", 3), "1x1"]
DGSTGCN = {"gcn_ratio": 0.125, "gcn_ctr": "T", "gcn_ada": "T", "tcn_ms_cfg": BRANCHES}
LAYOUTS = {"nturgb+d": ("graph.ntu_rgb_d", 25), "coco": ("graph.coco", 17), "openpose": ("graph.kinetics", 18)}
LAYOUTS |= {"coco_new": ("graph.coco20", 20), "uav": ("graph.uav", 17)}
MODES = {"stgcn_spatial": "stgcn_spatial", "spatial": "spatial", "binary_adj": "binary"}
STREAMS = {
    "j": "joint",
    "b": "bone",
    "k": "kbone",
    "jm": "joint_motion",
    "bm": "bone_motion",
    "km": "kbone_motion",
}
SAMPLERS = {"UniformSample": "uniform", "UniformSampleFrames": "uniform", "UniformSampleDecode": "uniform_decode"}
USED = {"model", "data", "optimizer", "optimizer_config", "lr_config", "total_epochs"}
INTERVALS = {"checkpoint_config": "save_interval", "evaluation": "eval_interval", "log_config": "log_interval"}
NAMES = {"dataset_type", "ann_file", "pipeline", "modality", "graph"}  # of values that are used elsewhere
NAMES |= {f"{part}_pipeline" for part in ("train", "val", "test")}
NAMES |= {"left_kp", "right_kp", "box_thr", "valid_ratio", "memcached", "mc_cfg"}
WITHOUT_EFFECT = {"log_level", "work_dir"}


def read_pyskl_config(path: str | Path) -> tuple[dict[str, Any], list[str]]:
    """The options that a PYSKL configuration file means, and notes about what the file does not state.

    Raises:
        ValueError: the file is not one, or holds what has no equivalent here; all problems at once.
    """
    content = read_python(path)
    if "_base_" in content:
        raise ConfigError([f"{path}: _base_: expected a whole configuration, got one that inherits from another"])
    translation = Translation(content)
    try:
        options = translation.options()
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise ConfigError([f"{path}: expected the structure of a PYSKL configuration, got {error!r}"]) from error
    if translation.problems:
        raise ConfigError([f"{path}: {problem}" for problem in translation.problems])
    return options, translation.notes


class Translation:
    """One configuration; collects problems and notes."""

    def __init__(self, content: dict[str, Any]):
        self.content = content
        self.problems: list[str] = []
        self.notes: list[str] = []

    def options(self) -> dict[str, Any]:
        """All options."""
        rest = self.content.keys() - USED - INTERVALS.keys() - NAMES - WITHOUT_EFFECT
        if rest:
            self.notes.append(f"without effect here: {', '.join(sorted(rest))}")
        model, data = self.content["model"], self.content["data"]
        self.expect("model", model, {"type": "RecognizerGCN"})
        backbone = dict(model["backbone"])
        graph_cfg = dict(backbone.pop("graph_cfg"))
        self.layout = graph_cfg.pop("layout")
        if self.layout not in LAYOUTS:
            self.problem("model.backbone.graph_cfg.layout", LAYOUTS, self.layout)
            return {}
        self.kind = backbone.pop("type")
        self.is_descendant = self.kind in DESCENDANTS
        options = {"feeder": "feeders.feeder_pyskl.Feeder"} | self.network(backbone, graph_cfg, model["cls_head"])
        options |= self.feeders(data, options["model_args"])
        if self.is_descendant:
            self.notes.append(f"for testing only: the training objective of {self.kind} is not read from its file")
            return options
        return options | self.recipe(data)

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

    def network(self, backbone: dict[str, Any], graph_cfg: dict[str, Any], head: dict[str, Any]) -> dict[str, Any]:
        """Model and arguments."""
        kind = self.kind
        graph, joints = LAYOUTS[self.layout]
        args = {"num_class": head["num_classes"], "num_point": joints, "graph": f"{graph}.Graph"}
        mode = graph_cfg.pop("mode", None)
        if mode in MODES:
            args["graph_args"] = {"labeling_mode": MODES[mode]}
        elif mode == "random":
            args |= {key: graph_cfg.pop(key) for key in ("num_filter", "init_off", "init_std") if key in graph_cfg}
        else:
            self.problem("model.backbone.graph_cfg.mode", [*MODES, "random"], mode)
        model = NETWORKS.get("DGSTGCN" if self.is_descendant else kind, "")
        if not model:
            self.problem("model.backbone.type", [*NETWORKS, *DESCENDANTS], kind)
        elif kind == "DGSTGCN" or self.is_descendant:
            backbone = self.expect("model.backbone", backbone, DGSTGCN)
        elif kind == "STGCN" and backbone.keys() & STGCNPP.keys():
            model = "model.stgcnpp.Model"
            missing = dict.fromkeys(STGCNPP)  # all three or none
            backbone = self.expect("model.backbone", missing | backbone, STGCNPP)
        elif kind == "STGCN" and "tcn_dropout" in backbone:
            args["dropout"] = backbone.pop("tcn_dropout")
        self.leftover("model.backbone", backbone, OBJECTIVE if self.is_descendant else ())
        self.leftover("model.backbone.graph_cfg", graph_cfg)
        known = ("type", "num_classes", "in_channels")
        self.leftover("model.cls_head", head, known + HEAD if self.is_descendant else known)
        return {"model": model, "model_args": args | FIXED_ARGS.get(kind, {}) | DESCENDANTS.get(kind, {})}

    def feeders(self, data: dict[str, Any], model_args: dict[str, Any]) -> dict[str, Any]:
        """The arguments of both feeders and the modality; adds num_person to the arguments of the network."""
        train, test = data["train"], data["test"]
        repeat, train = (train["times"], train["dataset"]) if "dataset" in train else (1, train)
        common = {"skeleton": LAYOUTS[self.layout][0]}
        if self.kind.startswith("GCN_Module_LLM") and self.layout == "coco_new":  # SkeletonAgent
            common["subtract_scores"] = True
        parts, known = {}, ("type", "ann_file", "split", "pipeline")
        for name, part in (("test", test),) if self.is_descendant else (("train", train), ("test", test)):
            if self.is_descendant:  # all detections are used if no share of them has to be valid
                part = self.expect(f"data.{name}", part, {"valid_ratio": 0.0})
                known += ("box_thr", "memcached", "mc_cfg")
            self.leftover(f"data.{name}", part, known)
            args = {"data_path": part["ann_file"], "split": part["split"].rpartition("_")[0]} | common
            parts[name] = args | self.pipeline(part["pipeline"], name)
            if "middle_joints" in parts[name]:
                parts[name]["skeleton"] = LAYOUTS["coco"][0]
        for key in ("split", "modality", "num_person"):
            found = [parts[name][key] for name in parts]
            if found[0] != found[-1]:
                self.problems.append(f"data: expected one {key} in training and test, got {quote(found)}")
        modality = [parts[name].pop("modality") for name in parts][0]
        model_args["num_person"] = parts["test"]["num_person"]
        if "train" in parts and repeat != 1:
            parts["train"]["repeat"] = repeat
        return {"modality": modality} | {f"{name}_feeder_args": args for name, args in parts.items()}

    def pipeline(self, steps: list[dict[str, Any]], part: str) -> dict[str, Any]:
        """Feeder arguments of one list of transforms."""
        args: dict[str, Any] = {"modality": "joint", "num_person": 2, "pre_normalize": ""}
        for step in steps:
            rest = dict(step)
            kind = rest.pop("type")
            if "sampling" in args and kind in ("PreNormalize3D", "PreNormalize2D", "RandomRot", "RandomScale"):
                self.problems.append(f"{part} pipeline: {kind}: expected before the sampling of frames, got behind it")
            if kind == "PreNormalize3D":
                args |= {"pre_normalize": "3d", "align_spine": rest.pop("align_spine", True)}
            elif kind == "PreNormalize2D":
                args["pre_normalize"] = "2d"
            elif kind == "RandomRot":
                args["random_rot"] = rest.pop("theta", 0.3)
            elif kind == "RandomScale":
                args["random_scale"] = rest.pop("scale", 0.2)
            elif kind == "GenSkeFeat":
                args["modality"] = self.stream(rest)
                args |= {"sample_first": True} if "sampling" in args else {}
            elif kind in SAMPLERS:
                args |= {"sampling": SAMPLERS[kind], "window_size": rest.pop("clip_len")}
                clips = rest.pop("num_clips", 1)
                args |= {"num_clips": clips} if part == "test" else {}
            elif kind == "PadTo":
                rest = self.expect("PadTo", rest, {"mode": "zero"})
                args |= {"sampling": "pad", "window_size": rest.pop("length")}
            elif kind == "FormatGCNInput":
                args["num_person"] = rest.pop("num_person", 2)
            elif kind == "DecompressPose":
                rest = self.expect("DecompressPose", rest, {"squeeze": True})
            elif kind == "Kinetics_Transform" and self.layout == "coco_new":
                args["middle_joints"] = True
            elif kind in ("PoseDecode", "Collect", "ToTensor"):
                rest = {}
            else:
                self.problems.append(f"{part} pipeline: expected transforms of PYSKL's GCNs, got {quote(kind)}")
                rest = {}
            self.leftover(f"{part} pipeline: {kind}", rest)
        return args

    def stream(self, rest: dict[str, Any]) -> str:
        """The modality of a GenSkeFeat."""
        feats, layout = rest.pop("feats", ["j"]), rest.pop("dataset", "nturgb+d")
        if len(feats) != 1 or feats[0] not in STREAMS:
            self.problem("GenSkeFeat.feats: one stream", STREAMS, feats)
            return ""
        if layout != self.layout:
            self.problem("GenSkeFeat.dataset", [self.layout], layout)
        return STREAMS[feats[0]]

    def recipe(self, data: dict[str, Any]) -> dict[str, Any]:
        """Optimizer, schedule, epochs, intervals."""
        optimizer, schedule = dict(self.content["optimizer"]), dict(self.content["lr_config"])
        batch = data["videos_per_gpu"] * GPUS
        self.notes.append(f"batch_size {batch}: {GPUS} GPUs x {data['videos_per_gpu']} clips, as in PYSKL's recipes")
        options = {"batch_size": batch, "optimizer": optimizer.pop("type"), "base_lr": optimizer.pop("lr")}
        options |= {"momentum": optimizer.pop("momentum", 0), "weight_decay": optimizer.pop("weight_decay", 0)}
        options["nesterov"] = optimizer.pop("nesterov", False)
        clip = self.content.get("optimizer_config", {}).get("grad_clip")
        options["clip_grad"] = clip["max_norm"] if clip else 0
        policy, by_epoch = schedule.pop("policy"), schedule.pop("by_epoch", True)
        options["lr_interval"] = "epoch" if by_epoch else "step"
        if policy == "CosineAnnealing":
            options |= {"lr_schedule": "cosine", "min_lr": schedule.pop("min_lr", 0)}
        elif policy == "step":
            options |= {"lr_schedule": "step", "step": list(schedule.pop("step"))}
            options["lr_decay_rate"] = schedule.pop("gamma", 0.1)
        else:
            self.problem("lr_config.policy", ("CosineAnnealing", "step"), policy)
        self.leftover("optimizer", optimizer)
        self.leftover("lr_config", schedule)
        intervals = {
            ours: self.content[key].get("interval", 1) for key, ours in INTERVALS.items() if key in self.content
        }
        return options | intervals | {"num_epoch": self.content["total_epochs"]}
