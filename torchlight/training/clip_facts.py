"""Facts about the training clips that prediction needs; every checkpoint contains them as `clips`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from torchlight.contract import DescribedFeeder, Feeder, SizedFeeder, manifest_of

LEFT_OUT = ("counts", "source", "labels", "label_files", "joints")  # of a manifest: facts about raw files
QUANTILES = (10, 50, 90)  # percent


def clip_facts(train: Feeder, test: Feeder) -> dict[str, Any]:
    """Plain values: the manifest of the data, the skeleton as a mapping, and `lengths`, the 10th, 50th and 90th
    percentile of the frames of a training clip."""
    facts: dict[str, Any] = {key: value for key, value in manifest_of(test).items() if key not in LEFT_OUT}
    names = test.class_names
    facts |= {"num_class": int(test.num_class), "class_names": None if names is None else [str(name) for name in names]}
    facts |= {"num_point": int(test.num_point), "num_person": int(facts.get("num_person") or test.num_person)}
    facts |= {"channels": int(test.channels)}
    if isinstance(test, DescribedFeeder):
        facts["body"] = plain(dataclasses.asdict(test.skeleton))
    if isinstance(test, SizedFeeder):
        facts |= {"window": int(test.window) if test.window else None}
        facts["lengths"] = [float(x) for x in np.percentile(train.frames, QUANTILES)]
    return plain(facts)


def plain(value: Any) -> Any:
    """Mappings and sequences as dict and list, so that a checkpoint contains plain values only."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
