"""Joint, bone, joint motion, bone motion: linear maps of the joints (N, C, T, V, M), and the bodies they are taken along."""

import importlib
import pkgutil
from pathlib import Path

import torch
from torch import Tensor

import graph
from feeders.device import constant
from graph.skeleton import Skeleton

MODALITIES = ("joint", "bone", "joint_motion", "bone_motion")


def find_skeleton(name: str) -> Skeleton:
    """The body of a module such as `graph.ucla`, or the one in a YAML file; raises ValueError for an unknown name."""
    if Path(name).suffix in (".yaml", ".yml"):
        return Skeleton.from_yaml(name)
    bodies = {}
    for module in pkgutil.iter_modules(graph.__path__, "graph."):
        skeleton = getattr(importlib.import_module(module.name), "SKELETON", None)
        if skeleton is not None:
            bodies[module.name] = skeleton
    if name not in bodies:
        raise ValueError(
            f"skeleton: found {name!r}; allowed are {', '.join(sorted(bodies))} or a YAML file of joints and bones; name one"
        )
    return bodies[name]


def check_modality(word: str, key: str = "modality") -> str:
    if word not in MODALITIES:
        raise ValueError(f"{key}: found {word!r}; allowed are {', '.join(MODALITIES)}; choose one")
    return word


def bone(x: Tensor, parents: tuple[int, ...], score: bool = False) -> Tensor:
    """Each joint minus the joint that its bone starts from: (N, C, T, V, M) -> same; the root's bone is 0.

    score: the last channel is a confidence; a bone's is the mean of its two ends and the root keeps its own (pyskl).
    Without it a confidence is subtracted like a coordinate (2s-AGCN, MS-G3D).
    """
    start = x.index_select(3, constant(parents, x.device))
    y = x - start
    if score:
        y[:, -1] = (x[:, -1] + start[:, -1]) / 2
    return y


def motion(x: Tensor, last: Tensor | None = None, score: bool = False) -> Tensor:
    """The next frame minus this one, the last frame 0: (N, C, T, V, M) -> same.

    last: (N,) last frame of each clip; all from there on become 0. score: the last channel is a confidence; that of a motion is the
    mean of its two frames (pyskl).
    """
    y = torch.zeros_like(x)
    now, after = x[:, :, :-1], x[:, :, 1:]
    torch.sub(after, now, out=y[:, :, :-1])
    if score:
        y[:, -1, :-1] = (now[:, -1] + after[:, -1]) / 2
    if last is None:
        return y
    ended = torch.arange(x.shape[2], device=x.device) >= last[:, None]  # (N, T)
    return y.masked_fill(ended[:, None, :, None, None], 0)


def derive(
    x: Tensor,
    modality: str,
    parents: tuple[int, ...],
    last: Tensor | None = None,
    score: tuple[bool, bool] = (False, False),
) -> Tensor:
    """One modality of the joints: (N, C, T, V, M) -> same. The motion of bones is taken after the bones.

    last as in `motion`; score: whether bones and whether motions treat the last channel as a confidence.
    """
    if modality.startswith("bone"):
        x = bone(x, parents, score[0])
    if modality.endswith("motion"):
        x = motion(x, last, score[1])
    return x
