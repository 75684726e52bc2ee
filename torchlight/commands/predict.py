"""The phase predict: labels of recordings, segments of long recordings, and their comparison with the truth."""

import glob
import hashlib
import logging
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data.poses.read import describes_recordings, is_clip_store, is_recording
from data.poses.recording import Recording
from data.poses.video import read_video
from torchlight.commands.predict_live import is_live, layout_map, log_to_stderr, predict_live, video_versions
from torchlight.config.options import COMMAND_LINE, Config, ConfigError
from torchlight.predict import Prediction, Recognizer, Settings, evaluate, output
from torchlight.predict.clips import recording_name
from torchlight.predict.segments import Segment, find_segments, spread
from torchlight.predict.view import save_pictures
from torchlight.system.command import RunError
from torchlight.system.files import similar
from torchlight.system.text import counted, nearest, printable

log = logging.getLogger("torchlight")
VIDEO = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
FRAME_STEP = 1 / 30  # seconds between the frames that segments are made of


@dataclass
class Labeled:
    """The predictions of one recording, and its segments if windows were used."""

    source: str
    predictions: list[Prediction]
    segments: list[Segment] = field(default_factory=list)
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    video: Recording | None = None  # of a video, whose poses take long to estimate


def predict(config: Config) -> None:
    """Label the recordings of `source`.

    Raises:
        ConfigError: an option is missing or wrong.
        ValueError: the only recording cannot be read or does not fit.
        RunError: some of several recordings failed; the others are labeled, and all failures were listed.
    """
    if not config.weights or not config.source:
        missing = "weights" if not config.weights else "source"
        hint = {"weights": "--weights work_dir/.../last.pt", "source": "--source recording.json"}[missing]
        raise ConfigError([f"{missing}: missing; --phase predict needs {hint}"])
    live = is_live(config)
    if live and not config.output:
        log_to_stderr()
    settings = settings_of(config)
    check_output(config, settings, live)
    recognizer = open_recognizer(config)
    if recognizer.multi_label and (live or settings.window is not None):
        raise ConfigError(["window: expected whole clips for a network of several labels per clip, got windows"])
    background = background_of(config, recognizer)
    truth = evaluate.read_truth(config.truth, recognizer.class_names) if config.truth else None
    if live:
        predict_live(config, recognizer, settings, header(recognizer, config), background)
        return
    found: list[Labeled] = []
    failures: dict[str, str] = {}  # reasons by recording
    stopped: BaseException | None = None
    files = sources(config.source, config.output)
    for done, file in enumerate(tqdm(files, "predict", disable=len(files) < 2 or not sys.stderr.isatty())):
        try:
            found += labeled(recognizer, file, settings, config, background, failures)
        except (ValueError, OSError) as error:
            if len(files) == 1:
                raise
            reason = " ".join(str(error).split())
            failures[str(file)] = reason if str(file) in reason else f"{file}: {reason}"
        except BaseException as error:  # an interrupt, for example: the results so far are written before it is raised
            if len(files) > 1:
                log.warning("stopped after %d of %d files", done, len(files))
            stopped = error
            break
    report(found, config)
    write(found, recognizer, config)
    for reason in failures.values():
        log.error("error: %s", printable(reason))
    if stopped is not None:
        raise stopped
    if config.save_picture and found:
        shown = (recognizer.shown(one.source if one.video is None else one.video, settings) for one in found)
        save_pictures(Path(config.save_picture), found, shown, recognizer.streams[0].recipe.skeleton)
    if truth is not None and found:
        compare(found, truth, background, list(failures))
    if failures:
        count = len(found) + len(failures)
        raise RunError(f"{counted(len(failures), 'recording')} of {count} could not be predicted, listed above")


def open_recognizer(config: Config) -> Recognizer:
    """The networks of `weights`, with the options of the command line that change how they run."""
    changes = {key: getattr(config, key) for key, origin in config.origins.items() if origin == COMMAND_LINE}
    return Recognizer(
        [config.weights, *config.further_weights],
        config if config.config else None,
        alpha=config.alpha,
        preset=config.preset,
        ema=config.ema,
        recipe=config.recipe,
        changes={key: value for key, value in changes.items() if key in RUNNING},
    )


RUNNING = ("device", "deterministic", "test_batch_size", "precision", "tf32", "weights_key", "ignore_weights")


def settings_of(config: Config) -> Settings:
    """The settings for converting recordings to clips; raises ValueError for values that are not valid."""
    size = tuple(config.image_size) or None
    return Settings(config.persons, config.window, config.stride, config.layout, config.frame_rate, size, config.mirror)


def background_of(config: Config, recognizer: Recognizer) -> int | None:
    """The number of the class `background`; raises ConfigError if there is none of this name."""
    if config.background is None:
        return None
    if config.background not in recognizer.class_names:
        hint = nearest(config.background, recognizer.class_names)
        raise ConfigError([f"background: expected the name of a class, got {config.background!r}; {hint}"])
    return recognizer.class_names.index(config.background)


