"""A self-contained HTML page about one run, or about several runs and their fusion."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from torchlight.contract import DescribedFeeder, Feeder
from torchlight.fusion import fuse
from torchlight.fusion.groups import Groups, find_groups
from torchlight.fusion.intervals import bootstrap_interval
from torchlight.fusion.score_files import GroundTruth, truth_of
from torchlight.report import pictures
from torchlight.report.class_tables import confusion_matrix
from torchlight.report.runs import (
    Run,
    combine,
    describe_data,
    learned_adjacency,
    on_same_clips,
    open_test_feeder,
    poses,
    read_runs,
    read_scores,
    score_command,
    view_of,
)
from torchlight.report.safe_text import block_to_html, to_html
from torchlight.system import clip_view
from torchlight.system.files import read_text
from torchlight.system.text import counted, printable, quote
from torchlight.training.metrics import TITLES, TOP5_CLASSES, accuracies, average_precision, mean_average_precision
from torchlight.training.run_dir import CONFIG
from torchlight.training.scores import SCORE_FILE, is_correct, predicted_class

log = logging.getLogger("torchlight")
CLIPS, PAIRS, TOP = 3, 12, 5  # numbers of clips, of pairs of classes, and of classes of a clip that are shown


class Page:
    """HTML for one file, and its figures, which are also written as PNG files in the same folder."""

    def __init__(self, out: Path):
        self.out, self.parts = out, []

    def add(self, *html: str) -> None:
        """Append HTML."""
        self.parts.extend(html)

    def add_problem(self, run: Run, problem: str) -> None:
        """Add a sentence in place of a section that cannot be shown, and log a warning."""
        log.warning("%s; it is not in the report", printable(problem))
        self.add(f"<p><b>{to_html(run.name)}</b> is not shown in full: {to_html(problem, 500)}.</p>")

    def picture(self, figure: Figure, name: str, title: str) -> str:
        """Write a figure as <page>_<name>.png; returns its SVG."""
        pictures.to_png(figure, self.out.with_name(f"{self.out.stem}_{name}.png"))
        return pictures.to_svg(figure, title)

    def write(self, title: str) -> None:
        """Write the page."""
        clip_view.write_page(self.out, title, "\n".join(self.parts))


def write_report(work_dirs: Sequence[Path], out: Path | None = None) -> Path:
    """Write a page about one run, or about several runs and their fusion; returns its path.

    out: the file of the page; None: report.html. Its figures are also written to the same folder, as <page>_*.png. A
    folder that is not a run is replaced by the runs in it. A damaged record, or a run whose `hold_out` is not that of
    the first one, is omitted with a note on the page and a warning.

    Raises:
        ValueError: a folder contains no run, or the scores do not belong to the same test clips.
        OSError: a file cannot be written.
    """
    folders = [Path(folder) for folder in work_dirs]
    runs, others = on_same_clips(read_runs(folders))
    feeder = open_test_feeder(runs[0].config)
    truth = truth_of(feeder)
    scored = read_scores(runs, truth)
    shared = folders[0].parent if len({folder.resolve().parent for folder in folders}) == 1 else folders[0]
    page = Page(Path(out) if out else (folders[0] if len(folders) == 1 else shared) / "report.html")
    models = dict.fromkeys(str(run.config.model).removesuffix(".Model").rpartition(".")[2] for run in runs)
    title = f"{', '.join(models)} on {describe_data(runs[0].config)}"
    names, tested = ", ".join(to_html(run.name) for run in runs), runs[0].config.tested
    page.add(f"<h1>{to_html(title)}</h1>", f'<p class="muted">{names} &middot; {len(truth.label)} {tested} clips</p>')
    for run in others:
        clips = f"{run.config.tested} clips of {' '.join(run.config.hold_out) or 'the benchmark'}"
        log.warning("%s: left out of the report, because it was tested on the %s", *map(printable, (run.name, clips)))
        page.add(f"<p><b>{to_html(run.name)}</b> is left out, because it was tested on the {to_html(clips)}.</p>")
    result = add_summary(page, runs, scored, truth, tested)
    add_curves(page, runs)
    add_robustness(page, runs)
    if result is not None and truth.target is not None:
        add_average_precision(page, result, truth.target, truth.class_names)
    elif result is not None:
        add_classes(page, result, truth)
        if isinstance(feeder, DescribedFeeder):
            add_clips(page, result, truth, feeder)
        else:
            page.add('<p class="muted">Clips are not drawn: the feeder has no skeleton.</p>')
    add_adjacency(page, runs, feeder.num_point)
    add_records(page, runs)
    page.write(title)
    return page.out


def add_summary(page: Page, runs: list[Run], scored: list[Run], truth: GroundTruth, tested: str) -> np.ndarray | None:
    """Add the accuracies; returns the scores for the other sections: of the fusion, of the only run, or None."""
    result, weights, origin = combine(scored)
    groups = find_groups(truth.name.tolist(), None, truth.group)
    if result is not None:
        page.add(
            '<div class="grid">',
            *(
                f'<div class="card"><div class="figure">{a}</div><div class="muted">{b}</div></div>'
                for a, b in cards_of(result, truth, groups)
            ),
            "</div>",
        )
    heads = ("weight", *figures_of(None, truth, groups), "last epoch", f"best on {tested}")
    page.add("<h2>Figures</h2>", '<div class="card"><table>')
    page.add("<tr><th>run</th>", *(f'<th class="n">{head}</th>' for head in heads), "</tr>")
    weight_of = {run.name: weight for run, weight in zip(scored, weights, strict=True)}
    page.add(*(summary_row(run.name, weight_of.get(run.name), run.scores, truth, groups, run.metrics) for run in runs))
    if len(scored) > 1:
        page.add(summary_row("fusion", None, result, truth, groups, [], "sum"))
    page.add("</table></div>")
    intervals = f"Intervals: bootstrap over {groups}. " if truth.target is None else ""
    page.add(f'<p class="muted" style="margin-top:12px">{origin}{intervals}')
    page.add(f"&ldquo;Best on {tested}&rdquo; is the epoch selected on the {tested} clips, not a fair estimate.</p>")
    for run in runs:
        for problem in run.problems:
            page.add_problem(run, problem)
        if run.scores is None:
            page.add(f"<p><b>{to_html(run.name)}</b> has no {SCORE_FILE}. This command writes it:</p>")
            page.add(f"<pre>{block_to_html(score_command(run))}</pre>")
    return result


def cards_of(result: np.ndarray, truth: GroundTruth, groups: Groups) -> list[tuple[str, str]]:
    """The key results at the top of the page, with their labels."""
    found, classes = figures_of(result, truth, groups), counted(len(truth.class_names), "class", "classes")
    if truth.target is not None:
        return [(f"{found['mAP']} %", f"mean average precision, {classes}")]
    right = int(is_correct(result, truth.label).sum())
    return [
        (f"{found['top-1']} %", f"top-1, 95 % interval {found['95 % interval']}"),
        (f"{found['macro']} %", "macro: mean recall of the classes"),
        *((f"{found[title]} %", title) for title in ("top-5",) if title in found),
        (f"{right} of {len(truth.label)}", f"clips correct, {classes}"),
    ]


def figures_of(scores: np.ndarray | None, truth: GroundTruth, groups: Groups) -> dict[str, str]:
    """The figures of scores (n, num_class) as text, by their titles; empty texts if there are no scores."""
    if scores is None:
        single = ("top-1", "95 % interval", "macro", *(["top-5"] if len(truth.class_names) >= TOP5_CLASSES else []))
        return dict.fromkeys((TITLES["map"],) if truth.target is not None else single, "")
    if truth.target is not None:
        return {TITLES["map"]: f"{mean_average_precision(scores, truth.target):.2f}"}
    found = {TITLES[key]: f"{value:.2f}" for key, value in accuracies(scores, truth.label).items()}
    low, high = bootstrap_interval(is_correct(scores, truth.label), group=groups.index)
    return {"top-1": found.pop("top-1"), "95 % interval": f"{low:.2f} to {high:.2f}"} | found


def summary_row(
    name: str,
    weight: float | None,
    scores: np.ndarray | None,
    truth: GroundTruth,
    groups: Groups,
    metrics: list[dict],
    mark: str = "",
) -> str:
    """A row of the table of accuracies."""
    cells = ["" if weight is None else f"{weight:g}", *figures_of(scores, truth, groups).values()]
    key = "test_top1" if truth.target is None else "test_map"
    tested = [line for line in metrics if line.get(key) is not None]
    last, best = (tested[-1], max(tested, key=lambda line: line[key])) if tested else (None, None)
    cells += [f"{line[key]:.2f} ({line['epoch']})" if line else "" for line in (last, best)]
    return (
        f'<tr class="{mark}"><td>{to_html(name)}</td>'
        + "".join(f'<td class="n">{cell}</td>' for cell in cells)
        + "</tr>"
    )


def add_curves(page: Page, runs: list[Run]) -> None:
    """Accuracy, loss and learning rate over the epochs."""
    wanted = (
        ("accuracy", ("_top1", "_macro", "_top5", "_map"), "percent"),
        ("loss", ("_loss",), "loss"),
        ("cross entropy", ("_cross_entropy",), "cross entropy"),
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
                "<figure "
                f'class="card">{page.picture(figure, f"{name}{number(i, runs)}", f"{name} over epochs")}</figure>'
            )
        page.add("</div>")


def add_robustness(page: Page, runs: list[Run]) -> None:
    """Add the accuracy on degraded test clips of the runs that measured it."""
    for i, run in enumerate(runs, 1):
        if run.robustness:
            figure = pictures.panels(run.robustness, "top-1, percent")
            drawn = page.picture(figure, f"robustness{number(i, runs)}", "accuracy on degraded clips")
            page.add(f"<h2>Robustness{heading(run, runs)}</h2>", f'<figure class="card">{drawn}</figure>')


def add_classes(page: Page, result: np.ndarray, truth: GroundTruth) -> None:
    """Add the recall of each class, the most confused pairs of classes, and the confusion matrix."""
    matrix = confusion_matrix(result, truth.label)
    counts, names = matrix.sum(1), truth.class_names
    recall = 100.0 * matrix.diagonal() / np.maximum(counts, 1)
    page.add("<h2>Classes</h2>", '<div class="grid wide">')
    bars = page.picture(pictures.class_bars(recall, counts, names), "classes", "recall of each class in percent")
    page.add(f'<figure class="card tall"><h3>Recall of each class, percent</h3>{bars}</figure>')
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    pairs = [divmod(int(flat), len(matrix)) for flat in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]]
    rows = [
        f'<tr><td>{to_html(names[i])}</td><td>{to_html(names[j])}</td><td class="n">{wrong[i, j]} of '
        f"{counts[i]}</td></tr>"
        for i, j in pairs
        if wrong[i, j] > 0
    ]
    head = '<tr><th>true</th><th>predicted</th><th class="n">clips</th></tr>'
    table = f"<table>{head}{''.join(rows)}</table>" if rows else "<p>Every clip is classified correctly.</p>"
    page.add(f'<div class="card"><h3>Most confused</h3>{table}</div>', "</div>")
    figure = pictures.confusion(matrix, names)
    least = int(60 * figure.get_figwidth())
    drawn = page.picture(figure, "confusion", "confusion matrix: rows are true classes, columns are predicted classes")
    page.add(
        "<h2>Confusion matrix</h2>",
        f'<figure class="card"><div style="min-width:{least}px; max-width:{2 * least}px; '
        f'margin:auto">{drawn}</div></figure>',
    )


def add_average_precision(page: Page, result: np.ndarray, target: np.ndarray, names: list[str]) -> None:
    """Add the average precision of each class of clips with several labels."""
    precision, counts = np.nan_to_num(average_precision(result, target)), (target > 0.5).sum(0)
    bars = page.picture(
        pictures.class_bars(precision, counts, names), "classes", "average precision of each class in percent"
    )
    page.add("<h2>Classes</h2>", '<div class="grid wide">')
    page.add(f'<figure class="card tall"><h3>Average precision of each class, percent</h3>{bars}</figure></div>')
    page.add('<p class="muted">Clips with several labels have no top-1, confusion matrix or list of wrong clips.</p>')


def add_clips(page: Page, result: np.ndarray, truth: GroundTruth, feeder: Feeder) -> None:
    """Add skeletons of the clips with the highest confidence, correct and wrong ones, at most one per class."""
    probabilities = result if fuse.are_probabilities(result[None])[0] else fuse.softmax(result)
    predicted, confidence = predicted_class(result, truth.label), probabilities.max(1)
    correct = predicted == truth.label
    views, cards = [], []
    for word, chosen in (("correct", correct), ("wrong", ~correct)):
        order = [i for i in np.argsort(-confidence, kind="stable") if chosen[i]]
        first_of_class = list({int(truth.label[i]): i for i in reversed(order)}.values())
        for k, i in enumerate(sorted(first_of_class, key=order.index)[:CLIPS], 1):
            figure = pictures.skeleton_strip(*poses(feeder, int(i)))
            strip = page.picture(figure, f"{word}_{k}", f"skeletons of {truth.name[i]}")
            verdict = f"<b>{to_html(truth.class_names[truth.label[i]])}</b>"
            if word == "wrong":
                verdict += f" predicted as <b>{to_html(truth.class_names[predicted[i]])}</b>"
            detail = f"confidence {100 * confidence[i]:.0f} %, {to_html(truth.name[i])}"
            caption = f"<figcaption>{word}: {verdict}<br>{detail}</figcaption>"
            cards.append(f'<figure class="card strip {word}">{caption}{strip}</figure>')
            title = f"{word}: {truth.class_names[truth.label[i]]}, {truth.name[i]}"
            top = [
                (truth.class_names[c], probabilities[i, c]) for c in np.argsort(-probabilities[i], kind="stable")[:TOP]
            ]
            views.append(view_of(feeder, int(i), title, top))
    page.add("<h2>Clips</h2>", '<p class="muted">The clips with the highest confidence, one per class. ')
    page.add("Left limbs are blue, right limbs orange. In the pictures below, time runs from left to right.</p>")
    page.add(clip_view.render(views) if views else "", '<div class="grid wide">', *cards, "</div>")


def add_adjacency(page: Page, runs: list[Run], V: int) -> None:
    """Add the first and the last learned adjacency of each run."""
    for n, run in enumerate(runs, 1):
        try:
            found = learned_adjacency(run, V)
        except ValueError as error:
            page.add(f"<h2>Learned adjacency{heading(run, runs)}</h2>")
            page.add_problem(run, str(error))
            continue
        if not found:
            continue
        page.add(f"<h2>Learned adjacency{heading(run, runs)}</h2>", '<div class="grid wide">')
        for place, (key, matrices) in zip(("first", "last"), found, strict=False):
            figure, name = pictures.adjacency(matrices), f"adjacency_{place}{number(n, runs)}"
            drawn = page.picture(figure, name, f"learned adjacency {key}")
            page.add(f'<figure class="card"><h3>{place} block: <code>{to_html(key)}</code></h3>{drawn}</figure>')
        page.add("</div>")
        page.add('<p class="muted" style="margin-top:12px">')
        page.add("Rows and columns: joints. Blue: above zero, orange: below.</p>")


def add_records(page: Page, runs: list[Run]) -> None:
    """Add environment and configuration of each run, collapsed if there are several runs."""
    page.add("<h2>Records</h2>", '<div class="grid wide">')
    for run in runs:
        rows = [(key, value) for key, value in run.environment.items() if value is not None]
        text = "".join(f"<tr><th>{to_html(key)}</th><td>{to_html(show(value), 2000)}</td></tr>" for key, value in rows)
        title, folded = heading(run, runs), "" if len(runs) > 1 else " open"
        config = block_to_html(read_text(run.folder / CONFIG))
        page.add(f'<details class="card"{folded}><summary>Environment{title}</summary><table>{text}</table></details>')
        page.add(f'<details class="card"><summary>Configuration{title}</summary><pre>{config}</pre></details>')
    page.add("</div>")


def show(value: Any, depth: int = 0) -> str:
    """A recorded value as text; hashes are shortened to 12 digits."""
    if isinstance(value, dict):
        if depth == 2:
            return quote(value)
        return ", ".join(f"{key} {show(item, depth + 1)}" for key, item in value.items())
    if isinstance(value, list):
        return quote(value)
    return value[:12] if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{40,}", value) else str(value)


def heading(run: Run, runs: list[Run]) -> str:
    """The name of the run for a heading, if there are several runs."""
    return f": {to_html(run.name)}" if len(runs) > 1 else ""


def number(i: int, runs: list[Run]) -> str:
    """The number of the run for a file name, if there are several runs."""
    return f"_{i}" if len(runs) > 1 else ""
