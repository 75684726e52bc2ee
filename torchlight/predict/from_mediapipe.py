"""Rules for making clips from MediaPipe's joints in an application, for the metadata of an exported network."""

import dataclasses
from typing import Any

from data.poses.convert import find_body_map
from data.poses.recording import PoseFileError
from data.recipes import Recipe
from graph.layouts import LayoutMap, find_layout

MEDIAPIPE = "mediapipe_pose_33"


def from_mediapipe(recipe: Recipe) -> dict[str, Any] | None:
    """The steps from world landmarks to a clip, as plain values; None for bodies and recipes that need more than these.

    maps: the maps of `graph.layouts` that lead to the body, one after the other. parents: of MediaPipe's joints. rate:
    frames per second. seconds: length of a typical clip. origin: the joint whose first position is the origin. repeat:
    whether a single person fills two slots.
    """
    lengths, rate, body = recipe.facts.get("lengths"), recipe.rate, recipe.body
    is_known = recipe.missing == "interpolate" and not recipe.facts.get("score")
    if body.is_own or body.is_flat or recipe.origin is None or not (is_known and lengths and rate):
        return None
    try:
        found: LayoutMap | None = find_body_map(MEDIAPIPE, body)
    except PoseFileError:
        return None
    maps = []
    while found is not None:
        size, steps = len(found.target.skeleton.joints), [dataclasses.asdict(step) for step in found.steps]
        maps.insert(0, {"joints": size, "steps": steps})
        found = found.before
    return {
        "maps": maps,
        "parents": find_layout(MEDIAPIPE).skeleton.parents,
        "rate": rate,
        "seconds": lengths[1] / rate,
        "origin": recipe.origin,
        "repeat": recipe.repeats_person,
    }
