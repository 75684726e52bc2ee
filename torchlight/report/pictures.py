"""Pictures of a run, as matplotlib figures.

A figure is written twice: as PNG, and as SVG that uses the color variables of the page, for its light and its dark
scheme. Names of classes are drawn as plain text, without mathematics (`$`). Characters that no font contains are drawn
as boxes.
"""

import io
import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from torchlight.report.safe_text import shorten, to_html
from torchlight.system.files import atomic

COLORS = {
    "ink": "#1c2430",
    "muted": "#697485",
    "line": "#dde2ea",
    "blue": "#2463c9",
    "orange": "#d9620f",
    "green": "#2b8a57",
}
BLUE, ORANGE = (
    (0.231, 0.51, 0.965),
    (0.949, 0.486, 0.133),
)  # of heat maps: readable on white and on black
STYLE = {
    "text.parse_math": False,
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
    "font.size": 9,
    "svg.fonttype": "none",
    "text.color": COLORS["ink"],
    "axes.labelcolor": COLORS["muted"],
    "axes.edgecolor": COLORS["line"],
    "xtick.color": COLORS["muted"],
    "ytick.color": COLORS["muted"],
    "axes.facecolor": "none",
    "legend.frameon": False,
}
MAX_CLASSES = 1000  # with more classes, their names do not fit into a picture
numbers = itertools.count()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; width and height in inches."""
    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def drawing(**style: str) -> Iterator[None]:
    """Apply the style of all pictures, and suppress warnings about missing glyphs, which are drawn as boxes."""
    with rc_context(STYLE | style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from|Matplotlib currently does not support .* natively")
        yield


def to_svg(figure: Figure, title: str) -> str:
    """The figure as inline SVG: text stays text, the background is transparent, and COLORS become variables of the page
    (`var(--ink)`, ...)."""
    buffer = io.StringIO()
    hidden = {"Date": None, "Creator": None, "Type": None, "Format": None}
    with drawing(**{"svg.hashsalt": f"picture{next(numbers)}"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=hidden)
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    prefix = f"p{next(numbers)}_"  # ids are unique within a figure; the prefix makes them unique within the page
    svg = re.sub(
        r"<[^>]*>", lambda tag: adapt_tag(tag[0], prefix), svg
    )  # text between tags is not changed, because it may be a name
    return svg.replace("<svg ", f'<svg role="img" aria-label="{to_html(title)}" ', 1)


def adapt_tag(tag: str, prefix: str) -> str:
    """One SVG tag with prefixed ids, and with the colors and the font of the page."""
    tag = re.sub(r'\bid="', f'id="{prefix}', tag)
    tag = re.sub(r'(url\(|href="|href=")#', lambda found: f"{found[1]}#{prefix}", tag)
    for name, color in COLORS.items():
        tag = tag.replace(color, f"var(--{name})")
    return re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", tag)


def to_png(figure: Figure, path: Path) -> None:
    """Write the figure on a white background; raises OSError."""
    with drawing(), atomic(path) as file:
        figure.savefig(file, format="png", dpi=150, facecolor="white")


def curves(lines: Sequence[dict], suffixes: Sequence[str], ylabel: str) -> Figure | None:
    """All recorded quantities whose names end with one of `suffixes`, over the epochs; None if there are none."""
    names = {"lr": "learning rate"}
    keys = [
        k
        for k in dict.fromkeys(k for line in lines for k in line)
        if k.endswith(tuple(suffixes)) and not k.startswith("best_")
    ]
    if not keys:
        return None
    with rc_context(STYLE):
        figure = new_figure(4.2, 2.7)
        axes = figure.add_subplot()
        tones = itertools.cycle(COLORS[c] for c in ("orange", "blue", "green", "muted", "ink"))
        for key in keys:
            points = [(line["epoch"], line[key]) for line in lines if line.get(key) is not None] or [(np.nan, np.nan)]
            marker = "o" if len(points) < 12 else None
            axes.plot(
                *zip(*points, strict=True),
                color=next(tones),
                marker=marker,
                ms=3,
                lw=1.6,
                label=shorten(names.get(key, key.replace("_", " ")), 26),
            )
        axes.set(xlabel="epoch", ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.grid(axis="y", color=COLORS["line"], lw=0.7)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.2, columnspacing=1.2, fontsize=8.5)
    return figure


def panels(lines: Mapping[tuple[str, str], Sequence[tuple[float, float]]], ylabel: str) -> Figure:
    """One small plot for each {(title, label of the x axis): points}, side by side with the same y axis."""
    with rc_context(STYLE):
        figure = new_figure(2.4 * len(lines) + 0.4, 2.4)
        grid = figure.subplots(1, len(lines), sharey=True, squeeze=False)[0]
        for axes, ((title, xlabel), points) in zip(grid, lines.items(), strict=True):
            axes.plot(*zip(*points, strict=True), color=COLORS["blue"], marker="o")
            axes.set_title(shorten(title, 40), fontsize=9)
            axes.set_xlabel(shorten(xlabel, 40))
            axes.grid(color=COLORS["line"], linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        grid[0].set_ylabel(ylabel)
        grid[0].set_ylim(bottom=0)
    return figure


def class_bars(accuracy: np.ndarray, counts: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Accuracy of each class in percent, lowest first, at most 1000 classes; classes without clips are left out."""
    order = [i for i in np.argsort(accuracy, kind="stable") if counts[i] > 0][:MAX_CLASSES]
    with rc_context(STYLE):
        figure = new_figure(4.4, 0.45 + 0.23 * len(order))
        axes = figure.add_subplot()
        places = np.arange(len(order))
        axes.barh(places, 100, color=COLORS["line"], height=0.62, alpha=0.55)
        axes.barh(places, accuracy[order], color=COLORS["blue"], height=0.62)
        for place, i in zip(places, order, strict=True):
            axes.text(102, place, f"{accuracy[i]:.0f}", va="center", color=COLORS["ink"])
        axes.set(xlim=(0, 112), ylim=(len(order) - 0.4, -0.6), xticks=[])
        axes.set_yticks(places, [shorten(class_names[i], 26) for i in order], color=COLORS["ink"])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def confusion(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """The confusion matrix, with rows as shares of the true class; with counts if there are at most 20 classes."""
    n = len(matrix)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    many = n > 20
    size, font = (min(2.6 + 0.115 * n, 24), min(6, 700 / n)) if many else (2.2 + 0.33 * n, 9)
    with rc_context(STYLE):
        figure = new_figure(size, size)
        axes = figure.add_subplot()
        tint(axes, np.sqrt(share), np.array(BLUE))  # the square root makes rare confusions visible
        names = [shorten(name, 32) for name in class_names]
        if n <= MAX_CLASSES:
            axes.set_xticks(range(n), names, rotation=90, fontsize=font)
            axes.set_yticks(range(n), names, fontsize=font)
        axes.set(xlabel="predicted", ylabel="true")
        for i, j in np.argwhere(matrix > 0) if not many else ():
            color = "#ffffff" if share[i, j] > 0.3 else COLORS["ink"]
            axes.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=8, color=color)
    return figure


