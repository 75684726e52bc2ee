"""Files with predictions: segments of a recording, labels of clips and windows, and a plot of the probabilities.

The suffix of a file selects its format:

| suffix | segments | format |
|---|---|---|
| .csv | start_s, end_s, track, label, p_mean, p_max | table |
| .jsonl | the same names | JSON lines |
| .srt | subtitles | SubRip |
| .vtt | subtitles | WebVTT |
| .txt | start, end, text | labels of Audacity |
| .tsv | tier, begin and end in milliseconds, label | tab-delimited text for ELAN, one tier for each person |

Labels of clips and windows are written as .jsonl or .csv. Names of classes may contain any characters: control
characters, line breaks and tabs are written as escape sequences, and characters with a special meaning in a format are
escaped.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain, count
from pathlib import Path
from typing import IO, Any

import numpy as np

from torchlight.predict.clips import split_source
from torchlight.predict.segments import Segment
from torchlight.report.safe_text import shorten, write_csv
from torchlight.system.files import atomic
from torchlight.system.text import printable

COLUMNS = ("start_s", "end_s", "track", "label", "p_mean", "p_max")
MAX_BINS = 2000  # points of a curve
SUBRIP = str.maketrans("<>{}", "\u2039\u203a()")  # players read these as formatting, and the format cannot escape them
WEBVTT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def check_suffix(path: str | Path, formats: Iterable[str], hint: str = "") -> str:
    """The suffix of a file to write, in lower case.

    Raises:
        ValueError: it is none of `formats`, such as SEGMENT_FORMATS; the message about one of those ends with `hint`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        got = f"{suffix or 'no suffix'}{hint if suffix in SEGMENT_FORMATS else ''}"
        raise ValueError(f"{path}: expected a file name with {', '.join(formats)}, got {got}")
    return suffix


def write_segments(path: str | Path, segments: Iterable[Segment], class_names: Sequence[str]) -> None:
    """Write the segments of one recording in time order. The file is written completely or not at all.

    Raises:
        ValueError: unknown suffix.
        OSError: the file cannot be written.
    """
    write = SEGMENT_FORMATS[check_suffix(path, SEGMENT_FORMATS)]
    ordered = sorted(segments, key=lambda s: (s.start, s.end, s.person))
    write(Path(path), ordered, [str(name) for name in class_names])


def _rows(segments: Sequence[Segment], names: Sequence[str]) -> Iterable[tuple[float, float, str, str, float, float]]:
    for s in segments:
        p = round(float(s.mean), 4), round(float(s.highest), 4)
        yield round(float(s.start), 3), round(float(s.end), 3), s.person, names[s.label], *p


def _write_csv(path: Path, segments: Sequence[Segment], names: Sequence[str]) -> None:
    write_csv(path, COLUMNS, _rows(segments, names))


def _write_json_lines(path: Path, segments: Sequence[Segment], names: Sequence[str]) -> None:
    with atomic(path, "w") as file:
        for row in _rows(segments, names):
            _write_line(file, dict(zip(COLUMNS, row, strict=True)))


def _write_subrip(path: Path, segments: Sequence[Segment], names: Sequence[str]) -> None:
    with atomic(path, "w") as file:
        for i, s in enumerate(segments, 1):
            text = _text(s, names).translate(SUBRIP)
            file.write(f"{i}\n{_clock(s.start, ',')} --> {_clock(s.end, ',')}\n{text}\n\n")


def _write_webvtt(path: Path, segments: Sequence[Segment], names: Sequence[str]) -> None:
    with atomic(path, "w") as file:
        file.write("WEBVTT\n\n")
        for s in segments:
            text = _text(s, names).translate(WEBVTT)
            file.write(f"{_clock(s.start, '.')} --> {_clock(s.end, '.')}\n{text}\n\n")


def _write_audacity(path: Path, segments: Sequence[Segment], names: Sequence[str]) -> None:
    with atomic(path, "w") as file:
        file.writelines(f"{s.start:.6f}\t{s.end:.6f}\t{_text(s, names)}\n" for s in segments)


def _write_elan(path: Path, segments: Sequence[Segment], names: Sequence[str]) -> None:
    with atomic(path, "w") as file:
        for s in segments:
            tier = printable(s.person) or "action"
            file.write(f"{tier}\t{_milliseconds(s.start)}\t{_milliseconds(s.end)}\t{_name(s, names)}\n")


