"""The phase predict for cameras, streams, videos frame by frame, and poses on standard input."""

import logging
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from data.poses.camera import Camera
from data.poses.convert import find_body_map
from data.poses.estimator import PoseEstimator
from data.poses.pose_lines import PoseLines
from data.poses.recording import Facts
from data.poses.video import Moment, estimate, follow
from graph.layouts import find_layout
from torchlight.config.options import Config
from torchlight.predict import Recognizer, Settings
from torchlight.predict.live import run
from torchlight.predict.overlay import Overlay, VideoFile, Window

log = logging.getLogger("torchlight")
ADDRESS = re.compile(r"-|\d+|[a-z]+://.*")
RELEASE = 0.6  # share of the threshold below which a label ends


def is_live(config: Config) -> bool:
    """Whether the source is processed frame by frame: a camera, a stream, standard input, or a video that is shown,
    drawn or played like a camera."""
    source = config.source or ""
    if ADDRESS.fullmatch(source) and not Path(source).is_file():
        return True
    drawn = config.save_picture is not None and config.save_picture.lower().endswith(".mp4")
    return config.live or config.show or drawn


def log_to_stderr() -> None:
    """Log to stderr, because standard output is used for the results."""
    for handler in log.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stderr)


def predict_live(
    config: Config, recognizer: Recognizer, settings: Settings, header: dict[str, Any], background: int | None
) -> None:
    """Write one JSON line per result to `output`, or to standard output, until the source ends or Ctrl-C is pressed.
    Every line is written at once, so an error loses no results.

    Raises:
        ValueError: the source cannot be opened, a package is missing, or the poses do not fit the network.
        OSError: a camera stopped.
    """
    hysteresis = {"on": config.threshold, "off": RELEASE * config.threshold}
    options = {"hysteresis": hysteresis | {"background": background}, "top_k": config.top_k}
    with ExitStack() as stack:
        moments, facts, camera = open_source(config, recognizer, stack)
        facts.layout = config.layout and find_layout(config.layout).name or facts.layout
        stream = recognizer.stream(facts, settings, **options)
        sinks: list[VideoFile | Window] = []
        if config.save_picture:
            sinks.append(VideoFile(Path(config.save_picture), camera.rate if camera else stream.rate))
        if config.show:
            sinks.append(Window())
        bones = find_layout(facts.layout).skeleton if facts.layout else None
        display = Overlay(sinks, facts, bones) if sinks else None
        # not written atomically: results are complete lines that other programs may follow, and survive every error
        out: IO[str] = stack.enter_context(open(config.output, "w", encoding="utf-8")) if config.output else sys.stdout
        header |= {"window": stream.window, "stride": stream.stride, "off": hysteresis["off"]} | video_versions()
        header |= layout_map(facts.layout, recognizer)
        dropped = (lambda: camera.dropped) if camera else (lambda: 0)
        run(noted(moments, facts), stream, out, header, display, dropped, stream.delay)
    if config.output:
        log.info("wrote %s", config.output)


def video_versions() -> dict[str, str]:
    """The versions of the packages for videos that are in use; OpenCV's versions decode videos to different pixels."""
    names = {"opencv": "cv2", "mediapipe": "mediapipe", "rtmlib": "rtmlib"}
    return {name: str(getattr(sys.modules[m], "__version__", "")) for name, m in names.items() if m in sys.modules}


def layout_map(layout: str | None, recognizer: Recognizer) -> dict[str, Any]:
    """`layout` for the first line of the output: the layout of the source, and the joints that it does not have; empty
    if the layout is not known. Raises ValueError if poses in this layout do not fit the network."""
    if layout is None:
        return {}
    imputed = find_body_map(layout, recognizer.streams[0].recipe.body).imputed
    return {"layout": {"source": find_layout(layout).name, "imputed": imputed}}


def open_source(
    config: Config, recognizer: Recognizer, stack: ExitStack
) -> tuple[Iterable[Moment], Facts, Camera | None]:
    """The persons of every moment, each with an id; the facts about their points; and the camera, if there is one."""
    if config.source == "-":
        lines = PoseLines(sys.stdin)
        return follow(lines, lines.facts), lines.facts, None
    camera = stack.enter_context(Camera(config.source, real_time=config.live))
    flat = recognizer.streams[0].recipe.body.is_flat
    estimator = stack.enter_context(PoseEstimator(config.pose_model, flat=flat))
    return follow(estimate(camera, estimator), estimator.facts), estimator.facts, camera


def noted(moments: Iterable[Moment], facts: Facts) -> Iterator[Moment]:
    """The same moments; the assumptions about them are logged once."""
    known: set[str] = set()
    for moment in moments:
        for note in facts.guessed:
            if note not in known:
                log.warning("%s", note)
                known.add(note)
        yield moment
