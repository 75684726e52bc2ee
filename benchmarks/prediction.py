"""Quality of the predictions of a network for NW-UCLA on new recordings, for docs/prediction_results.md.

    python -m benchmarks.prediction --weights work_dir/NW-UCLA/ctrgcn/joint/last.pt --raw all_sqe
    python -m benchmarks.prediction --weights last.pt --raw all_sqe --parts layouts live

equality: raw test files compared with --phase test. layouts: test clips in other body layouts. segments: long
recordings made of clips and idle parts. live: a stream of frames. The clips are read from the store in the network's
configuration.
"""

import argparse
import datetime
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import long_recordings, pages, prediction_results_page
from benchmarks.long_recordings import RATE, NamedClip
from benchmarks.run import machine
from data.cli import whole_number
from data.poses import body_path
from data.poses.recording import Facts, PoseFileError, Recording
from feeders.clip_store import ClipStore
from graph.layouts import find_map, layouts, to_axes
from torchlight.predict import Recognizer, Settings
from torchlight.system.command import Parser, RunError
from torchlight.system.command import run as run_command
from torchlight.system.files import atomic, read_json
from torchlight.system.paths import ROOT
from torchlight.training import checkpoint
from torchlight.training.run_dir import git_commit
from torchlight.training.scores import SCORE_FILE, read_scores

PARTS = ("equality", "layouts", "segments", "live")
BODY = "kinect_v1_20"
HIPS = [12, 16]  # of this body
CAMERA_SIZE, CAMERA_FOCAL = (640, 480), 0.82  # pixels; focal length in image widths, that of Kinect's color camera
FRAMES = 10_000  # of the live stream


@dataclass
class Data:
    """A trained network, and the clips of its benchmark: (name, label, frames (T, V, 3)) of each part."""

    recognizer: Recognizer
    weights: Path
    raw: Path
    performers: int

    def __post_init__(self) -> None:
        self.stream = self.recognizer.streams[0]
        if self.stream.recipe.body.layout != BODY:
            raise ValueError(f"--weights: expected a network of NW-UCLA, got one of {self.stream.recipe.body.layout}")
        arguments = self.stream.config.test_feeder_args
        self.store, self.split = ClipStore(arguments["data_path"]), arguments["split"]

    def clips(self, part: str) -> Iterator[NamedClip]:
        """The clips of a part."""
        for i in self.store.part(self.split, part):
            yield str(self.store.name[i]), int(self.store.label[i]), self.store.clip(i)[..., 0].transpose(1, 2, 0)


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    return run_command(act, argv)