SEGMENT_FORMATS: dict[str, Callable[[Path, Sequence[Segment], Sequence[str]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".srt": _write_subrip,
    ".vtt": _write_webvtt,
    ".txt": _write_audacity,
    ".tsv": _write_elan,
}


def _name(segment: Segment, names: Sequence[str]) -> str:
    """The name of the class in one line, never empty."""
    return printable(names[segment.label]).strip() or f"class {segment.label}"


def _text(segment: Segment, names: Sequence[str]) -> str:
    """The displayed text: the class, preceded by the person if there is one."""
    name = _name(segment, names)
    return f"{printable(segment.person)}: {name}" if segment.person else name


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _clock(seconds: float, point: str) -> str:
    """hours:minutes:seconds with milliseconds.

    >>> _clock(3723.4, ",")
    '01:02:03,400'
    """
    rest, milliseconds = divmod(_milliseconds(seconds), 1000)
    return f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}{point}{milliseconds:03d}"


@dataclass(frozen=True)
class Row:
    """The prediction for a clip or for a window of a recording; fields that are None are not written.

    Args:
        source: file, stream or clip.
        state: "label", "nothing", "warming up" or "lost"; `label`, `p` and `top` are empty if nothing is known.
        top: the most probable classes with their probabilities, the first one first.
        window: start and end, seconds.
        track: the person.
        t, frame: time in seconds and number of the newest frame.
        observed: share of the joints that were seen. imputed: number of joints that were not measured.
    """

    source: str
    state: str = "label"
    label: str | None = None
    p: float | None = None
    top: Sequence[tuple[str, float]] = ()
    window: tuple[float, float] | None = None
    track: str = ""
    t: float | None = None
    frame: int | None = None
    observed: float | None = None
    imputed: int | None = None
    latency_ms: float | None = None


PREDICTION_FORMATS = (".jsonl", ".csv")


def write_predictions(path: str | Path, header: Mapping[str, Any], rows: Iterable[Row]) -> None:
    """Write labels of clips or windows.

    JSON lines: `header`, then one line for each row, flushed when `rows` yields it. CSV: source, person, start_s,
    end_s, label, p, then the other classes of `top` with their probabilities; `header` is not written, and the file is
    created when all rows are known.

    Args:
        header: facts about the run, such as versions, checkpoint, window and thresholds.

    Raises:
        ValueError: unknown suffix.
        OSError: the file cannot be written.
    """
    if check_suffix(path, PREDICTION_FORMATS) == ".jsonl":
        with open(path, "w", encoding="utf-8") as file:
            _write_line(file, header)
            for row in rows:
                _write_line(file, {f.name: v for f in fields(row) if (v := getattr(row, f.name)) is not None})
        return
    rows = list(rows)
    k = max([len(row.top) for row in rows], default=1)
    head = ["source", "person", "start_s", "end_s", "label", "p"]
    head += [f"{name}_{i}" for i in range(2, k + 1) for name in ("label", "p")]
    write_csv(Path(path), head, ([_cell(value) for value in _table_row(row, k)] for row in rows))


def _table_row(row: Row, k: int) -> list[Any]:
    others = [value for pair in row.top[1:] for value in pair]
    padding = [None] * (2 * max(k - 1, 0) - len(others))
    return [row.source, row.track, *(row.window or (None, None)), row.label, row.p, *others, *padding]


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else round(float(value), 4)


def _write_line(file: IO[str], value: Mapping[str, Any]) -> None:
    file.write(json.dumps(value, default=_plain, allow_nan=False) + "\n")
    file.flush()


def _plain(value: Any) -> Any:
    """Convert values that JSON does not support: arrays and numbers of NumPy, paths."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def score_curve(path: str | Path, times: np.ndarray, p: np.ndarray, class_names: Sequence[str], top: int = 12) -> None:
    """A PNG with the probabilities of at most `top` classes over time, one row each.

    The classes are those with the highest maxima, in the order of the times of their maxima.

    Args:
        times: (T,) seconds, increasing.
        p: (T, K) probabilities; NaN if unknown.

    Raises:
        ValueError: the suffix is not .png.
        OSError: the file cannot be written.
    """
    check_suffix(path, (".png",))
    from torchlight.report import pictures  # matplotlib is slow to import, and only needed here

    times, p, chosen = curve_points(times, p, top)
    with pictures.drawing():
        figure = pictures.new_figure(8, 0.7 + 0.36 * max(len(chosen), 1))
        axes = figure.add_subplot()
        for row, k in enumerate(chosen):
            axes.fill_between(times, row, row - 0.85 * p[:, k], color=pictures.COLORS["blue"], lw=0.5)
        names = [shorten(str(class_names[k]), 26) for k in chosen]
        axes.set_yticks(range(len(chosen)), names, color=pictures.COLORS["ink"])
        axes.set(
            xlabel="seconds (the height of a curve is its probability, at most one row)",
            ylim=(max(len(chosen), 1) - 0.8, -1),
        )
        axes.grid(axis="y", color=pictures.COLORS["line"], lw=0.7)
        if len(times) > 1:
            axes.set_xlim(times[0], times[-1])
        axes.tick_params(length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    pictures.to_png(figure, Path(path))


def curve_points(times: np.ndarray, p: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """At most `MAX_BINS` times, the maxima (bins, K) of the probabilities since each, and the classes to draw."""
    known = ~np.isnan(p).any(1)
    highest = np.where(known[:, None], p, -1.0)
    chosen = np.argsort(-highest.max(0), kind="stable")[:top] if known.any() else []
    first = np.arange(0, len(times), max(-(-len(times) // MAX_BINS), 1))
    order = sorted((int(k) for k in chosen), key=lambda k: highest[:, k].argmax())
    return times[first], np.fmax.reduceat(p, first) if len(first) else p, order


def file_names(path: Path, sources: Sequence[str]) -> Iterator[Path]:
    """One file per recording: `path`, or `<path>-<recording>` for several. If the names of recordings are equal, they
    are preceded by the folder or followed by a number.

    sources: paths of files, followed by `#` and the name of the recording if a file contains several.
    """
    taken: set[str] = set()
    for source in sources:
        file, recording = split_source(source)
        name = "-".join(word for word in (file.name if file.is_dir() else file.stem, recording) if word)
        choices = chain((name, f"{file.parent.name}-{name}"), (f"{name}-{i}" for i in count(2)))
        chosen = next(word for choice in choices if (word := _safe(choice)) not in taken)
        taken.add(chosen)
        yield path if len(sources) == 1 else path.with_name(f"{path.stem}-{chosen}{path.suffix}")


def is_result(file: Path, path: Path, names: Collection[str]) -> bool:
    """Whether `file_names` gives a file to one of the recordings in files or folders with these names."""
    if file.parent.resolve() != path.parent.resolve() or file.suffix != path.suffix:
        return False
    name = file.stem.removeprefix(f"{path.stem}-")
    return file.stem == path.stem or (
        name != file.stem and any(f"{name}-".startswith(f"{_safe(known)}-") for known in names)
    )


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)
