"""The page of docs/browser: its steps give the same results in Node as in Python, and it predicts the same in Chromium.

Node, Chromium and the packages of the page are optional; `make browser` installs the packages.
"""

import dataclasses
import json
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

from benchmarks import browser
from data.ntu.benchmark import NTU120
from data.poses.body_path import BodyPath
from data.poses.recording import Detection, Facts
from data.recipes import Recipe
from feeders.feeder_ntu import Feeder
from graph import ntu_rgb_d, ucla
from tests.feeders.synthetic import random_clips, write_store
from tests.torchlight.predict.conftest import save_stream
from torchlight.predict import Settings
from torchlight.predict.from_mediapipe import from_mediapipe
from torchlight.predict.load import open_stream
from torchlight.predict.stream import Stream

needs_node = pytest.mark.skipif(not shutil.which("node"), reason="node: not installed")
FACTS = {"recipe": "ctrgcn", "num_person": 2, "channels": 3, "lengths": [20.0, 45.0, 60.0], "num_class": 4}
FEEDER = f"{Feeder.__module__}.{Feeder.__qualname__}"
SIZE = (640, 360)


def node(module, code, value):
    """The result of JavaScript `code`, an expression of `x` = value, with all that a module of the page exports."""
    program = f"""import * as page from "{(browser.PAGE / module).as_uri()}";
        import {{ readFileSync }} from "node:fs";
        const x = JSON.parse(readFileSync(0));
        console.log(JSON.stringify({code}));"""
    words = ["node", "--input-type=module", "-e", program]
    done = subprocess.run(words, input=json.dumps(value), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def metadata(modality="joint", **arguments):
    body = dataclasses.asdict(ntu_rgb_d.SKELETON)
    config = {"feeder": FEEDER, "modality": modality, "test_feeder_args": {"window_size": 16, **arguments}}
    return {"config": config, "clips": FACTS | {"body": body}, "layout": "ntu_rgb_d"}


@needs_node
def test_the_page_prepares_clips_as_the_test_feeder_does():
    draw, clips = np.random.default_rng(0), []
    for T in (5, 57, 90):
        clips.append(draw.normal(size=(2, T, 25, 3)).astype(np.float32))
    clips[0][1] = 0
    clips[1][:, 40:] = 0
    code = """x.metadata.map((m) => x.clips.map((data) => Array.from(page.prepare(
        { shape: [2, data.length / 150, 25, 3], data: new Float32Array(data) }, page.preparation(m)))))"""
    modalities = ("joint", "bone", "joint_motion", "bone_motion")
    states = [metadata(modality, p_interval=[0.9]) for modality in modalities]
    found = node("prepare.js", code, {"metadata": states, "clips": [clip.ravel().tolist() for clip in clips]})
    for modality, rows in zip(modalities, found, strict=True):
        feeder = Feeder.from_clips(
            clips, {"skeleton": ntu_rgb_d.SKELETON}, part="test", modality=modality, window_size=16, p_interval=[0.9]
        )
        expected = feeder.batch(range(3), 0)["data"].flatten(1).numpy()
        np.testing.assert_allclose(np.array(rows), expected, atol=2e-6)


@needs_node
@pytest.mark.parametrize(
    ("state", "message"),
    [
        (metadata(unify=True), "config: unify: expected false, got true"),
        (metadata("kbone"), 'config: modality: expected joint, bone, joint_motion, bone_motion, got "kbone"'),
        (metadata(p_interval=[0.5, 1]), "config: p_interval: expected one number, got [0.5,1]"),
        (metadata() | {"clips": FACTS | {"score": True}}, 'config: layout: expected joints in meters, got "ntu_rgb_d"'),
        (metadata() | {"layout": "coco"}, 'config: layout: expected joints in meters, got "coco"'),
    ],
)
def test_a_preparation_that_the_page_does_not_support_is_refused_by_name(state, message):
    code = "(() => { try { return page.preparation(x); } catch (error) { return error.message; } })()"
    assert node("prepare.js", code, state) == message


@needs_node
@pytest.mark.parametrize(
    ("body", "facts", "gap"),
    [
        (ntu_rgb_d, {}, 0.25),
        (ntu_rgb_d, {"benchmark": NTU120.title}, 0.3),
        (ucla, {"recipe": "centered"}, 0.5),
    ],
)
def test_poses_of_mediapipe_become_the_clips_of_the_live_stream(body, facts, gap):
    recipe = Recipe(body.SKELETON, FACTS | facts | {"body": None})
    stub = SimpleNamespace(recipe=recipe, repeated_to=None)
    axes = Facts("MediaPipe", "mediapipe_pose_33", axes="camera", units="m")
    live = Stream([stub], lambda clips: [], axes, Settings(stride=100.0, window=1.5))
    draw = np.random.default_rng(1)
    world = 0.3 * draw.normal(size=(33, 3))
    times = np.cumsum(draw.uniform(0.02, 0.06, 40))
    times[12:] += 0.3  # a gap that is interpolated
    times[30:] += gap
    poses, path = [], BodyPath(SIZE)
    for time in times.tolist():
        world = world + 0.01 * draw.normal(size=(33, 3))
        image = 200 + 40 * time + 150 * world[:, :2] + draw.normal(size=(33, 2))
        poses.append({"time": time, "world": world.tolist(), "image": image.tolist()})
        person = Detection(world.astype(np.float32), track="1", image=image.astype(np.float32))
        live.push(time, [path.move(time, person)])
    (expected,) = live.clips(times[-1], ["1"], stub)
    code = """(() => { const person = new page.Person(x.metadata);
        for (const p of x.poses) person.push(p.time, p.world, p.image, x.size);
        const { shape, data } = person.clip(x.poses.at(-1).time); return { shape, data: Array.from(data) }; })()"""
    state = {"mediapipe": from_mediapipe(recipe), "clips": FACTS}
    found = node("poses.js", code, {"metadata": state, "poses": poses, "size": SIZE})
    assert tuple(found["shape"]) == expected.prepared.frames.shape
    np.testing.assert_allclose(np.array(found["data"]), expected.prepared.frames.ravel(), atol=1e-4)


def test_bodies_in_pictures_and_other_recipes_have_no_steps_from_mediapipe():
    assert from_mediapipe(Recipe(ntu_rgb_d.SKELETON, FACTS | {"recipe": "agcn"})) is None
    assert from_mediapipe(Recipe(ntu_rgb_d.SKELETON, FACTS | {"recipe": "centered", "channels": 2})) is None
    assert from_mediapipe(Recipe(ntu_rgb_d.SKELETON, FACTS | {"lengths": None})) is None
    assert from_mediapipe(Recipe(ntu_rgb_d.SKELETON, FACTS | {"missing": "zero"})) is None


@needs_node
def test_the_page_reads_the_metadata_of_an_onnx_file_and_reports_other_files(tmp_path):
    graph = onnx.helper.make_graph([], "g", [], [], [onnx.helper.make_tensor("w", 1, [200], [0.5] * 200)])
    model = onnx.helper.make_model(graph)
    facts = {"version": 1, "input": {"data": [1, 3, 8, 25, 2]}, "config": {"modality": "joint"}, "layout": "Größe"}
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items()})
    content = model.SerializeToString()
    onnx.helper.set_model_props(model, {"version": "1"})
    files = [content, b"no network", content[:-3], model.SerializeToString()]
    code = """x.map((bytes) => {
        try { return page.readMetadata(new Uint8Array(bytes)); } catch (error) { return error.message; } })"""
    found = node("metadata.js", code, [list(file) for file in files])
    assert found[0] == facts
    assert all(x.startswith("expected a network in the ONNX format, got a file that cannot be") for x in found[1:3])
    assert found[3] == "expected a network that --phase export wrote, got a file without its metadata"


