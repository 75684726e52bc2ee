"""Body layouts of pose estimators and sensors, and maps from one to another: the tables of layouts.yaml as functions.

A map computes the joints of a target layout from those of a source layout; joints that no sensor measured are imputed
(for example a hand as an extension of the forearm), and the map lists them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from graph.body import Skeleton
from torchlight.system.text import nearest
from torchlight.system.yaml_files import read_yaml

TABLE = Path(__file__).with_name("layouts.yaml")
MOST_NAMED = 0.75  # minimum share of the joints of a layout whose names a file must contain
BETWEEN = "kinect_v2_25"  # most layouts have a map to it
STEP = re.compile(r"(\d+)=([^|!]+)(?:\|([^!]+))?(!?)")
RULE = re.compile(r"(mean|seen|extend)\((.+)\)")
TO_KINECT = {  # the rotation from each axis system to Kinect's
    "kinect": np.eye(3),
    "camera": np.diag([-1.0, -1.0, 1.0]),
    "smpl": np.diag([-1.0, 1.0, -1.0]),
    "y_up": np.eye(3),
    "world_z_up": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
}


@dataclass(frozen=True)
class Layout:
    """A body layout: the skeleton, the number of coordinates, their units and axes, and the parts of the body.
    other_names: names of the same joints in other programs."""

    name: str
    title: str
    dims: int
    units: str
    axes: str
    skeleton: Skeleton
    parts: dict[str, tuple[int, ...]]
    aliases: tuple[str, ...]
    other_names: tuple[tuple[str, ...], ...] = ()

    @property
    def num_joint(self) -> int:
        """Number of joints."""
        return self.skeleton.num_joint


def is_flat(skeleton: Skeleton) -> bool:
    """Whether a skeleton is that of a 2-D layout of the table; False for custom skeletons."""
    try:
        layout = find_layout(skeleton.name)
    except ValueError:
        return False
    return layout.dims == 2 and layout.skeleton.joints == skeleton.joints


@dataclass(frozen=True)
class Rule:
    """How one joint is computed. kind: copy, mean, seen or extend. of: the joints that it is computed from, as pairs
    ("s" or "t", index). factor: of extend."""

    kind: str
    of: tuple[tuple[str, int], ...]
    factor: float = 0.0


@dataclass(frozen=True)
class Step:
    """One joint of the target, its rule, the rule that is used if the first one has no value, and whether the joint is
    imputed."""

    joint: int
    rule: Rule
    fallback: Rule | None
    imputed: bool


@dataclass(frozen=True)
class LayoutMap:
    """From one layout to another. before: a map that is applied first; the steps then read the joints of its target
    instead of those of `source`."""

    source: Layout
    target: Layout
    steps: tuple[Step, ...]
    before: "LayoutMap | None" = None

    @property
    def imputed(self) -> tuple[str, ...]:
        """Names of the joints that no sensor measured."""
        joints = self.target.skeleton.joints
        return tuple(joints[step.joint] for step in sorted(self.steps, key=lambda s: s.joint) if self._is_imputed(step))

    def _is_imputed(self, step: Step) -> bool:
        if step.imputed or self.before is None:
            return step.imputed
        joints, made = self.before.target.skeleton.joints, self.before.imputed
        return any(place == "s" and joints[joint] in made for place, joint in step.rule.of)

    def apply(self, points: np.ndarray, score: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Points (..., V, C) with NaN where a joint was not seen, scores (..., V) -> the same of the target layout.

        A copied joint keeps its score. The score of mean and extend is the smallest score of their joints, that of seen
        is the mean score of the joints that were seen.
        """
        if self.before is not None:
            points, score = self.before.apply(points, score)
        shape = (*points.shape[:-2], self.target.num_joint)
        made = np.full((*shape, points.shape[-1]), np.nan, points.dtype)
        scores = None if score is None else np.zeros(shape, score.dtype)
        for step in self.steps:
            x, c = _compute(step.rule, points, score, made, scores)
            if step.fallback is not None:
                missing = np.isnan(x).any(-1)
                y, d = _compute(step.fallback, points, score, made, scores)
                x = np.where(missing[..., None], y, x)
                c = None if c is None else np.where(missing, d, c)
            made[..., step.joint, :] = x
            if scores is not None:
                scores[..., step.joint] = np.where(np.isnan(x).any(-1), 0, c)
        return made, scores


