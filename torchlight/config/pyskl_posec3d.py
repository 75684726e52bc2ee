"""PYSKL's configuration files of PoseConv3D, translated."""

from typing import Any

from torchlight.config.imports import import_object
from torchlight.config.pyskl_base import Translation, split_of
from torchlight.system.text import quote

FIXED = {  # arguments of the published networks that the networks here have built in
    "ResNet3dSlowOnly": {
        "num_stages": 3,
        "out_indices": [2],
        "inflate": [0, 1, 1],
        "spatial_strides": [2, 2, 2],
    },
    "C3D": {"num_stages": 3, "temporal_downsample": False},
    "X3D": {
        "base_channels": 24,
        "num_stages": 3,
        "stage_blocks": [2, 5, 3],
        "spatial_strides": [2, 2, 2],
        "se_ratio": None,
        "use_swish": False,
    },
}
OPTIONAL = {  # the same, with the values that they have if they are left out
    "ResNet3dSlowOnly": {"conv1_stride": [1, 1], "pool1_stride": [1, 1], "conv1_stride_s": 1, "pool1_stride_s": 1},
    "C3D": {},
    "X3D": {"gamma_d": 1},
}
NAMES = {"ResNet3dSlowOnly": "slowonly", "C3D": "c3d", "X3D": "x3d"}  # of the networks
TAKEN = {"in_channels": "in_channels", "base_channels": "width"}
TAKEN |= {"stage_blocks": "blocks", "temporal_strides": "temporal_strides"}
ORDER = {  # of the transforms
    "train": ("PoseCompact", "Resize", "RandomResizedCrop", "Resize", "Flip", "GeneratePoseTarget"),
    "test": ("PoseCompact", "Resize", "GeneratePoseTarget"),
}
PLAIN = ("PoseDecode", "Collect", "ToTensor", "PackActionInputs")
SHORT = [-1, 64]  # the shorter side before the random crop
BOX = {"hw_ratio": 1.0, "allow_imgpad": True}
TARGET = {"sigma": 0.6, "use_score": True, "scaling": 1}
MOST_PERSONS = 10
COCO = "graph.coco."
LIMBS = {"default": "_DEFAULT", "listed": ""}  # lists of the feeder, here and in graph.coco; the first is the default


def is_heatmaps(content: dict[str, Any]) -> bool:
    """Whether a configuration is one of PoseConv3D."""
    model = content.get("model")
    return isinstance(model, dict) and model.get("type") == "Recognizer3D"


