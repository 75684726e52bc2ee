"""One self-contained HTML page about one run, or about several and their fusion, from what the runs left in their directories."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from torchlight.contract import DescribedFeeder
from torchlight.fusion import fuse, streams
from torchlight.fusion.intervals import bootstrap_interval
from torchlight.report import pictures
from torchlight.report.class_tables import confusion_matrix
from torchlight.report.runs import (
    Run,
    combine,
    describe_data,
    learned_adjacency,
    open_test_feeder,
    poses,
    read_runs,
    read_scores,
    score_command,
)
from torchlight.system.files import atomic
from torchlight.training.run_dir import CONFIG
from torchlight.training.scores import SCORE_FILE, is_correct, top_k

CLIPS, PAIRS = 3, 12  # how much is shown


class Page:
    """HTML that grows, and the PNG of every picture in it beside the page."""

    def __init__(self, out: Path):
        self.out, self.parts = out, []

    def add(self, *html: str) -> None:
        """Append HTML."""
        self.parts.extend(html)

    def picture(self, figure: Figure, name: str, title: str) -> str:
        """The SVG of a figure; writes <page>_<name>.png."""
        pictures.to_png(figure, self.out.with_name(f"{self.out.stem}_{name}.png"))
        return pictures.to_svg(figure, title)

    def write(self, title: str) -> None:
        """Write the page."""
        template = Template(Path(__file__).with_name("page.html").read_text())
        with atomic(self.out, "w") as file:
            file.write(template.substitute(title=escape(title), body="\n".join(self.parts)))


def write_report(work_dirs: Sequence[Path], out: Path | None = None) -> Path:
    """Write report.html, and its pictures as report_*.png beside it, for one run, or for several and their fusion; returns its path.

    A folder that is no run itself stands for the runs in it.

    Raises:
        ValueError: a directory holds no run, or the score files do not belong to the same test clips.
    """
    folders = [Path(folder) for folder in work_dirs]
    runs = read_runs(folders)
    feeder = open_test_feeder(runs[0].config)
    names = list(feeder.class_names or map(str, range(feeder.num_class)))
    truth = streams.GroundTruth(feeder.name, feeder.label, names)
    scored = read_scores(runs, truth)
    shared = folders[0].parent if len({folder.resolve().parent for folder in folders}) == 1 else folders[0]
    page = Page(Path(out) if out else (folders[0] if len(folders) == 1 else shared) / "report.html")
    models = dict.fromkeys(str(run.config.model).removesuffix(".Model").rpartition(".")[2] for run in runs)
    title = f"{', '.join(models)} on {describe_data(runs[0].config)}"
    page.add(
        f"<h1>{escape(title)}</h1>",
        f'<p class="muted">{escape(", ".join(run.name for run in runs))} &middot; {len(truth.label)} test clips</p>',
    )
    result = add_summary(page, runs, scored, truth)
    add_curves(page, runs)
    if result is not None:
        add_classes(page, result, truth)
        if isinstance(feeder, DescribedFeeder):
            add_clips(page, result, truth, feeder)
        else:
            page.add('<p class="muted">Clips are not drawn: the feeder has no skeleton.</p>')
    add_adjacency(page, runs)
    add_records(page, runs)
    page.write(title)
    return page.out


def add_summary(page: Page, runs: list[Run], scored: list[Run], truth: streams.GroundTruth) -> np.ndarray | None:
    """The figures first. Returns the scores that the rest of the page is about: the fusion's, the only run's, or None."""
    result, weights, origin = combine(scored)
    if result is not None:
        low, high = bootstrap_interval(is_correct(result, truth.label))
        cards = [
            (f"{top_k(result, truth.label, 1):.2f} %", f"top-1, 95 % interval {low:.2f} to {high:.2f}"),
            (f"{top_k(result, truth.label, 5):.2f} %", "top-5"),
            (
                f"{int(is_correct(result, truth.label).sum())} of {len(truth.label)}",
                f"clips right, {len(truth.class_names)} classes",
            ),
        ]
        page.add(
            '<div class="grid">',
            *(f'<div class="card"><div class="figure">{a}</div><div class="muted">{b}</div></div>' for a, b in cards),
            "</div>",
        )
    page.add("<h2>Figures</h2>", '<div class="card"><table>')
    page.add(
        '<tr><th>run</th><th class="n">weight</th><th class="n">top-1</th><th class="n">95 % interval</th><th class="n">top-5</th>'
    )
    page.add('<th class="n">last epoch</th><th class="n">best on test</th></tr>')
    weight_of = {run.name: weight for run, weight in zip(scored, weights, strict=True)}
    page.add(*(summary_row(run.name, weight_of.get(run.name), run.scores, truth, run.metrics) for run in runs))
    if len(scored) > 1:
        page.add(summary_row("fusion", None, result, truth, [], "sum"))
    page.add("</table></div>")
    page.add(f'<p class="muted" style="margin-top:12px">{origin}Intervals: bootstrap over the test clips. ')
    page.add("&ldquo;Best on test&rdquo; is the epoch that the test set itself chose, so it is no fair estimate.</p>")
    for run in runs:
        if run.scores is None:
            page.add(
                f"<p><b>{escape(run.name)}</b> has no {SCORE_FILE}; it is made by</p><pre>{escape(score_command(run))}</pre>"
            )
    return result


def summary_row(
    name: str,
    weight: float | None,
    scores: np.ndarray | None,
    truth: streams.GroundTruth,
    metrics: list[dict],
    mark: str = "",
) -> str:
    """A row of the table of figures."""
    cells = ["" if weight is None else f"{weight:g}"]
    if scores is None:
        cells += ["", "", ""]
    else:
        low, high = bootstrap_interval(is_correct(scores, truth.label))
        cells += [
            f"{top_k(scores, truth.label, 1):.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{top_k(scores, truth.label, 5):.2f}",
        ]
    tested = [line for line in metrics if line.get("test_top1") is not None]
    last, best = (tested[-1], max(tested, key=lambda line: line["test_top1"])) if tested else (None, None)
    cells += [f"{line['test_top1']:.2f} ({line['epoch']})" if line else "" for line in (last, best)]
    return (
        f'<tr class="{mark}"><td>{escape(name)}</td>'
        + "".join(f'<td class="n">{cell}</td>' for cell in cells)
        + "</tr>"
    )


def add_curves(page: Page, runs: list[Run]) -> None:
    """Accuracy, loss and learning rate over the epochs."""
    wanted = (
        ("accuracy", ("_top1", "_top5"), "percent"),
        ("loss", ("_loss",), "loss"),
        ("rate", ("lr",), "learning rate"),
    )
    for i, run in enumerate(runs, 1):
        figures = [(name, pictures.curves(run.metrics, suffixes, label)) for name, suffixes, label in wanted]
        figures = [(name, figure) for name, figure in figures if figure is not None]
        if not figures:
            continue
        page.add(f"<h2>Training{heading(run, runs)}</h2>", '<div class="grid">')
        for name, figure in figures:
            page.add(
                f'<figure class="card">{page.picture(figure, f"{name}{number(i, runs)}", f"{name} over epochs")}</figure>'
            )
        page.add("</div>")


def add_classes(page: Page, result: np.ndarray, truth: streams.GroundTruth) -> None:
    """Accuracy of each class, the pairs that are confused most, and the confusion matrix."""
    matrix = confusion_matrix(result, truth.label)
    counts, names = matrix.sum(1), truth.class_names
    accuracy = 100.0 * matrix.diagonal() / np.maximum(counts, 1)
    page.add("<h2>Classes</h2>", '<div class="grid wide">')
    bars = page.picture(pictures.class_bars(accuracy, counts, names), "classes", "accuracy of each class in percent")
    page.add(f'<figure class="card tall"><h3>Top-1 of each class, percent</h3>{bars}</figure>')
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    pairs = [divmod(int(flat), len(matrix)) for flat in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]]
    rows = [
        f'<tr><td>{escape(names[i])}</td><td>{escape(names[j])}</td><td class="n">{wrong[i, j]} of {counts[i]}</td></tr>'
        for i, j in pairs
        if wrong[i, j] > 0
    ]
    head = '<tr><th>true</th><th>taken for</th><th class="n">clips</th></tr>'
    table = f"<table>{head}{''.join(rows)}</table>" if rows else "<p>No clip was taken for another class.</p>"
    page.add(f'<div class="card"><h3>Most confused</h3>{table}</div>', "</div>")
    figure = pictures.confusion(matrix, names)
    least = int(60 * figure.get_figwidth())
    drawn = page.picture(figure, "confusion", "confusion matrix: rows are true classes, columns predicted ones")
    page.add(
        "<h2>Confusion matrix</h2>",
        f'<figure class="card"><div style="min-width:{least}px; max-width:{2 * least}px; margin:auto">{drawn}</div></figure>',
    )


def add_clips(page: Page, result: np.ndarray, truth: streams.GroundTruth, feeder: Any) -> None:
    """A few clips that were surely right and surely wrong, as skeletons."""
    probabilities = result if fuse.are_probabilities(result[None])[0] else fuse.softmax(result)
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    correct = is_correct(result, truth.label)
    page.add(
        "<h2>Clips</h2>",
        '<p class="muted">Left limbs blue, right limbs orange, time from left to right. The surest ones, one of a class.</p>',
    )
    page.add('<div class="grid wide">')
    for word, chosen in (("right", correct), ("wrong", ~correct)):
        order = [i for i in np.argsort(-confidence, kind="stable") if chosen[i]]
        first_of_class = list({int(truth.label[i]): i for i in reversed(order)}.values())
        shown = sorted(first_of_class, key=order.index)[:CLIPS]
        for k, i in enumerate(shown, 1):
            strip = page.picture(
                pictures.skeleton_strip(*poses(feeder, int(i))), f"{word}_{k}", f"skeletons of {truth.name[i]}"
            )
            verdict = f"<b>{escape(truth.class_names[truth.label[i]])}</b>"
            if word == "wrong":
                verdict += f" taken for <b>{escape(truth.class_names[predicted[i]])}</b>"
            sure = f"{100 * confidence[i]:.0f} % sure, {escape(str(truth.name[i]))}"
            style = "yes" if word == "right" else "no"
            page.add(
                f'<figure class="card strip {style}"><figcaption>{word}: {verdict}<br>{sure}</figcaption>{strip}</figure>'
            )
    page.add("</div>")


def add_adjacency(page: Page, runs: list[Run]) -> None:
    """The learned adjacencies of the first and the last block."""
    for n, run in enumerate(runs, 1):
        found = learned_adjacency(run.folder)
        if not found:
            continue
        page.add(f"<h2>Learned adjacency{heading(run, runs)}</h2>", '<div class="grid wide">')
        for place, (key, matrices) in zip(("first", "last"), found, strict=False):
            drawn = page.picture(
                pictures.adjacency(matrices), f"adjacency_{place}{number(n, runs)}", f"learned adjacency {key}"
            )
            page.add(f'<figure class="card"><h3>{place} block: <code>{escape(key)}</code></h3>{drawn}</figure>')
        page.add(
            "</div>", '<p class="muted" style="margin-top:12px">Joints by joints; blue above zero, orange below.</p>'
        )


def add_records(page: Page, runs: list[Run]) -> None:
    """Environment and configuration of each run, folded in."""
    page.add("<h2>Records</h2>", '<div class="grid wide">')
    for run in runs:
        rows = [(key, value) for key, value in run.environment.items() if value is not None]
        text = "".join(f"<tr><th>{escape(key)}</th><td>{escape(show(value))}</td></tr>" for key, value in rows)
        title = heading(run, runs)
        page.add(
            f'<details class="card"{" open" if len(runs) == 1 else ""}><summary>Environment{title}</summary><table>{text}</table></details>'
        )
        page.add(
            f'<details class="card"><summary>Configuration{title}</summary><pre>{escape((run.folder / CONFIG).read_text())}</pre></details>'
        )
    page.add("</div>")


def show(value: Any) -> str:
    """A recorded value; hashes by their first digits."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {show(item)}" for key, item in value.items())
    return value[:12] if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{40,}", value) else str(value)


def heading(run: Run, runs: list[Run]) -> str:
    """What a heading adds where there are several runs."""
    return f": {escape(run.name)}" if len(runs) > 1 else ""


def number(i: int, runs: list[Run]) -> str:
    """What a file name adds where there are several runs."""
    return f"_{i}" if len(runs) > 1 else ""
