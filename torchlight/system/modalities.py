"""The modalities of the streams."""

from typing import Literal, get_args

Coordinates = Literal["joint", "bone", "joint_motion", "bone_motion", "kbone", "kbone_motion"]
Modality = Literal[Coordinates, "limb"]  # limbs exist only as heatmaps
COORDINATES: tuple[str, ...] = get_args(Coordinates)
MODALITIES: tuple[str, ...] = get_args(Modality)
