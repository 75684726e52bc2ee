"""Serve the page docs/browser with a trained network and its clips, or compare it with PyTorch in headless Chromium.

    npm install --prefix docs/browser          # once: onnxruntime-web and MediaPipe
    python -m benchmarks.browser --serve 8000  # then open http://localhost:8000
    python -m benchmarks.browser               # compare; needs Chromium
    python -m benchmarks.browser --video FILE  # also use a video instead of the camera; needs ffmpeg

Writes network.onnx, clips.json and clips.f32 into the folder of the page, and pictures of the page to work_dir/browser.
"""

import argparse
import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.cli import whole_number
from data.recipes import Prepared
from torchlight.commands.export import facts_of
from torchlight.contract import network_inputs
from torchlight.export.write import export_network
from torchlight.predict.clips import Clip
from torchlight.predict.load import TrainedStream, open_stream
from torchlight.predict.recognizer import score
from torchlight.system.command import Parser
from torchlight.system.command import run as run_command
from torchlight.system.files import atomic
from torchlight.system.paths import ROOT

PAGE = ROOT / "docs/browser"
SCRIPT = ROOT / "benchmarks/browser.mjs"
WEIGHTS = ROOT / "work_dir/demo/ctrgcn/joint/last.pt"
LARGEST = 1e-4  # maximum difference of a logit, relative to the largest logit if that is above 1
ESTIMATORS = ("lite", "full", "heavy", "task")  # docs/browser/estimator.js
TOOLS = "apt-get install chromium; npm install --prefix docs/browser"


def build_parser() -> Parser:
    """The options."""
    parser = Parser(
        prog="python -m benchmarks.browser", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.option("weights", type=Path, default=WEIGHTS, metavar="FILE", help="a checkpoint (that of the demo)")
    parser.option("serve", type=whole_number(1, 65535), metavar="PORT", help="show the page until Ctrl-C")
    parser.option("video", type=Path, metavar="FILE", help="video that replaces the camera of the browser")
    parser.option("estimator", choices=ESTIMATORS, default="full", help="pose estimator for the video (full)")
    parser.option("seconds", type=whole_number(1, 3600), default=40, help="seconds to observe the page (40)")
    parser.option("out", type=Path, default=ROOT / "work_dir/browser", metavar="DIR", help="pictures of the page")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    return run_command(act, argv)


def act(argv: list[str]) -> None:
    """Write the files of the page, then serve or compare it."""
    args = build_parser().parse_args(argv)
    stream = open_stream(args.weights, None, torch.device("cpu"), {}, {"device": ["cpu"]})
    write_network(stream, PAGE / "network.onnx")
    write_clips(stream, PAGE / "clips.json")
    if args.serve:
        print(f"serving {PAGE} at http://localhost:{args.serve}; press Ctrl-C to stop")
        with server(PAGE, args.serve) as (_, thread):
            thread.join()
    else:
        print(json.dumps(compare(PAGE, args.out, args.video, args.estimator, args.seconds), indent=1))


def write_network(stream: TrainedStream, path: Path) -> None:
    """Export the network as ONNX."""
    clips = network_inputs(stream.model, stream.example())
    export_network(stream.model, stream.objective, clips, path, "onnx", facts_of(stream))


def write_clips(stream: TrainedStream, path: Path) -> None:
    """Write the clips of the network's data with their classes and the logits of PyTorch. The coordinates, float32 in
    the order M, T, V, C, are written to a file with the suffix .f32."""
    names, labels, frames = [], [], []
    for part in ("test", "train"):
        feeder = stream.feeder(**stream.config.test_feeder_args | {"part": part, "modality": stream.config.modality})
        names += feeder.name.tolist()
        labels += feeder.label.tolist()
        frames += [feeder.raw_clip(i)[0] for i in range(len(feeder.name))]
    clips = [
        Clip(name, "", 0, 0, Prepared(name, np.ascontiguousarray(x))) for name, x in zip(names, frames, strict=True)
    ]
    logits = score(stream, clips)[0]
    classes = stream.facts.get("class_names") or [str(i) for i in range(stream.num_class)]
    rows = zip(names, labels, frames, logits.tolist(), strict=True)
    with atomic(path.with_suffix(".f32")) as file:
        file.write(b"".join(x.tobytes() for x in frames))
    table = [{"name": n, "label": classes[k], "shape": x.shape, "logits": row} for n, k, x, row in rows]
    with atomic(path, "w") as file:
        json.dump({"data": path.with_suffix(".f32").name, "clips": table}, file)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the files of a folder without logging each request."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def server(folder: Path, port: int = 0) -> Iterator[tuple[str, threading.Thread]]:
    """Serve a folder on this computer; yields the address and the thread of the server."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", thread
        running.shutdown()


def missing_tools() -> str:
    """The programs and packages for the comparison that are not installed; "" if all are."""
    found = {"node": shutil.which("node"), "chromium": shutil.which("chromium")}
    found |= {name: (PAGE / "node_modules" / name).is_dir() for name in ("onnxruntime-web", "playwright-core")}
    names = ", ".join(name for name, place in found.items() if not place)
    return names and f"{names}: not installed; {TOOLS}"


def compare(
    page: Path, out: Path, video: Path | None = None, estimator: str = "full", seconds: int = 40
) -> dict[str, Any]:
    """Run all clips in headless Chromium; returns the number of clips, the number of equal classes and the largest
    difference of a logit.

    Raises:
        ValueError: a program is missing, the page fails, or its predictions differ.
    """
    if names := missing_tools():
        raise ValueError(names)
    out.mkdir(parents=True, exist_ok=True)
    with server(page) as (address, _):
        options = {"page": address, "out": str(out), "chromium": shutil.which("chromium"), "seconds": seconds}
        options |= {"estimator": estimator}
        options |= {"video": str(motion_jpeg(video, out)) if video else None, "modules": str(PAGE / "node_modules")}
        done = subprocess.run(["node", SCRIPT, json.dumps(options)], capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise ValueError(f"docs/browser: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    check_logits(found["clips"])
    return found


def check_logits(found: dict[str, Any]) -> None:
    """Raise ValueError if the page and PyTorch have different predictions for a clip."""
    if found["equal"] < found["clips"] or not found["difference"] <= LARGEST * max(1, found["largest"]):
        raise ValueError(f"docs/browser: expected the logits of PyTorch, got {json.dumps(found)}")


def motion_jpeg(video: Path, out: Path) -> Path:
    """A video in the format that Chromium accepts as a camera; raises ValueError without ffmpeg."""
    path = out / "camera.mjpeg"
    if not shutil.which("ffmpeg"):
        raise ValueError("ffmpeg: not installed; apt-get install ffmpeg")
    words = ["ffmpeg", "-loglevel", "error", "-y", "-i", str(video), "-vf", "scale=640:-2", "-q:v", "3", str(path)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"video: {' '.join(done.stderr.split())[-200:]}")
    return path


if __name__ == "__main__":
    sys.exit(main())