def tint(axes: Axes, strength: np.ndarray, color: np.ndarray) -> None:
    """A heat map: `color`, (3,) or (..., 3), with the opacity `strength`, (...), from 0 to 1."""
    image = np.concatenate([np.broadcast_to(color, (*strength.shape, 3)), strength[..., None]], -1)
    axes.imshow((255 * image).round().astype(np.uint8), interpolation="none")  # twice as fast as floats
    axes.tick_params(length=0)
    axes.spines[:].set_color(COLORS["line"])


def adjacency(matrices: np.ndarray) -> Figure:
    """The learned matrices (K, V, V) of a block, at most 12: blue above 0, orange below, opaque at the largest absolute
    value."""
    matrices = matrices[:12]
    columns = min(len(matrices), 3)
    rows = -(-len(matrices) // columns)
    largest = max(float(np.abs(matrices).max()), 1e-12)
    with rc_context(STYLE):
        figure = new_figure(1.45 * columns, 1.6 * rows)
        for k, matrix in enumerate(matrices):
            axes = figure.add_subplot(rows, columns, k + 1)
            tint(axes, np.abs(matrix) / largest, np.where(matrix[..., None] > 0, BLUE, ORANGE))
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"subset {k + 1}", fontsize=8, color=COLORS["muted"])
        figure.supxlabel(f"full color: {largest:.3g}", fontsize=8, color=COLORS["muted"])
    return figure


def skeleton_strip(poses: np.ndarray, parents: Sequence[int], left: Sequence[int], right: Sequence[int]) -> Figure:
    """Poses (T, M, V, 2) side by side, with the second coordinate pointing up; left limbs are blue, right limbs orange.
    Empty person slots are not drawn."""
    T = len(poses)
    seen = np.abs(poses).reshape(T, poses.shape[1], -1).max(2) > 0
    points = poses[seen].reshape(-1, 2) if seen.any() else np.zeros((1, 2))
    low, high = np.percentile(points, 1, axis=0), np.percentile(points, 99, axis=0)
    step = max(1.15 * (high - low)[0], 0.5 * (high - low)[1], 1e-6)
    tone = np.array(["muted"] * len(parents), object)
    tone[list(left)], tone[list(right)] = "blue", "orange"
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.35))
        axes = figure.add_axes((0, 0, 1, 1))
        for t, m in np.argwhere(seen):
            x = poses[t, m] + [t * step, 0]
            bones = [(x[v], x[p]) for v, p in enumerate(parents) if v != p]
            tones = [COLORS[tone[v]] for v, p in enumerate(parents) if v != p]
            axes.add_collection(
                LineCollection(bones, colors=tones, linewidths=2.0, capstyle="round", alpha=1.0 if m == 0 else 0.55)
            )
        margin = 0.08 * max(high - low)
        axes.set(
            xlim=(low[0] - margin, high[0] + (T - 1) * step + margin),
            ylim=(low[1] - margin, high[1] + margin),
            aspect="equal",
        )
        axes.set_axis_off()
    return figure
