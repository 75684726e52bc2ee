"""Pictures of a run, as matplotlib figures: one drawing makes the PNG and the SVG whose colours follow the page, light or dark."""

import io
import itertools
import re
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from torchlight.system.files import atomic

COLOURS = {
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
)  # in heat maps: readable on white and on black, so they need no second version
STYLE = {
    "font.size": 9,
    "svg.fonttype": "none",
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.edgecolor": COLOURS["line"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "axes.facecolor": "none",
    "legend.frameon": False,
}
numbers = itertools.count()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure, title: str) -> str:
    """The figure as inline SVG: text as text, no background, and the colours of COLOURS as variables of the page (`var(--ink)` ...)."""
    buffer = io.StringIO()
    with rc_context(STYLE | {"svg.hashsalt": f"picture{next(numbers)}"}):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Type": None, "Format": None},
        )
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    prefix = f"p{next(numbers)}_"  # ids are unique in a figure, and now in the page
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'(url\(|href="|href=")#', lambda found: f"{found[1]}#{prefix}", svg)
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    label = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def to_png(figure: Figure, path) -> None:
    """Write the figure on white."""
    with rc_context(STYLE), atomic(path) as file:
        figure.savefig(file, format="png", dpi=150, facecolor="white")


def curves(lines: Sequence[dict], suffixes: Sequence[str], ylabel: str) -> Figure | None:
    """Every recorded quantity whose name ends like one of `suffixes`, over the epochs; None where there is none."""
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
        tones = itertools.cycle(COLOURS[c] for c in ("orange", "blue", "green", "muted", "ink"))
        for key in keys:
            points = [(line["epoch"], line[key]) for line in lines if line.get(key) is not None]
            marker = "o" if len(points) < 12 else None
            axes.plot(
                *zip(*points, strict=True),
                color=next(tones),
                marker=marker,
                ms=3,
                lw=1.6,
                label=names.get(key, key.replace("_", " ")),
            )
        axes.set(xlabel="epoch", ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.grid(axis="y", color=COLOURS["line"], lw=0.7)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.2, columnspacing=1.2, fontsize=8.5)
    return figure


def class_bars(accuracy: np.ndarray, counts: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Accuracy of every class in percent, the weakest first; classes without clips are left out."""
    order = [i for i in np.argsort(accuracy, kind="stable") if counts[i] > 0]
    with rc_context(STYLE):
        figure = new_figure(4.4, 0.45 + 0.23 * len(order))
        axes = figure.add_subplot()
        places = np.arange(len(order))
        axes.barh(places, 100, color=COLOURS["line"], height=0.62, alpha=0.55)
        axes.barh(places, accuracy[order], color=COLOURS["blue"], height=0.62)
        for place, i in zip(places, order, strict=True):
            axes.text(102, place, f"{accuracy[i]:.0f}", va="center", color=COLOURS["ink"])
        axes.set(xlim=(0, 112), ylim=(len(order) - 0.4, -0.6), xticks=[])
        axes.set_yticks(places, [shorten(class_names[i]) for i in order], color=COLOURS["ink"])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def confusion(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """The confusion matrix, each row as shares of the true class; counts where there is room for them."""
    n = len(matrix)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    many = n > 20
    size, font = (min(2.6 + 0.115 * n, 24), min(6, 700 / n)) if many else (2.2 + 0.33 * n, 9)
    with rc_context(STYLE):
        figure = new_figure(size, size)
        axes = figure.add_subplot()
        tint(axes, np.sqrt(share), np.array(BLUE))  # the root, so that rare confusions show too
        names = [shorten(name, 32) for name in class_names]
        axes.set_xticks(range(n), names, rotation=90, fontsize=font)
        axes.set_yticks(range(n), names, fontsize=font)
        axes.set(xlabel="predicted", ylabel="true")
        for i, j in np.argwhere(matrix > 0) if not many else ():
            colour = "#ffffff" if share[i, j] > 0.3 else COLOURS["ink"]
            axes.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=8, color=colour)
    return figure


def tint(axes: Axes, strength: np.ndarray, colour: np.ndarray) -> None:
    """A heat map of one colour (..., 3) that fades into the page; strength 0 .. 1."""
    image = np.concatenate([np.broadcast_to(colour, (*strength.shape, 3)), strength[..., None]], -1)
    axes.imshow(image, interpolation="none")
    axes.tick_params(length=0)
    axes.spines[:].set_color(COLOURS["line"])


def adjacency(matrices: np.ndarray) -> Figure:
    """The K learned adjacencies of a block (K, V, V): blue above zero, orange below, full colour at the largest magnitude."""
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
            axes.set_title(f"subset {k + 1}", fontsize=8, color=COLOURS["muted"])
        figure.supxlabel(f"full colour: {largest:.3g}", fontsize=8, color=COLOURS["muted"])
    return figure


def skeleton_strip(poses: np.ndarray, parents: Sequence[int], left: Sequence[int], right: Sequence[int]) -> Figure:
    """A clip as poses in a row: (T, M, V, 2) with the second axis up; left limbs blue, right ones orange. Empty persons are not drawn."""
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
            tones = [COLOURS[tone[v]] for v, p in enumerate(parents) if v != p]
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


def shorten(text: str, length: int = 26) -> str:
    """At most `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "\u2026"
