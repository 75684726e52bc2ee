"""Written predictions: every format is read back unchanged, for any class names."""

import csv
import html
import json
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from torchlight.predict.output import (
    COLUMNS,
    MAX_BINS,
    PREDICTION_FORMATS,
    SEGMENT_FORMATS,
    Row,
    curve_points,
    file_names,
    score_curve,
    write_predictions,
    write_segments,
)
from torchlight.predict.segments import Segment

NAMES = ["wave", "a --> b", "<i>bold</i> & {x}", "two\nlines\tand a tab", "=1+1", "", "\ud800 \x1b[31m $x_$ \u8d70"]
ESCAPED = [
    "wave",
    "a --> b",
    "<i>bold</i> & {x}",
    r"two\nlines\tand a tab",
    "=1+1",
    "class 5",
    "\\ud800 \\x1b[31m $x_$ 走",
]
SEGMENTS = [
    Segment(3723.4, 3724.0004, 1, 0.5, 0.75, "p1"),
    Segment(0.0, 3800.5, 0, 0.87654321, 0.9),
    Segment(59.9996, 61.25, 2, 0.5, 0.5),
    *(Segment(float(100 + i), 101.0 + i, i, 1.0, 1.0, "p\t2") for i in range(3, 7)),
]
ORDER = [1, 2, 3, 4, 5, 6, 0]  # in time


@pytest.fixture
def written(tmp_path):
    for suffix in SEGMENT_FORMATS:
        write_segments(tmp_path / f"s{suffix}", iter(SEGMENTS), NAMES)
    assert len(list(tmp_path.iterdir())) == len(SEGMENT_FORMATS), "nothing temporary is left"
    return tmp_path


def expected() -> list[tuple[int, int, str, str]]:
    """Start and end in milliseconds, person and name of all segments, in time order."""
    ordered = [SEGMENTS[i] for i in ORDER]
    return [
        (round(1000 * s.start), round(1000 * s.end), s.person.replace("\t", r"\t"), ESCAPED[s.label]) for s in ordered
    ]


def spoken(person: str, name: str) -> str:
    return f"{person}: {name}" if person else name


def milliseconds(clock: str) -> int:
    hours, minutes, seconds, rest = map(int, re.fullmatch(r"(\d\d):(\d\d):(\d\d)[.,](\d{3})", clock).groups())
    return 1000 * (3600 * hours + 60 * minutes + seconds) + rest


def test_subrip_is_read_back(written):
    text = (written / "s.srt").read_text(encoding="utf-8")
    cues = re.findall(r"(\d+)\n(\S+,\d{3}) --> (\S+,\d{3})\n([^\n]+)\n\n", text)
    assert "".join(f"{n}\n{a} --> {b}\n{t}\n\n" for n, a, b, t in cues) == text, "nothing besides cues"
    assert [int(n) for n, *_ in cues] == list(range(1, len(SEGMENTS) + 1))
    shown = str.maketrans("<>{}", "‹›()")
    assert [(milliseconds(a), milliseconds(b), t) for _, a, b, t in cues] == [
        (a, b, spoken(person, name).translate(shown)) for a, b, person, name in expected()
    ]
    assert cues[1][1:3] == ("00:01:00,000", "00:01:01,250") and cues[-1][1] == "01:02:03,400"


def test_webvtt_is_read_back(written):
    text = (written / "s.vtt").read_text(encoding="utf-8")
    assert text.startswith("WEBVTT\n\n")
    blocks = text.removeprefix("WEBVTT\n\n").removesuffix("\n\n").split("\n\n")
    cues = [re.fullmatch(r"(\S+\.\d{3}) --> (\S+\.\d{3})\n([^\n<>]+)", block).groups() for block in blocks]
    assert [(milliseconds(a), milliseconds(b), html.unescape(t)) for a, b, t in cues] == [
        (a, b, spoken(person, name)) for a, b, person, name in expected()
    ]
    assert "&lt;i&gt;bold&lt;/i&gt; &amp; {x}" in text and "a --&gt; b" in text


def test_audacity_labels_are_read_back(written):
    lines = (written / "s.txt").read_text(encoding="utf-8").split("\n")
    rows = [line.split("\t") for line in lines[:-1]]
    assert lines[-1] == "" and [(round(1000 * float(a)), round(1000 * float(b)), t) for a, b, t in rows] == [
        (a, b, spoken(person, name)) for a, b, person, name in expected()
    ]