def _compute(
    rule: Rule, points: np.ndarray, score: np.ndarray | None, made: np.ndarray, scores: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The joint of one rule (..., C) and its score (...)."""
    x = np.stack([(points if place == "s" else made)[..., i, :] for place, i in rule.of])  # (n, ..., C)
    c = None
    if score is not None:
        c = np.stack([(score if place == "s" else scores)[..., i] for place, i in rule.of])
    if rule.kind == "extend":
        return x[0] + rule.factor * (x[0] - x[1]), None if c is None else c.min(0)
    if rule.kind != "seen":
        return x.mean(0), None if c is None else c.min(0)
    seen = ~np.isnan(x).any(-1)
    count = np.maximum(seen.sum(0), 1)
    mean = np.where(seen[..., None], x, 0).sum(0) / count[..., None]
    mean = np.where(seen.any(0)[..., None], mean, np.nan).astype(points.dtype)
    return mean, None if c is None else np.where(seen, c, 0).sum(0) / count


@cache
def layouts() -> dict[str, Layout]:
    """All layouts by name."""
    return {name: _layout(name, entry) for name, entry in read_yaml(TABLE)["layouts"].items()}


def _layout(name: str, entry: dict[str, Any]) -> Layout:
    joints, parents = tuple(entry["joints"]), tuple(entry["parents"])
    bones, left, right = tuple(entry.get("bone_parents", parents)), tuple(entry["left"]), tuple(entry["right"])
    skeleton = Skeleton(name, joints, parents, bones, entry["center"], left, right)
    parts = {part: tuple(indices) for part, indices in entry["parts"].items()}
    aliases, others = tuple(entry["aliases"]), tuple(map(tuple, entry.get("other_names", ())))
    return Layout(name, entry["title"], entry["dims"], entry["units"], entry["axes"], skeleton, parts, aliases, others)


def find_layout(name: str) -> Layout:
    """The layout of this name or alias.

    Raises:
        ValueError: there is no such layout; the message suggests the nearest name.
    """
    word = name.lower()
    for layout in layouts().values():
        if word == layout.name or word in layout.aliases:
            return layout
    raise ValueError(f"layout: expected a body layout, got {name!r}; {nearest(word, layouts())}")


def layouts_of_count(count: int) -> list[Layout]:
    """The layouts with this number of joints."""
    return [layout for layout in layouts().values() if layout.num_joint == count]


def words_of(joint: str) -> frozenset[str]:
    """The words of a joint's name in one spelling: sides spelled out, without separators.

    >>> sorted(words_of("RShoulder")), sorted(words_of("SHOULDER_RIGHT")), sorted(words_of("right_shoulder"))
    (['right', 'shoulder'], ['right', 'shoulder'], ['right', 'shoulder'])
    """
    return frozenset(_split(joint))


def _words_of_joined(joint: str) -> frozenset[str]:
    """Like `words_of`, also for names such as lefteye, leye and eyeleft; `rear` becomes right, ear."""
    return _joined().get("".join(_split(joint)), words_of(joint))


@cache
def _joined() -> dict[str, frozenset[str]]:
    """The words of the joints with sides of all layouts by their spellings without separators."""
    found: dict[str, frozenset[str]] = {}
    for layout in layouts().values():
        for words in map(_split, layout.skeleton.joints):
            sides = [word for word in words if word in ("left", "right")]
            rest = "".join(word for word in words if word not in sides)
            for side in [sides[0], sides[0][0]] if sides and rest else []:
                found |= {side + rest: frozenset(words), rest + side: frozenset(words)}
    return found


def _split(joint: str) -> list[str]:
    text = re.sub(r"([a-z])([A-Z])", r"\1 \2", joint)
    text = re.sub(r"^([LR])(?=[A-Z][a-z])", r"\1 ", text).lower().replace("handtip", "hand tip")
    side = {"l": "left", "r": "right"}
    same = {"centre": "center", "middle": "mid", "naval": "navel"}
    words = [w for w in re.split(r"[^a-z0-9]+", text) if w not in ("", "of", "the", "joint", "body")]
    return [same.get(w, side.get(w, w)) for w in words]


def nearest_layout(names: Sequence[str]) -> tuple[Layout, list[int]] | None:
    """The layout with the largest share of joints whose names are in `names`, and the index of each of its joints in
    `names` (-1: missing).

    None if for every layout the share is below MOST_NAMED, or a shoulder or a hip is missing.
    """
    return _nearest([words_of(name) for name in names]) or _nearest([_words_of_joined(name) for name in names])


def _nearest(wanted: list[frozenset[str]]) -> tuple[Layout, list[int]] | None:
    found = []
    for layout in layouts().values():
        own = [words_of(joint) for joint in layout.skeleton.joints]
        trunk = [i for i, words in enumerate(own) if words & {"shoulder", "hip"} and words & {"left", "right"}]
        for names in (layout.skeleton.joints, *layout.other_names):
            places = [wanted.index(words) if words in wanted else -1 for words in map(words_of, names)]
            share = sum(place >= 0 for place in places) / len(places)
            if share >= MOST_NAMED and len(trunk) >= 4 and all(places[i] >= 0 for i in trunk):
                found.append((share, layout, places))
    best = max(found, key=lambda item: (item[0], item[1].num_joint), default=None)
    return None if best is None else best[1:]


def layout_of_names(names: Sequence[str]) -> Layout | None:
    """The layout whose joints have these names in this order, in any usual spelling; None if there is none."""
    spellings = [[spell(name) for name in names] for spell in (words_of, _words_of_joined)]
    for layout in layouts_of_count(len(names)):
        if [words_of(joint) for joint in layout.skeleton.joints] in spellings:
            return layout
    return None


@cache
def find_map(source: str, target: str) -> LayoutMap:
    """The map from one layout to another. From a layout to itself, every joint is copied. If the table has no direct
    map, two maps are combined: to the layout BETWEEN, and from there to the target.

    Raises:
        ValueError: there is no such map.
    """
    first, second = find_layout(source), find_layout(target)
    if first is second:
        steps = tuple(Step(i, Rule("copy", (("s", i),)), None, False) for i in range(first.num_joint))
        return LayoutMap(first, second, steps)
    table = read_yaml(TABLE)["maps"].get(second.name, {})
    if first.name not in table and BETWEEN in table and first.name in read_yaml(TABLE)["maps"][BETWEEN]:
        last = find_map(BETWEEN, second.name)
        return LayoutMap(first, second, last.steps, find_map(first.name, BETWEEN))
    if first.name not in table:
        raise ValueError(f"layout: expected recordings of {', '.join([second.name, *table])}, got {first.name}")
    return LayoutMap(first, second, tuple(_step(text) for text in table[first.name].split()))


def parse_map(source: Layout, target: Skeleton, steps: str) -> LayoutMap:
    """The map from a layout to a custom skeleton, from its steps in the notation of layouts.yaml.

    Raises:
        ValueError: a step that cannot be read, names an unknown joint, or comes before a joint that it needs; or a
            joint of the skeleton without a step.
    """
    origin, made, parsed = f"skeleton {target.name}: maps: {source.name}", set(), []
    for text in steps.split():
        if not STEP.fullmatch(text):
            raise ValueError(f"{origin}: expected steps such as 5=s4 or 7=mean(s1,s2), got {text!r}")
        try:
            step = _step(text)
        except (IndexError, ValueError):
            raise ValueError(f"{origin}: expected steps such as 5=s4 or 7=mean(s1,s2), got {text!r}") from None
        for place, joint in [*step.rule.of, *(step.fallback.of if step.fallback else ())]:
            if (place == "s" and joint >= source.num_joint) or (place == "t" and joint not in made):
                raise ValueError(
                    f"{origin}: {text}: expected joints of the source or of earlier steps, got {place}{joint}"
                )
        made.add(step.joint)
        parsed.append(step)
    if made != set(range(target.num_joint)):
        raise ValueError(f"{origin}: expected a step for each of {target.num_joint} joints, got {len(made)}")
    body = Layout(target.name, target.name, source.dims, source.units, source.axes, target, {}, ())
    return LayoutMap(source, body, tuple(parsed))


def _step(text: str) -> Step:
    match = STEP.fullmatch(text)
    assert match, text
    joint, rule, fallback, mark = match.groups()
    return Step(int(joint), _rule(rule), _rule(fallback) if fallback else None, bool(mark))


def _rule(text: str) -> Rule:
    match = RULE.fullmatch(text)
    kind, of = (match[1], match[2].split(",")) if match else ("copy", [text])
    factor = float(of.pop()) if kind == "extend" else 0.0
    if not all(word[:1] in ("s", "t") for word in of) or (kind == "extend" and len(of) != 2):
        raise ValueError(f"expected joints s<number> or t<number>, got {text}")
    return Rule(kind, tuple((word[0], int(word[1:])) for word in of), factor)


def to_axes(points: np.ndarray, source: str, target: str) -> np.ndarray:
    """3-D points (..., 3) from one axis system to another; all systems are right-handed, so every change is a rotation.

    camera: x right in the image, y down, z away. kinect: x to the sensor's left, y up, z away. smpl: y up, z where the
    body faces. y_up, world_z_up: y or z up; where the body faces is not known and not changed.

    Raises:
        ValueError: an unknown system.
    """
    for name in (source, target):
        if name not in TO_KINECT:
            raise ValueError(f"axes: expected {', '.join(TO_KINECT)}, got {name!r}")
    rotation = TO_KINECT[target].T @ TO_KINECT[source]
    return (points @ rotation.T).astype(points.dtype)