@pytest.mark.skipif(bool(browser.missing_tools()), reason=browser.missing_tools())
def test_the_page_predicts_in_chromium_what_pytorch_predicts(tmp_path):
    clips, persons = random_clips([20, 30, 40, 25], 25)
    parts = {"xsub": {"train": [0, 1], "test": [2, 3]}}
    facts = {"skeleton": "graph.ntu_rgb_d", "recipe": "ctrgcn", "num_class": 4, "benchmark": "tiny"}
    data = write_store(tmp_path / "n.clips", clips, range(4), persons, parts, **facts)
    options = {"feeder": FEEDER, "test_feeder_args": {"data_path": str(data), "split": "xsub"}}
    weights, _ = save_stream(tmp_path, "graph.ntu_rgb_d.Graph", 2, 25, modality="bone", **options)
    page = tmp_path / "page"
    shutil.copytree(
        browser.PAGE, page, ignore=shutil.ignore_patterns("node_modules", "clips.*", "network.onnx", "*.task")
    )
    (page / "node_modules").symlink_to(browser.PAGE / "node_modules")
    stream = open_stream(weights, None, torch.device("cpu"), {}, {"device": ["cpu"]})
    browser.write_network(stream, page / "network.onnx")
    browser.write_clips(stream, page / "clips.json")
    found = browser.compare(page, tmp_path / "out")
    assert found["clips"]["clips"] == found["clips"]["equal"] == 4
    for change in ({"equal": 3}, {"difference": 0.01 * found["clips"]["largest"]}, {"difference": float("nan")}):
        with pytest.raises(ValueError, match="docs/browser: expected the logits of PyTorch, got"):
            browser.check_logits(found["clips"] | change)