def sources(source: str, results: str | None = None) -> list[Path]:
    """The recordings that a file, a folder or a pattern names, sorted; raises ConfigError if there is none.

    In a folder, tables of labels, YAML files and earlier results at the path `results` are skipped.
    """
    path = Path(source)
    if is_clip_store(path):
        raise ConfigError([f"source: expected recordings, got prepared clips ({source}); use --phase test for them"])
    if path.is_dir() and not is_recording(path):
        found = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")]
        found = [file for file in found if not describes_recordings(file)]
        if results is not None:
            names = {name for file in found for name in (file.stem, file.parent.name)}
            found = [file for file in found if not output.is_result(file, Path(results), names)]
        folders = sorted({file.parent for file in found} - {path}, key=str)
        whole = [folder for folder in folders if is_recording(folder)]  # folders of OpenPose are one recording each
        found = sorted([*whole, *(file for file in found if file.parent not in whole)])
    elif path.exists():
        found = [path]
    else:
        found = sorted(map(Path, glob.glob(source, recursive=True)))
    if not found:
        hint = "" if path.is_dir() or set(source) & set("*?[") else similar(path)
        raise ConfigError([f"source: expected a file, a folder with files, or a pattern, got {source!r}{hint}"])
    return found


def labeled(
    recognizer: Recognizer,
    path: Path,
    settings: Settings,
    config: Config,
    background: int | None,
    failures: dict[str, str],
) -> list[Labeled]:
    """The predictions of a file, by recording; the reasons for those without one are added to `failures`."""
    if path.suffix.lower() in VIDEO:
        flat = recognizer.streams[0].recipe.body.is_flat
        _, recording = read_video(path, config.pose_model, flat=flat)
        predictions = recognizer.predict(recording, settings)
        for prediction in predictions:
            prediction.source = str(path)
    else:
        recording, predictions = None, recognizer.predict(path, settings, failed=failures)
    groups: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        groups.setdefault(prediction.source, []).append(prediction)
    found = [Labeled(source, group, video=recording) for source, group in groups.items()]
    if settings.window is not None:
        for one in found:
            segment(one, config, background)
    return found


def segment(found: Labeled, config: Config, background: int | None) -> None:
    """Add the segments of each person to the predictions of a recording."""
    persons: dict[str, list[Prediction]] = {}
    for prediction in found.predictions:
        persons.setdefault(prediction.person, []).append(prediction)
    end = max(prediction.end for prediction in found.predictions)
    found.times = np.arange(max(1, round(end / FRAME_STEP))) * FRAME_STEP
    for person, predictions in persons.items():
        begins, ends = (np.array([getattr(p, key) for p in predictions]) for key in ("begin", "end"))
        curve = spread(begins, ends, np.stack([p.probabilities for p in predictions]), found.times)
        found.segments += find_segments(
            curve, found.times, config.threshold, config.switch_cost, config.shortest, background, person
        )
    found.segments.sort(key=lambda s: (s.start, s.person))


def report(found: list[Labeled], config: Config) -> None:
    """Log what was assumed, and a table: the most probable classes of each clip, or the segments."""
    notes: dict[str, int] = {}
    for one in found:
        for note in dict.fromkeys(note for prediction in one.predictions for note in prediction.notes):
            notes[note] = notes.get(note, 0) + 1
    for note, count in notes.items():
        log.warning("%s%s", note, f" ({counted(count, 'recording')})" if len(found) > 1 else "")
    for one in found:
        name = printable(one.source)
        if config.window is None:
            for p in one.predictions:
                person = f"  person {p.person}" if p.person else ""
                top = ", ".join(f"{printable(label)} {100 * value:.1f} %" for label, value in p.top(config.top_k))
                log.info("%s%s  %s", name, person, top)
            continue
        log.info("%s: %s, %s", name, counted(len(one.predictions), "window"), counted(len(one.segments), "segment"))
        for s in one.segments:
            label = printable(one.predictions[0].class_names[s.label])
            person = f"  person {s.person}" if s.person else ""
            log.info("%9.2f to %8.2f s%s  %s  %.1f %%", s.start, s.end, person, label, 100 * s.mean)


def check_output(config: Config, settings: Settings, live: bool) -> None:
    """Refuse output files that cannot be written and options without effect, before anything is computed."""
    check_effect(config, settings, live)
    for key in ("output", "save_picture"):
        path = getattr(config, key)
        if path and not Path(path).parent.is_dir():
            raise ConfigError([f"{key}: expected a file in a folder that exists, got {path!r}"])
    if live:
        if config.output:
            output.check_suffix(config.output, [".jsonl"])
        if config.truth:
            raise ConfigError(["truth: expected a recording to compare, got a live source"])
        if config.source == "-" and (config.show or config.save_picture):
            raise ConfigError(["show, save_picture: expected a camera or a video, got poses, which have no images"])
        return
    if config.output:
        windows = settings.window is not None
        formats = {*output.PREDICTION_FORMATS, *(output.SEGMENT_FORMATS if windows else ())}
        output.check_suffix(config.output, sorted(formats), "" if windows else "; segments need --window SECONDS")
    if config.save_picture:
        output.check_suffix(config.save_picture, [".gif", ".html"])
    if config.truth and settings.window is None:
        raise ConfigError(["truth: expected --window SECONDS as well, got none; whole clips have no segments"])