def act(argv: list[str]) -> None:
    """Measure the selected parts, print the tables, store the results and write the page."""
    parser = Parser(
        prog="python -m benchmarks.prediction",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.option("weights", type=Path, required=True, help="checkpoint of one stream")
    parser.option("raw", type=Path, required=True, help="folder with the raw files of NW-UCLA")
    parser.option("parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (everything)")
    parser.option("performers", type=whole_number(1, 10), default=10, help="performers in the long recordings (10)")
    parser.option("threads", type=whole_number(1, 1024), default=torch.get_num_threads(), help="CPU threads")
    parser.option("out", type=Path, metavar="FILE.json", help="results (benchmarks/results/prediction/<modality>.json)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    data = Data(Recognizer(args.weights, device="cpu"), args.weights, args.raw, args.performers)
    config, content = data.stream.config, checkpoint.load(args.weights)
    path = args.out or prediction_results_page.RESULTS / f"{config.modality}.json"
    network = {"model": config.model, "modality": config.modality, "epoch": content.get("epoch")}
    network |= {"epochs": config.num_epoch, "sha256": hashlib.sha256(args.weights.read_bytes()).hexdigest()}
    measured = {"date": f"{datetime.date.today()}", "commit": (git_commit() or "unknown")[:7]}
    for part in args.parts:
        found = {"measured": measured | {"machine": machine(torch.device("cpu"))["name"]}} | MEASURE[part](data)
        print(f"\n{prediction_results_page.TABLES[part](found)}", flush=True)
        old = read_json(path) if path.exists() else {}
        old = old if old.get("network") == network else {}  # results of another network
        with atomic(path, "w") as file:
            file.write(json.dumps(old | {"network": network, part: found}, indent=1) + "\n")
    if args.out is None:
        pages.write("prediction_results", prediction_results_page.make_page)


def equality(data: Data) -> dict[str, Any]:
    """Predictions of the raw test files, and the scores that `--phase test` writes."""
    names, labels, _ = zip(*data.clips("test"), strict=True)
    written = scores_of_test(data)
    expected = np.stack([written[name] for name in names])
    found = np.stack([p.scores for p in data.recognizer.predict([data.raw / f"{name}.json" for name in names])])
    result = {"clips": len(names), "equal": int((found.argmax(1) == expected.argmax(1)).sum())}
    result |= {"difference": float(abs(found - expected).max()), "largest": float(abs(expected).max())}
    return result | {
        key: float(100 * (scores.argmax(1) == labels).mean())
        for key, scores in (("top1_test", expected), ("top1_predict", found))
    }


def scores_of_test(data: Data) -> dict[str, np.ndarray]:
    """{clip: logits} as `python main.py --phase test --save-score true` writes them."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(data.stream.config.to_yaml())
        command = [sys.executable, ROOT / "main.py", "--config", config, "--phase", "test", "--weights", data.weights]
        command += ["--save-score", "true", "--device", "cpu", "--work-dir", Path(folder) / "run"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode:
            raise RunError(f"--phase test failed: {done.stderr.strip().splitlines()[-1]}")
        return read_scores(Path(folder) / "run" / SCORE_FILE)


def through_layouts(data: Data) -> dict[str, Any]:
    """Accuracy on test clips that are converted to another layout, without depth, or to points whose origin is between
    the hips in every frame, like MediaPipe's world landmarks."""
    clips, impossible = list(data.clips("test")), []
    rows = [accuracy(data, clips, BODY, BODY), accuracy(data, clips, f"{BODY}, without depth", BODY, without_depth)]
    for name in layouts():
        try:
            find_map(BODY, name), find_map(name, BODY)
        except ValueError:
            impossible.append(name)
            continue
        if name != BODY:
            rows.append(accuracy(data, clips, name, name))
            rows.append(accuracy(data, clips, f"{name}, without depth", name, without_depth))
    rows.append(accuracy(data, clips, f"{BODY}, hips at the origin in every frame", BODY, root_relative))
    rows.append(accuracy(data, clips, f"{BODY}, the same with the path restored from an image", BODY, restored_path))
    return {"clips": len(clips), "rows": rows, "impossible": impossible}


def accuracy(
    data: Data, clips: list[NamedClip], title: str, layout: str, change: Callable[[Recording], Recording] | None = None
) -> dict[str, Any]:
    """One row: top-1 in percent, joints of the network that the layout does not measure, clips that were refused."""
    prepared, labels = [], []
    for _, label, x in clips:
        points, _ = find_map(BODY, layout).apply(x)
        facts = Facts("benchmark", layout, axes="kinect", units="m", rate=RATE)
        recording = Recording(points[None], None, ("1",), np.arange(len(x)), facts)
        try:
            prepared += data.recognizer.clips(data.stream, change(recording) if change else recording, Settings())
            labels.append(label)
        except PoseFileError:
            pass
    found = data.recognizer.predict_clips([prepared])
    right = sum(prediction.label == label for label, prediction in zip(labels, found, strict=True))
    print(f"{title}: {right} of {len(clips)}", flush=True)
    row = {"layout": title, "imputed": found[0].imputed, "top1": 100 * right / len(clips)}
    return row | {"refused": len(clips) - len(labels)}


def without_depth(recording: Recording) -> Recording:
    """Only x and y, as in a picture without perspective."""
    facts = replace(recording.facts, axes="image", units="px")
    return replace(recording, points=-recording.points[..., :2], facts=facts)


def root_relative(recording: Recording) -> Recording:
    """The middle of the hips at the origin in every frame."""
    return replace(recording, points=recording.points - recording.points[..., HIPS, :].mean(-2, keepdims=True))


def restored_path(recording: Recording) -> Recording:
    """The path that `data.poses.body_path` restores from world landmarks and the picture of a camera at the origin."""
    order = [*range(20), *[HIPS[0]] * (body_path.HIPS[0] - 20), *HIPS]  # the hips have their numbers in MediaPipe
    camera = to_axes(recording.points[..., order, :], "kinect", "camera")
    image = camera[..., :2] / camera[..., 2:] * CAMERA_FOCAL * max(CAMERA_SIZE) + np.array(CAMERA_SIZE) / 2
    world = to_axes(root_relative(recording).points[..., order, :], "kinect", "camera")
    facts = replace(recording.facts, axes="camera", image_size=CAMERA_SIZE)
    found = body_path.with_paths(replace(recording, points=world, image=image.astype(np.float32), facts=facts))
    return replace(found, points=found.points[..., :20, :], image=None)


def segments(data: Data) -> dict[str, Any]:
    """Long recordings; see `benchmarks.long_recordings`."""
    train, test = list(data.clips("train")), list(data.clips("test"))
    return long_recordings.measure(data.recognizer, train, test, data.performers)


def live(data: Data) -> dict[str, Any]:
    """A stream of frames from consecutive test clips: time of an update, and resident memory."""
    poses = np.concatenate([x for _, _, x in data.clips("test")])
    stream, taken, used, memory = data.recognizer.stream(), [], [], {}
    for i in range(1, FRAMES + 1):
        begin, begin_used = time.perf_counter(), time.process_time()
        found = stream.push(i / RATE, poses[i % len(poses), None])
        if any("top" in update for update in found):
            taken.append(time.perf_counter() - begin)
            used.append(time.process_time() - begin_used)
        if i in (FRAMES // 10, FRAMES // 2, FRAMES):
            memory[str(i)] = resident()
    p50, p95 = (1e3 * float(x) for x in np.percentile(taken, (50, 95)))
    values = {"window": stream.window, "stride": stream.stride, "updates": len(taken), "p50_ms": p50, "p95_ms": p95}
    values |= {"frames": FRAMES, "processor_ms": 1e3 * float(np.median(used))}
    return values | {"updates_per_second": len(taken) / sum(taken), "memory_mb": memory}


def resident() -> float:
    """Resident memory of this process in MB."""
    pages_used = int(Path("/proc/self/statm").read_text().split()[1])
    return pages_used * resource.getpagesize() / 1e6


MEASURE = {"equality": equality, "layouts": through_layouts, "segments": segments, "live": live}

if __name__ == "__main__":
    sys.exit(main())