def test_elan_text_has_a_tier_for_each_person(written):
    rows = [line.split("\t") for line in (written / "s.tsv").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [(int(a), int(b), tier, label) for tier, a, b, label in rows] == [
        (a, b, person or "action", name) for a, b, person, name in expected()
    ]


def test_csv_and_json_lines_hold_the_probabilities(written):
    rows = list(csv.DictReader((written / "s.csv").open(encoding="utf-8", newline="")))
    lines = [json.loads(line) for line in (written / "s.jsonl").read_text().splitlines()]
    assert tuple(rows[0]) == tuple(lines[0]) == COLUMNS == ("start_s", "end_s", "track", "label", "p_mean", "p_max")
    assert rows[0] == {
        "start_s": "0.0",
        "end_s": "3800.5",
        "track": "",
        "label": "wave",
        "p_mean": "0.8765",
        "p_max": "0.9",
    }
    assert [line["label"] for line in lines] == [NAMES[SEGMENTS[i].label] for i in ORDER], "JSON keeps every name"
    assert [(r["start_s"], r["track"].replace(r"\t", "\t")) for r in rows] == [
        (str(line["start_s"]), line["track"]) for line in lines
    ]
    assert rows[3]["label"] == "'=1+1", "a spreadsheet does not run it"


def test_no_segments_give_a_file_without_segments(tmp_path):
    for suffix in SEGMENT_FORMATS:
        write_segments(tmp_path / f"s{suffix.upper()}", [], NAMES)
    contents = {path.suffix: path.read_text() for path in tmp_path.iterdir()}
    assert contents.pop(".CSV").strip() == ",".join(COLUMNS) and contents.pop(".VTT").strip() == "WEBVTT"
    assert len(contents) == 4 and set(contents.values()) == {""}


def test_an_unknown_suffix_names_the_known_ones(tmp_path):
    for name, got in (("a.mp4", "got .mp4"), ("a", "got no suffix")):
        with pytest.raises(ValueError, match=f"{name}: expected a file name with .csv, .jsonl, .srt.* {got}"):
            write_segments(tmp_path / name, SEGMENTS, NAMES)
        with pytest.raises(ValueError, match=f"{name}: expected a file name with .jsonl, .csv, {got}"):
            write_predictions(tmp_path / name, {}, [])
    with pytest.raises(ValueError, match=r"a.jpg: expected a file name with .png, got .jpg"):
        score_curve(tmp_path / "a.jpg", np.arange(2.0), np.ones((2, 1)), ["a"])
    assert not list(tmp_path.iterdir())


def test_an_interrupted_writer_keeps_the_old_file(tmp_path):
    for suffix in SEGMENT_FORMATS:
        path = tmp_path / f"s{suffix}"
        write_segments(path, SEGMENTS[:2], NAMES)
        before = path.read_bytes()
        with pytest.raises(IndexError):
            write_segments(path, [*SEGMENTS, Segment(9000.0, 9001.0, 99, 1.0, 1.0)], NAMES)
        assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == len(SEGMENT_FORMATS)


def test_a_folder_that_is_missing_is_an_error_with_the_file_name(tmp_path):
    for suffix in (*SEGMENT_FORMATS, *PREDICTION_FORMATS):
        path = tmp_path / "none" / f"s{suffix}"
        with pytest.raises(OSError) as error:
            write_segments(path, [], NAMES) if suffix in SEGMENT_FORMATS else write_predictions(path, {}, [])
        assert error.value.filename == str(path)
    with pytest.raises(OSError) as error:
        write_predictions(tmp_path / "none" / "p.jsonl", {}, [])
    assert Path(error.value.filename) == tmp_path / "none" / "p.jsonl"


def rows() -> list[Row]:
    top = [("wave", np.float32(0.75)), ("a\nb", 0.125), ("=1+1", 0.0625)]
    return [
        Row("clip1", label="wave", p=np.float32(0.75), top=top, window=(1.0, 3.5), track="2", observed=0.97, imputed=9),
        Row("=clip2", state="nothing", t=4.0, frame=np.int64(120), latency_ms=31.5),
        Row("clip3", label="a\nb", p=0.5, top=top[1:2]),
    ]


def test_json_lines_begin_with_the_facts_and_hold_what_is_known(tmp_path):
    header = {"version": "1", "window": np.array([2.0]), "checkpoint": Path("a/last.pt"), "threshold": np.float64(0.5)}
    write_predictions(tmp_path / "p.jsonl", header, iter(rows()))
    first, *lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert first == {"version": "1", "window": [2.0], "checkpoint": str(Path("a/last.pt")), "threshold": 0.5}
    top = [["wave", 0.75], ["a\nb", 0.125], ["=1+1", 0.0625]]
    assert lines[0] == {
        "source": "clip1", "state": "label", "label": "wave", "p": 0.75, "top": top, "window": [1.0, 3.5], "track": "2",
        "observed": 0.97, "imputed": 9,
    }  # fmt: skip
    assert lines[1] == {
        "source": "=clip2", "state": "nothing", "top": [], "track": "", "t": 4.0, "frame": 120, "latency_ms": 31.5
    }  # fmt: skip


def test_each_line_is_written_to_disk_before_the_next_result(tmp_path):
    path, seen = tmp_path / "p.jsonl", []

    def results():
        for row in rows():
            seen.append(len(path.read_text().splitlines()))
            yield row

    write_predictions(path, {}, results())
    assert seen == [1, 2, 3]


def test_predictions_as_a_table_have_a_column_for_each_of_the_top_classes(tmp_path):
    write_predictions(tmp_path / "p.csv", {"version": 1}, iter(rows()))
    head, *table = csv.reader((tmp_path / "p.csv").open(encoding="utf-8", newline=""))
    assert head == ["source", "person", "start_s", "end_s", "label", "p", "label_2", "p_2", "label_3", "p_3"]
    assert table[0] == ["clip1", "2", "1.0", "3.5", "wave", "0.75", r"a\nb", "0.125", "'=1+1", "0.0625"]
    assert table[1] == ["'=clip2", *[""] * 9]
    assert table[2] == ["clip3", "", "", "", r"a\nb", "0.5", *[""] * 4]
    write_predictions(tmp_path / "none.csv", {}, [])
    assert (tmp_path / "none.csv").read_text().strip() == "source,person,start_s,end_s,label,p"


def test_the_picture_draws_the_classes_with_the_highest_maxima_in_time_order():
    times, p = np.arange(6) / 10, np.zeros((6, 4))
    p[4, 0], p[1, 2], p[:5, 3] = 0.9, 0.8, 0.3
    p[5] = np.nan
    _, values, chosen = curve_points(times, p, 2)
    assert chosen == [2, 0]
    np.testing.assert_array_equal(values, p)
    long = np.random.default_rng(0).random((4 * MAX_BINS + 1, 3))
    short_times, binned, _ = curve_points(np.arange(len(long)) / 30, long, 2)
    assert len(short_times) == len(binned) <= MAX_BINS
    np.testing.assert_array_equal(binned.max(0), long.max(0))
    np.testing.assert_array_equal(binned[0], long[:5].max(0))


def test_the_picture_shows_when_a_class_is_probable(tmp_path):
    times = np.arange(200) / 10
    p = np.zeros((200, len(NAMES)))
    p[100:] = np.eye(len(NAMES))[0]
    p[:20] = np.nan
    score_curve(tmp_path / "p.png", times, p, NAMES, top=1)
    image = matplotlib.image.imread(tmp_path / "p.png")[..., :3]
    blue = np.abs(image - np.array([0x24, 0x63, 0xC9]) / 255).max(2) < 0.1
    columns = np.flatnonzero(blue.sum(0) > 10)
    assert columns.min() > 0.5 * image.shape[1] and blue.sum() > 0.02 * blue.size
    for odd_times, odd in ((times, p), (times[:0], p[:0]), (times[:1], p[50:51]), (times, np.full_like(p, np.nan))):
        score_curve(tmp_path / "odd.png", odd_times, odd, NAMES)
        assert matplotlib.image.imread(tmp_path / "odd.png").size


def test_every_recording_has_a_file_of_its_own():
    sources = [
        "a/take.csv",
        "b/take.csv",
        "b/take.v2.csv",
        "b/take.json",
        "p.pkl#clip.1",
        "p.pkl#clip.2",
        "w 1.npz",
        "w_1.npz",
    ]
    found = [file.name for file in file_names(Path("out/s.csv"), sources)]
    assert found[:4] == ["s-take.csv", "s-b-take.csv", "s-take.v2.csv", "s-take-2.csv"]
    assert found[4:6] == ["s-p-clip.1.csv", "s-p-clip.2.csv"] and len(set(found)) == len(sources)
    assert list(file_names(Path("s.csv"), ["a/take.csv"])) == [Path("s.csv")]