def check_effect(config: Config, settings: Settings, live: bool) -> None:
    """Raise ConfigError for options of segments if there are no segments."""
    given = {key for key, origin in config.origins.items() if origin == COMMAND_LINE}
    if live:
        wrong, reason = (
            given & {"switch_cost", "shortest"},
            "a recording, got a live source, whose labels are not segments",
        )
    elif settings.window is None:
        wrong = given & {"threshold", "switch_cost", "shortest", "background"}
        reason = "--window SECONDS as well, got none; whole clips have no segments"
    else:
        return
    if wrong:
        raise ConfigError([f"{key}: expected {reason}" for key in sorted(wrong)])


def write(found: list[Labeled], recognizer: Recognizer, config: Config) -> None:
    """Write `output`. With several recordings, each has its own file of segments."""
    if not config.output or not found:
        return
    path = Path(config.output)
    if config.window is None or path.suffix.lower() == ".jsonl":
        output.write_predictions(path, header(recognizer, config), rows(found, config))
        log.info("wrote %s", path)
        return
    for one, file in zip(found, output.file_names(path, [one.source for one in found]), strict=True):
        output.write_segments(file, one.segments, recognizer.class_names)
        log.info("wrote %s", file)


def rows(found: list[Labeled], config: Config) -> Iterator[output.Row]:
    """The predictions as rows of a file."""
    for one in found:
        for p in one.predictions:
            sure = config.window is None or p.probability >= config.threshold
            yield output.Row(
                source=p.source,
                state="label" if sure else "nothing",
                label=p.name if sure else None,
                p=round(p.probability, 6) if sure else None,
                top=[(name, round(value, 6)) for name, value in p.top(config.top_k)],
                window=(round(p.begin, 4), round(p.end, 4)),
                track=p.person,
                t=round(p.end, 4),
                observed=round(p.observed, 4),
                imputed=p.imputed,
            )


def header(recognizer: Recognizer, config: Config) -> dict[str, Any]:
    """The first line of a file of predictions: versions, checkpoints and options."""
    streams = recognizer.streams
    body, facts = streams[0].recipe.body, {"python": platform.python_version(), "torch": str(torch.__version__)}
    facts |= {"numpy": np.__version__, "weights": [str(stream.path) for stream in streams]}
    facts["sha256"] = [hashlib.sha256(stream.path.read_bytes()).hexdigest() for stream in streams]
    facts |= {"body": body.skeleton.name, "persons": config.persons, "window": config.window, "stride": config.stride}
    facts |= {"threshold": config.threshold, "calibrated": False, "alpha": recognizer.alpha.tolist()}
    return facts | video_versions() | layout_map(config.layout, recognizer)


def compare(
    found: list[Labeled], truth: dict[str, list[Segment]], background: int | None, failed: Sequence[str] = ()
) -> None:
    """Log the comparison of the segments with the true ones; recordings are matched by name. `failed` recordings are
    left out with a warning.

    Raises:
        ValueError: two recordings have the same name, or `truth` contains other recordings.
    """
    names, count = [recording_name(one.source) for one in found], len(found) + len(failed)
    persons = {s.person for segments in truth.values() for s in segments} != {""}
    if set(truth) == {""} and count == 1:
        truth = {names[0]: truth[""]}
    if "" in truth:
        raise ValueError(f"truth: expected the column recording, because {count} recordings are compared, got none")
    if len(set(names)) < len(names):
        raise ValueError("truth: expected recordings with different file names, got two of one name")
    if missing := [name for name in map(recording_name, failed) if name in truth and name not in names]:
        log.warning("truth: %s could not be predicted and is not compared", printable(", ".join(missing)))
        truth = {name: segments for name, segments in truth.items() if name not in missing}
    predicted = {name: one.segments for name, one in zip(names, found, strict=True)}
    times = {name: one.times for name, one in zip(names, found, strict=True)}
    if persons:  # each person of a recording is compared on its own
        tracks = [(name, p.person) for name, one in zip(names, found, strict=True) for p in one.predictions]
        frames = {f"{name}/{person}" if person else name: times[name] for name, person in tracks}
        truth, predicted, times = evaluate.by_person(truth), evaluate.by_person(predicted), frames
    log.info("%s", evaluate.table(evaluate.evaluate(truth, predicted, times, background)))
