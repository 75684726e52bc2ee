"""The streams of an experiment: what a clip shows of the joints."""

from typing import Literal, get_args

Modality = Literal["joint", "bone", "joint_motion", "bone_motion", "kbone", "kbone_motion"]
MODALITIES: tuple[str, ...] = get_args(Modality)
