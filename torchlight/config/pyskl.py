"""Configuration files of PYSKL and of its descendants ProtoGCN, ACLNet and SkeletonAgent, translated: graph networks.

The files of the descendants are read for testing; their training has recipes here (config/ntu/xsub/protogcn.yaml).
"""

from typing import Any

from torchlight.config.pyskl_base import Translation, split_of
from torchlight.system.text import quote

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
FORKS = ("GCN_Module", "GCN_Module_LLM_K400", "GCN_Module_LLM")  # with the switches of DG-STGCN and their defaults
LAYOUTS = {"nturgb+d": ("graph.ntu_rgb_d", 25), "coco": ("graph.coco", 17), "openpose": ("graph.kinetics", 18)}
LAYOUTS |= {"coco_new": ("graph.coco20", 20), "uav": ("graph.uav", 17)}
HAND_TIPS = "in PYSKL's graph, the tips of the hands are connected to the hands; to train with it, give "
HAND_TIPS += "--model-args.graph graph.ntu_rgb_d_tips.Graph"
RANDOM = {"num_filter": 3, "init_off": 0.04, "init_std": 0.02}  # defaults of random topologies
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


class GraphTranslation(Translation):
    """A configuration of a network of graphs."""

    samplers = SAMPLERS
    flat = "2d"  # normalization of 2-D poses

    def options(self) -> dict[str, Any]:
        """All options."""
        self.note_rest()
        model = self.content["model"]
        if model["type"] != "RecognizerGCN":
            self.problem("model.type", ["RecognizerGCN", "Recognizer3D"], model["type"])
            return {}
        self.frame(model)
        backbone = dict(model["backbone"])
        graph_cfg = dict(backbone.pop("graph_cfg"))
        self.layout = graph_cfg.pop("layout")
        if self.layout not in LAYOUTS:
            self.problem("model.backbone.graph_cfg.layout", LAYOUTS, self.layout)
            return {}
        self.kind = backbone.pop("type")
        self.is_descendant = self.kind in DESCENDANTS
        options = {"feeder": "feeders.feeder_pyskl.Feeder"} | self.network(backbone, graph_cfg, model["cls_head"])
        options |= self.feeders(options["model_args"])
        if self.is_descendant:
            self.notes.append(f"for testing only: the training objective of {self.kind} is not read from its file")
            return options
        return options | self.recipe()

    def network(self, backbone: dict[str, Any], graph_cfg: dict[str, Any], head: dict[str, Any]) -> dict[str, Any]:
        """Model and arguments."""
        kind = self.kind
        graph, joints = LAYOUTS[self.layout]
        args = {"num_class": head["num_classes"], "num_point": joints, "graph": f"{graph}.Graph"}
        mode = graph_cfg.pop("mode", None)
        if mode in MODES:
            args["graph_args"] = {"labeling_mode": MODES[mode]}
            if self.layout == "nturgb+d":
                self.notes.append(HAND_TIPS)
        elif mode == "random":
            args |= {key: graph_cfg.pop(key, default) for key, default in RANDOM.items()}
        else:
            self.problem("model.backbone.graph_cfg.mode", [*MODES, "random"], mode)
        model = NETWORKS.get("DGSTGCN" if self.is_descendant else kind, "")
        if not model:
            self.problem("model.backbone.type", [*NETWORKS, *DESCENDANTS], kind)
        elif kind == "DGSTGCN" or self.is_descendant:
            default = {"gcn_ratio": 0.25} if kind == "DGSTGCN" or kind in FORKS else {}
            backbone = self.expect("model.backbone", default | backbone, DGSTGCN)
        elif kind == "STGCN" and backbone.keys() & STGCNPP.keys():
            model = "model.stgcnpp.Model"
            missing = dict.fromkeys(STGCNPP)  # all three or none
            backbone = self.expect("model.backbone", missing | backbone, STGCNPP)
        elif kind == "STGCN" and "tcn_dropout" in backbone:
            args["dropout"] = backbone.pop("tcn_dropout")
        elif kind == "AAGCN" and "gcn_attention" in backbone:
            args["attention"] = backbone.pop("gcn_attention")
        self.leftover("model.backbone", backbone, OBJECTIVE if self.is_descendant else ())
        self.leftover("model.backbone.graph_cfg", graph_cfg)
        known = ("type", "num_classes", "in_channels")
        self.leftover("model.cls_head", head, known + HEAD if self.is_descendant else known)
        return {"model": model, "model_args": args | FIXED_ARGS.get(kind, {}) | DESCENDANTS.get(kind, {})}

    def feeders(self, model_args: dict[str, Any]) -> dict[str, Any]:
        """The arguments of both feeders and the modality; adds num_person to the arguments of the network."""
        (train, repeat), (test, _) = self.part("train"), self.part("test")
        common = {"skeleton": LAYOUTS[self.layout][0]}
        if self.kind.startswith("GCN_Module_LLM") and self.layout == "coco_new":  # SkeletonAgent
            common["subtract_scores"] = True
        parts, known = {}, ("type", "ann_file", "split", "pipeline")
        for name, part in (("test", test),) if self.is_descendant else (("train", train), ("test", test)):
            if self.is_descendant:  # all detections are used if no share of them has to be valid
                part = self.expect(f"data.{name}", part, {"valid_ratio": 0.0})
                known += ("box_thr", "memcached", "mc_cfg")
            self.leftover(f"data.{name}", part, known)
            args = {"data_path": part["ann_file"], "split": split_of(part["split"])} | common
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
                args["pre_normalize"] = self.flat
            elif kind == "RandomRot":
                args["random_rot"] = rest.pop("theta", 0.3)
            elif kind == "RandomScale":
                args["random_scale"] = rest.pop("scale", 0.2)
            elif kind == "GenSkeFeat":
                args["modality"] = self.stream(rest)
                args |= {"sample_first": True} if "sampling" in args else {}
            elif kind in self.samplers:
                args |= {"sampling": self.samplers[kind], "window_size": rest.pop("clip_len")}
                if part == "test":
                    args["num_clips"] = rest.pop("num_clips", 1)
                rest = self.expect(f"{part} pipeline: {kind}", rest, {"num_clips": 1})
            elif kind == "PadTo":
                rest = self.expect("PadTo", rest, {"mode": "zero"})
                args |= {"sampling": "pad", "window_size": rest.pop("length")}
            elif kind == "FormatGCNInput":
                args["num_person"] = rest.pop("num_person", 2)
            elif kind == "DecompressPose":
                rest = self.expect("DecompressPose", rest, {"squeeze": True})
            elif kind == "Kinetics_Transform" and self.layout == "coco_new":
                args["middle_joints"] = True
            elif kind in ("PoseDecode", "Collect", "ToTensor", "PackActionInputs"):
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
