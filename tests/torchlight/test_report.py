"""The report: the results of a run are on one correct, self-contained page."""

import csv
import html
import logging
import os
import re
import resource
import shutil
import subprocess
import warnings
import xml.dom.minidom
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
import yaml

from tests.system.test_clip_view import clips_of, points_of
from tests.torchlight.small_run import CLASSES, LABEL, NAMES, make_scores, write_run, write_store
from torchlight.fusion.fuse import softmax
from torchlight.fusion.score_files import GroundTruth
from torchlight.report import class_tables
from torchlight.report.page import write_report
from torchlight.report.runs import adjacency_shapes, learned_adjacency, open_test_feeder, poses, read_metrics, read_runs
from torchlight.report.safe_text import to_cell
from torchlight.training.scores import write_scores

CURVES = ("accuracy", "loss", "rate", "robustness")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def words(page: Path) -> str:
    """The text of a page."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.read_text())))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("data") / "tiny.clips")


@pytest.fixture(scope="module")
def run(tmp_path_factory, store):
    folder = write_run(tmp_path_factory.mktemp("runs") / "joint", store)
    rows = "noise,0,% of the body,60,80.0,79.0\nnoise,1,% of the body,60,70.0,69.0\nrate,1,n-th frame,60,80.0,79.0\n"
    (folder / "robustness.csv").write_text(f"curve,level,unit,clips,top1,macro\n{rows}")
    return folder


@pytest.fixture(scope="module")
def page(run):
    return write_report([run])


def test_the_page_shows_the_figures_of_the_run(page):
    text, scores = words(page), make_scores(0)
    right = scores.argmax(1) == LABEL
    assert f"{100 * right.mean():.2f} %" in text and f"{right.sum()} of 60" in text
    because = "because their names do not identify performances"
    assert f"Intervals: bootstrap over clips, treated as independent {because}." in text
    assert "45.00 (3)" in text, "the last epoch's accuracy, with its number"
    assert all(f">{name}<" in page.read_text() for name in CLASSES)
    assert "frames.npy" in text and "num_epoch: 3" in text


def test_the_most_confused_pair_comes_first(page):
    matrix = class_tables.confusion_matrix(make_scores(0), LABEL)
    wrong = matrix - np.diag(matrix.diagonal())
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    assert f"true predicted clips {CLASSES[i]} {CLASSES[j]} {wrong[i, j]} of {matrix[i].sum()}" in words(page)


def test_the_diagonal_of_the_confusion_matrix_counts_the_clips_of_top_1_also_if_scores_are_tied():
    scores = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 2.0, 1.0], [3.0, 3.0, 3.0]])
    matrix = class_tables.confusion_matrix(scores, np.array([0, 1, 1, 0]))
    assert matrix.tolist() == [[0, 2, 0], [1, 1, 0], [0, 0, 0]]


def test_clips_are_shown_as_right_or_wrong_correctly(page):
    predicted = make_scores(0).argmax(1)
    number = {str(name): i for i, name in enumerate(NAMES)}
    right = re.findall(r"correct: ([a-z ]+?) confidence \d+ %, (clip_\d+)", words(page))
    wrong = re.findall(r"wrong: ([a-z ]+?) predicted as ([a-z ]+?) confidence \d+ %, (clip_\d+)", words(page))
    assert len(right) == len(wrong) == 3 and len({true for true, _ in right}) == 3
    assert all(
        CLASSES[LABEL[number[clip]]] == true and predicted[number[clip]] == LABEL[number[clip]] for true, clip in right
    )
    assert all((CLASSES[LABEL[number[c]]], CLASSES[predicted[number[c]]]) == (true, said) for true, said, c in wrong)


def test_shown_clips_can_be_played(page):
    clips = clips_of(page.read_text())
    shown = re.findall(r"(correct|wrong): ([a-z ]+?)(?: predicted.*?)? confidence \d+ %, (clip_\d+)", words(page))
    assert [clip["name"] for clip in clips] == [f"{word}: {true}, {name}" for word, true, name in shown]
    number = NAMES.tolist().index(shown[0][2])
    feeder = open_test_feeder(read_runs([page.parent])[0].config)
    expected = feeder.batch([number], 0)["data"][0, :, :, :, 0].permute(1, 2, 0).numpy() * [-1, 1, -1]
    np.testing.assert_allclose(points_of(clips[0])[:, 0], expected, atol=1e-3)
    p = softmax(make_scores(0)[number])
    assert clips[0]["curves"][0] == [CLASSES[p.argmax()], [pytest.approx(p.max(), abs=1e-4)]]
    assert len(clips[0]["curves"]) == 5


def test_the_robustness_of_a_run_is_shown(run, page):
    assert read_runs([run])[0].robustness == {
        ("noise", "% of the body"): [(0.0, 80.0), (1.0, 70.0)],
        ("rate", "n-th frame"): [(1.0, 80.0)],
    }
    section = words(page).partition("Robustness")[2].partition("Classes")[0]
    assert all(text in section for text in ("noise", "% of the body", "n-th frame", "top-1, percent"))


def test_every_picture_is_also_a_png_file_in_the_folder_of_the_page(page):
    names = {path.stem for path in page.parent.glob("report_*.png")}
    clips = {f"report_{word}_{k}" for word in ("correct", "wrong") for k in (1, 2, 3)}
    assert names == clips | {
        f"report_{n}" for n in (*CURVES, "classes", "confusion", "adjacency_first", "adjacency_last")
    }
    assert page.read_text().count("<svg ") == len(names)
    assert all(matplotlib.image.imread(path).shape[0] > 100 for path in page.parent.glob("report_*.png"))


def test_the_page_refers_to_nothing_outside_itself(page):
    text = page.read_text()
    links = re.findall(r'(?:src|href|xlink:href|action|data)\s*=\s*"([^"]*)"', text) + re.findall(
        r"url\(([^)]*)\)", text
    )
    assert links and all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert re.findall("<script[^>]*>", text) == ['<script type="application/json">', "<script>"]
    assert "@import" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) and {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_pictures_take_their_colors_from_the_page(page):
    for svg in re.findall(r"<svg .*?</svg>", page.read_text(), flags=re.DOTALL):
        assert "var(--" in svg and not set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", svg)) - {"#ffffff"}


def test_the_first_and_last_learned_adjacency_are_found_in_number_order(run):
    found = learned_adjacency(read_runs([run])[0], 20)
    assert [key for key, _ in found] == ["l1.gcn1.PA", "l10.gcn1.PA"] and found[0][1].shape == (3, 20, 20)


ODD = [
    "$a_$",
    "a\ud800b\n\x1b[31mred",
    "=cmd|' /C calc'!A0",
    "\u559d\u6c34 \u05d0\u05d1 \u0639\u0631",
    "x" * 10_000,
    '" id="p1" font: 9px #1c2430;',
    "<script>alert(1)</script>",
]


def test_class_names_of_any_kind_are_shown_as_text_on_the_page(tmp_path, store, capfd, monkeypatch):
    monkeypatch.setattr("torchlight.report.page.truth_of", lambda feeder: GroundTruth(feeder.name, feeder.label, ODD))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = write_report([write_run(tmp_path / "<script>$x", store)]).read_text()
    assert capfd.readouterr().err == ""
    assert "<script>alert" not in text and "\x1b" not in text and len(max(text.split(), key=len)) < 10_000
    for name in ("$a_$", "a\\ud800b\\n\\x1b[31mred", "=cmd|' /C calc'!A0", ODD[3], ODD[5], ODD[6]):
        assert name in html.unescape(text)
    drawn = "".join(xml.dom.minidom.parseString(svg).toxml() for svg in re.findall(r"<svg .*?</svg>", text, re.DOTALL))
    assert all(
        html.escape(name, quote=False) in html.unescape(drawn).replace("\n", "") or name in html.unescape(drawn)
        for name in ("$a_$", ODD[5], "<script>alert(1)</script>")
    )


def test_class_names_of_any_kind_are_written_to_tables_and_drawn(tmp_path, capfd):
    matrix = class_tables.confusion_matrix(make_scores(0), LABEL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_tables.write_class_tables(tmp_path, matrix, ODD)
    assert capfd.readouterr().err == ""
    rows = list(csv.reader((tmp_path / "each_class_acc.csv").open(encoding="utf-8")))
    names = [row[1] for row in rows[1:]]
    assert names[:3] == ["$a_$", "a\\ud800b\\n\\x1b[31mred", "'=cmd|' /C calc'!A0"] and names[3:] == ODD[3:]
    head, *table = csv.reader((tmp_path / "confusion_matrix.csv").open(encoding="utf-8"))
    assert head[1:] == names and [row[0] for row in table] == names
    assert [[int(count) for count in row[1:]] for row in table] == matrix.tolist()
    assert matplotlib.image.imread(tmp_path / "confusion_matrix.png").shape[1] < 1000, "long names are shortened"


def test_a_formula_is_text_in_a_table_and_a_number_stays_a_number():
    assert [to_cell(value) for value in ("=1", " +1", "-x", "@a", "a=1", -1, 1.5)] == [
        *("'=1", "' +1", "'-x", "'@a", "a=1", -1, 1.5)
    ]


@pytest.mark.parametrize(
    "text", ["[1]", "5", "{}", '{"epoch": "1"}', '{"epoch": 1, "lr": [2]}', '{"epoch": 1, "lr": 1e999}']
)
def test_a_damaged_record_of_an_epoch_is_named(text, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "lr": 0.1}\n' + text + "\n")
    with pytest.raises(ValueError, match="metrics.jsonl: line 2: .*expected .*, got"):
        read_metrics(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "last.pt: .*Tensor"),
        ({"l1.gcn1.PA": torch.tensor(1.0)}, r"last.pt: l1.gcn1.PA: expected the shape \(3, 20, 20\), got \(\)"),
        ({"l1.gcn1.PA": torch.zeros(3, 20, 20).to_sparse()}, "last.pt: l1.gcn1.PA: expected a dense tensor"),
        ({"l1.gcn1.PA": torch.zeros(3, 20, 20, device="meta")}, "last.pt: l1.gcn1.PA: expected a dense tensor"),
    ],
)
def test_a_damaged_checkpoint_is_named(content, message, tmp_path, run):
    run = read_runs([run])[0]
    run.folder = tmp_path
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=message):
        learned_adjacency(run, 20)


def test_damaged_records_are_reported_in_place_of_their_section(tmp_path, store, caplog):
    logging.getLogger("torchlight").propagate = True
    folder = write_run(tmp_path / "joint", store)
    (folder / "epoch1_test_score.pkl").unlink()
    (folder / "environment.json").write_text("[1]")
    (folder / "metrics.jsonl").write_text("[1]\n")
    (folder / "robustness.csv").write_text("curve,level\nnoise,1\n")
    torch.save(torch.zeros(3), folder / "last.pt")
    text = words(write_report([folder]))
    for name in ("environment.json: expected", "metrics.jsonl: line 1: expected", "robustness.csv: exp", "last.pt"):
        assert name in text and name in caplog.text
    assert "Training" not in text and "Records" in text


def test_learned_adjacency_is_found_by_shape_and_not_by_name():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("fixed", torch.zeros(3, 20, 20))
            self.any_name = torch.nn.Parameter(torch.zeros(3, 20, 20))
            self.stacked = torch.nn.Parameter(torch.zeros(60, 20))
            self.window = torch.nn.Parameter(torch.zeros(3, 60, 60))
            self.linear = torch.nn.Linear(20, 20)
            self.list = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(20, 20))])

    assert adjacency_shapes(Net(), 20) == {"any_name": (3, 20, 20), "stacked": (60, 20), "list.0": (20, 20)}


def test_a_report_on_a_full_disk_is_a_one_line_error(run, main, tmp_path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        shutil.copytree(run.parent, tmp_path / "runs", copy_function=os.symlink)
        code, _, err = main(
            "--config", run / "config.yaml", "--phase", "report", "--work-dir", tmp_path / "runs" / "joint"
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert code == 1 and err.startswith("error: ") and err.count("\n") == 1 and "cannot be written" in err
    assert not list((tmp_path / "runs").rglob("*.tmp"))


def test_a_run_without_scores_gets_its_curves_and_the_command_that_makes_scores(tmp_path, store):
    folder = write_run(tmp_path / "joint", store)
    (folder / "epoch1_test_score.pkl").unlink()
    text = words(write_report([folder]))
    assert f"--phase test --weights {folder / 'last.pt'} --save-score true --work-dir {folder}" in text
    assert "Training" in text and "45.00 (3)" in text and "Confusion" not in text


def test_several_runs_are_shown_with_their_fusion(tmp_path, store):
    folders = [write_run(tmp_path / "net" / m, store, m, seed) for seed, m in enumerate(("joint", "bone_motion"))]
    page = write_report(folders[0].parents[:1])  # the folder of the runs stands for them
    assert words(page) == words(write_report(folders, tmp_path / "same.html"))
    fused = 100 * ((0.6 * make_scores(0) + 0.4 * make_scores(1)).argmax(1) == LABEL).mean()
    assert page == tmp_path / "net" / "report.html"
    assert (
        f"{fused:.2f} %" in words(page) and "Training: joint" in words(page) and "Training: bone_motion" in words(page)
    )


def test_a_run_with_held_out_clips_is_left_out_beside_one_that_was_tested(tmp_path, store, caplog):
    folders = [write_run(tmp_path / "net" / name, store) for name in ("joint", "joint_without_s01")]
    options = yaml.safe_load((folders[1] / "config.yaml").read_text()) | {"hold_out": ["s01"]}
    (folders[1] / "config.yaml").write_text(yaml.safe_dump(options))
    write_scores(folders[1] / "epoch1_test_score.pkl", NAMES[:9], make_scores(0)[:9])
    text = words(write_report([tmp_path / "net"]))
    assert "joint_without_s01 is left out, because it was tested on the held-out clips of s01" in text
    assert "joint_without_s01: left out of the report" in caplog.text and "Fused with" not in text


def test_a_fusion_of_logits_and_probabilities_is_one_of_probabilities(tmp_path, store):
    folders = [write_run(tmp_path / m, store, m, seed) for seed, m in enumerate(("joint", "bone"))]
    write_scores(folders[1] / "epoch1_test_score.pkl", NAMES, softmax(make_scores(1)))
    fused = 100 * ((softmax(make_scores(0)) + softmax(make_scores(1))).argmax(1) == LABEL).mean()
    text = words(write_report(folders))
    assert f"{fused:.2f} %" in text and "Logits were converted to probabilities." in text


def test_a_folder_without_a_run_and_scores_of_other_clips_are_errors_and_no_page_is_written(tmp_path, store):
    with pytest.raises(ValueError, match="expected a run with config.yaml in .*nothing, got none"):
        write_report([tmp_path / "nothing"])
    folders = [write_run(tmp_path / "net" / m, store, m) for m in ("joint", "bone")]
    with pytest.raises(ValueError, match="got none; runs are in " + re.escape(str(tmp_path / "net")) + "$"):
        write_report([tmp_path])
    write_scores(folders[1] / "epoch1_test_score.pkl", NAMES[1:], make_scores(0)[1:])
    with pytest.raises(ValueError, match="1 missing"):
        write_report(folders, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_a_clip_is_drawn_upright_for_any_vertical_axis():
    class Feeder:
        skeleton = type("Body", (), {"parents": (0, 0), "left": (), "right": ()})
        manifest: dict = {}

        def batch(self, indices, epoch):
            data = np.zeros((1, 3, 9, 2, 1), np.float32)
            data[0, :, :, 1, 0] = np.array([1, 2, 3])[:, None]  # the second joint at x, y, z = 1, 2, 3
            return {"data": torch.from_numpy(data)}

    for up, expected in (("y", [1, 2]), ("z", [1, 3]), ("-y", [1, -2])):
        Feeder.manifest = {"up": up}
        points = poses(Feeder(), 0)[0]
        assert points.shape == (8, 1, 2, 2) and points[0, 0, 1].tolist() == expected


# In a browser


def chromium(*arguments: object) -> subprocess.CompletedProcess:
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        "--log-level=0",
    ]
    return subprocess.run(
        [CHROMIUM, *flags, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=True
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; apt-get install chromium")
def test_a_browser_shows_the_page_in_light_and_dark_without_errors(page, tmp_path):
    corner = {}
    for name, scheme in (("dark", 0), ("light", 1)):
        shot = tmp_path / f"{name}.png"
        settings = (
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={scheme}",
            "--window-size=1280,900",
        )
        done = chromium(*settings, f"--screenshot={shot}", page.as_uri())
        assert "CONSOLE" not in done.stderr, (
            "the page forbids itself every request, so one that is tried shows in the console"
        )
        image = matplotlib.image.imread(shot)[..., :3]
        assert image.std() > 0.02, "something is drawn"
        corner[name] = image[2, 2].mean()
    assert corner["dark"] < 0.2 and corner["light"] > 0.9


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; apt-get install chromium")
def test_a_phone_shows_the_page_without_scrolling_sideways_and_plays_clips(page, tmp_path):
    script = """f.onload = () => {
        const inside = f.contentDocument, find = (name) => inside.querySelector(name);
        const tell = (name, value) => document.body.append(`${name}=${value};`);
        tell("width", inside.documentElement.scrollWidth);
        find(".time").value = 5;
        find(".time").dispatchEvent(new Event("input"));
        tell("frame", find(".view").dataset.frame);
        find(".clips").value = 4;
        find(".clips").dispatchEvent(new Event("change"));
        tell("clip", find(".body").getAttribute("aria-label"));
        const before = find(".body").toDataURL();
        find(".body").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
        tell("rotated", find(".body").toDataURL() !== before);
        find(".body").dispatchEvent(new KeyboardEvent("keydown", { key: " " }));
        tell("button", find(".play").textContent);
    }"""
    frame = (
        f'<iframe id="f" style="width:375px;height:800px;border:0" srcdoc="{html.escape(page.read_text())}"></iframe>'
    )
    (tmp_path / "phone.html").write_text(f"<body>{frame}<script>{script}</script></body>")
    done = chromium(
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=5000",
        "--dump-dom",
        (tmp_path / "phone.html").as_uri(),
    )
    assert "width=375;" in done.stdout
    assert "frame=5;" in done.stdout and "rotated=true;" in done.stdout and "button=Pause;" in done.stdout
    assert f"clip=Skeleton of {clips_of(page.read_text())[4]['name']}; drag" in done.stdout