class HeatmapTranslation(Translation):
    """A configuration of PoseConv3D."""

    def options(self) -> dict[str, Any]:
        """All options."""
        self.content = as_lists(self.content)
        if start := self.content.pop("load_from", None):
            self.notes.append(f"starts from {start}: give it as --weights, with --ignore-weights cls_head")
        self.note_rest()
        network = {"model": "model.posec3d.Model", "model_args": self.network(self.content["model"])}
        return {"feeder": "feeders.feeder_heatmap.Feeder"} | network | self.feeders() | self.recipe()

    def network(self, model: dict[str, Any]) -> dict[str, Any]:
        """Arguments of the network."""
        backbone, head = dict(model["backbone"]), dict(model["cls_head"])
        kind = backbone.pop("type")
        if kind not in NAMES:
            self.problem("model.backbone.type", NAMES, kind)
            return {}
        self.frame(model)
        self.expect("model.cls_head", head, {"type": "I3DHead"})
        args = {"num_class": head["num_classes"], "num_point": 17, "num_person": 2, "graph": COCO + "Graph"}
        args |= {"network": NAMES[kind], "drop_out": head.get("dropout", 0.5)}
        self.leftover("model.cls_head", head, ("type", "num_classes", "in_channels", "dropout"))
        backbone = self.expect("model.backbone", dict.fromkeys(FIXED[kind], "nothing") | backbone, FIXED[kind])
        backbone = self.expect("model.backbone", backbone, OPTIONAL[kind])
        args |= {ours: backbone.pop(theirs) for theirs, ours in TAKEN.items() if theirs in backbone}
        self.leftover("model.backbone", backbone)
        return args

    def feeders(self) -> dict[str, Any]:
        """The arguments of both feeders and the modality."""
        parts, known = {}, ("type", "ann_file", "split", "pipeline", "box_thr", "memcached", "mc_cfg", "class_prob")
        for name in ("train", "test"):
            part, repeat = self.part(name)
            part = self.expect(f"data.{name}", part, {"valid_ratio": 0.0})  # all detections are used
            self.leftover(f"data.{name}", part, known)
            args = {"data_path": part["ann_file"], "split": split_of(part["split"])}
            args |= {"repeat": repeat} if repeat != 1 else {}
            args |= {"twice": self.classes_twice(part["class_prob"])} if "class_prob" in part else {}
            parts[name] = args | self.pipeline(part["pipeline"], name)
        for key in ("split", "modality", "limbs"):
            found = [parts[name].get(key) for name in parts]
            if found[0] != found[1]:
                self.problems.append(f"data: expected one {key} in training and test, got {quote(found)}")
        modality = [parts[name].pop("modality", "joint") for name in parts][0]
        return {"modality": modality} | {f"{name}_feeder_args": args for name, args in parts.items()}

    def classes_twice(self, weights: list[float]) -> list[int]:
        """The classes whose clips an epoch has twice, as `twice` of the feeder."""
        first = next((i for i, weight in enumerate(weights) if weight != 1), 0)
        end = first + sum(weight == 2 for weight in weights)
        if weights != [1] * first + [2] * (end - first) + [1] * (len(weights) - end) or first == end:
            self.problems.append(f"class_prob: expected 1, and 2 for one range of classes, got {quote(weights)}")
        return [first, end]

    def pipeline(self, steps: list[dict[str, Any]], part: str) -> dict[str, Any]:
        """Feeder arguments of one list of transforms."""
        args: dict[str, Any] = {}
        order = tuple(step["type"] for step in steps if step["type"] in ORDER["train"])
        if order != ORDER[part]:
            self.problems.append(f"{part} pipeline: expected {', '.join(ORDER[part])}, got {quote(', '.join(order))}")
            return args
        sizes = [step for step in steps if step["type"] == "Resize"]
        if part == "train":
            self.first_size(sizes[0])
        args["size"] = self.square(sizes[-1], part)
        for step in steps:
            rest = {key: value for key, value in step.items() if key != "type"}
            kind, place = step["type"], f"{part} pipeline: {step['type']}"
            if kind in ("UniformSampleFrames", "UniformSample"):
                args["window_size"] = rest.pop("clip_len")
                if part == "test":
                    args["num_clips"] = rest.pop("num_clips", 1)
                rest = self.expect(place, rest, {"num_clips": 1})
            elif kind == "DecompressPose":
                rest = self.expect(place, rest, {"squeeze": True, "max_person": MOST_PERSONS})
            elif kind == "PoseCompact":
                rest = self.expect(place, dict.fromkeys(BOX) | rest, BOX | {"padding": 0.25, "threshold": 10})
            elif kind == "RandomResizedCrop":
                ranges = {"area_range": [0.56, 1.0]}
                rest = self.expect(place, dict.fromkeys(ranges) | rest, ranges | {"aspect_ratio_range": [3 / 4, 4 / 3]})
            elif kind == "Flip":
                rest = self.expect(place, rest, {"flip_ratio": 0.5} | joint_pairs())
            elif kind == "GeneratePoseTarget":
                rest = self.target(rest, place, args)
            elif kind == "FormatShape":
                rest = self.expect(place, rest, {"input_format": "NCTHW_Heatmap"})
            elif kind in PLAIN or kind == "Resize":
                rest = {}
            else:
                self.problems.append(f"{part} pipeline: expected transforms of PoseConv3D, got {quote(kind)}")
                rest = {}
            self.leftover(place, rest)
        return args

    def first_size(self, step: dict[str, Any]) -> None:
        """The size before the random crop; boxes are square, so that their ratio matters little."""
        if step["scale"] == [64, 64]:
            self.notes.append("the training here keeps the ratio of a box before the random crop; the file does not")
        elif step["scale"] != SHORT or not step.get("keep_ratio", True):
            self.problem("train pipeline: Resize.scale", ["(-1, 64)", "(64, 64)"], step["scale"])

    def square(self, step: dict[str, Any], part: str) -> int:
        """The size of the heatmaps."""
        scale = step["scale"]
        if step.get("keep_ratio", True) or len(scale) != 2 or scale[0] != scale[1]:
            what = "expected a square with keep_ratio=False before the heatmaps"
            self.problems.append(f"{part} pipeline: Resize: {what}, got {quote(step)}")
        return scale[0]

    def target(self, rest: dict[str, Any], place: str, args: dict[str, Any]) -> dict[str, Any]:
        """What is drawn; adds to the feeder arguments and returns what was not translated."""
        with_kp, with_limb = rest.pop("with_kp", True), rest.pop("with_limb", False)
        if with_kp == with_limb:
            self.problems.append(f"{place}: expected one of with_kp and with_limb, got {with_kp} and {with_limb}")
        args["modality"] = "limb" if with_limb else "joint"
        rest = self.expect(place, rest, TARGET)
        mirror, skeletons = rest.pop("double", False), rest.pop("skeletons", None)
        args |= {"mirror": True} if mirror else {}
        pairs = joint_pairs()
        if with_limb:
            lists = {name: as_lists(import_object(f"{COCO}LIMBS{end}")) for name, end in LIMBS.items()}
            args["limbs"] = next((name for name, limbs in lists.items() if skeletons in (None, limbs)), "listed")
            if skeletons not in (None, *lists.values()):
                self.problems.append(f"{place}.skeletons: expected the published limbs, got {quote(skeletons)}")
            pairs |= limb_pairs(LIMBS[args["limbs"]])
        return self.expect(place, rest, pairs)


def joint_pairs() -> dict[str, list[int]]:
    """The joints of both sides of COCO as arguments of a transform."""
    body = import_object(COCO + "SKELETON")
    return {"left_kp": list(body.left), "right_kp": list(body.right)}


def limb_pairs(end: str) -> dict[str, list[int]]:
    """The limbs of both sides of COCO as arguments of a transform; end: of the name of the list of limbs."""
    return {f"{side}_limb": list(import_object(f"{COCO}{side.upper()}_LIMBS{end}")) for side in ("left", "right")}


def as_lists(value: Any) -> Any:
    """The same with lists in place of tuples."""
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    return [as_lists(item) for item in value] if isinstance(value, list | tuple) else value
