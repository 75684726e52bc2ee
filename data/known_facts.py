"""Facts about the training clips of published checkpoints, because these checkpoints do not contain them."""

from pathlib import Path
from typing import Any

from data.cli import class_names
from data.kinetics import poses as kinetics
from data.ntu.benchmark import NTU120, PAD
from data.recipes import RATES

BODIES = {"ntu": ("graph.ntu_rgb_d", 2), "ntu120": ("graph.ntu_rgb_d", 2), "kinetics": ("graph.kinetics", 2)}
BODIES |= {"NW-UCLA": ("graph.ucla", 1)}


def known_facts(data_path: str, detected: int = 2) -> dict[str, Any] | None:
    """The facts about a benchmark from the usual path of its data, such as data/ntu120/ctrgcn.clips; otherwise None.

    detected: number of persons that the feeder keeps from the detections of Kinetics-400.
    """
    path = Path(data_path)
    folder = path.parent.name
    if folder not in BODIES:
        return None
    (skeleton, persons), names = BODIES[folder], class_names(folder)
    facts = {"skeleton": skeleton, "num_person": persons, "channels": 3, "class_names": names, "num_class": len(names)}
    if "hrnet" in path.stem or "2d" in path.stem:
        known = {"rate": RATES["ntu_rgb_d"]} if "ntu" in folder else {"num_person": detected}
        return facts | {"skeleton": "graph.coco"} | known
    recipe = path.stem if path.suffix == ".clips" else "ctrgcn" if path.suffix == ".npz" else None
    pad, window = PAD.get(recipe, ("zero", None)) if "ntu" in folder else ("zero", kinetics.WINDOW)
    title = NTU120.title if folder == "ntu120" else folder
    return facts | {"recipe": recipe, "pad": pad, "window": window if folder != "NW-UCLA" else None, "benchmark": title}
