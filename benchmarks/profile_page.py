"""Where the time goes: the part of docs/performance.md that shows the profiles, as tables and as a picture."""

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.markdown import table
from benchmarks.measure import PLAIN
from torchlight.report.pictures import COLORS, STYLE, new_figure

ARITHMETIC = ("convolution", "matrix product")
WORKS = ("training step", "inference")
TONES = (
    ("blue", 1),
    ("blue", 0.5),
    ("orange", 1),
    ("orange", 0.5),
    ("muted", 1),
    ("green", 1),
    ("muted", 0.4),
)  # of the kinds
SHOWN = "CTR-GCN"  # the network whose every side is shown; of the others, ours

TEXT = """Milliseconds of a call by kind of operation (PyTorch's profiler). *New pages* are those that a call gets from the system, with the
processor time of a call in the system, all threads together: a part of the other columns, nearly all of it for these pages."""
BOUND = """Multiply-adds of a call as its operations count them, and how long they would take at the rate of this machine, the fastest that
a large 1x1 convolution or matrix product reached in the same run ({:,.0f} G/s; the matrix product by itself {:,.0f} G/s); beside it the
share of that rate that convolutions and matrix products of these shapes reach. *At most* is the factor against the literal network if
all else took no time."""


def section(found: dict, picture: str) -> list[str]:
    """The lines of one machine, none without profiles."""
    profiles = profiles_of(found)
    if not profiles:
        return []
    lines = ["### Where the time goes", "", TEXT]
    if SHOWN in profiles:
        lines += ["", f"![{SHOWN}, milliseconds by kind of operation]({picture})"]
    first = next(iter(profiles.values()))
    header = ("network", "side", "together", *first[WORKS[0]]["literal"]["shares"], "new pages")
    for what in WORKS:
        lines += ["", f"#### {what.capitalize()}", "", *table(header, times(profiles, what))]
    header = ("network", "", "G multiply-adds", "at the machine's rate, ms", "measured, ms", "of the machine's rate")
    rows = table((*header, *(f"{kind}s" for kind in ARITHMETIC), "at most"), bounds(profiles))
    return [
        *lines,
        "",
        "#### Against the machine's rate",
        "",
        BOUND.format(first["rate"] / 1e9, first["product"] / 1e9),
        "",
        *rows,
    ]


def profiles_of(found: dict) -> dict[str, dict]:
    return {name: entry["profile"] for name, entry in found["networks"].items() if "profile" in entry}


def sides(network: str, result: dict) -> list[str]:
    """From the slowest to the fastest."""
    shown = (side for side in dict.fromkeys((PLAIN, "literal", *result)) if side in result)
    return [side for side in shown if network == SHOWN or "literal" not in side]


def times(profiles: dict[str, dict], what: str) -> list[tuple[str, ...]]:
    rows = []
    for name, found in profiles.items():
        for side in sides(name, found[what]):
            value = found[what][side]
            system = f"{value['new_pages']:,.0f} pages, {1e3 * value['kernel']:.0f} ms"
            cells = (
                f"{1e3 * share * value['seconds']:.0f} ({100 * share:.0f} %)" for share in value["shares"].values()
            )
            rows.append((name, side, f"{1e3 * value['seconds']:.0f}", *cells, system))
    return rows


def bounds(profiles: dict[str, dict]) -> list[tuple[str, ...]]:
    rows = []
    for name, found in profiles.items():
        for what, side in [(work, side) for work in WORKS for side in sides(name, found[work])]:
            value, counts = found[what][side], found[what][side]["multiply_adds"]
            fewest, taken = sum(counts.values()) / found["rate"], value["seconds"]
            busy = [value["shares"][kind] * taken for kind in ARITHMETIC]
            cells = [
                f"{sum(counts.values()) / 1e9:.1f}",
                f"{1e3 * fewest:.0f}",
                f"{1e3 * taken:.0f}",
                f"{100 * fewest / taken:.0f} %",
            ]
            for kind, seconds in zip(ARITHMETIC, busy, strict=True):
                cells.append(f"{100 * counts.get(kind, 0) / found['rate'] / seconds:.0f} %" if seconds else "")
            rows.append((name, f"{what}, {side}", *cells, f"{found[what]['literal']['seconds'] / sum(busy):.2f}"))
    return rows


def picture(found: dict) -> Figure | None:
    """CTR-GCN's sides as bars of milliseconds by kind, with what their arithmetic takes at the machine's rate; None without a profile."""
    profile = profiles_of(found).get(SHOWN)
    if not profile:
        return None
    with rc_context(STYLE):
        figure = new_figure(7.2, 3.2)
        for axes, what in zip(figure.subplots(2, 1), WORKS, strict=True):
            bars(axes, profile[what], profile["rate"])
            axes.set_title(f"{SHOWN}, {what}", loc="left", fontsize=9)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=4, handlelength=1, columnspacing=1.2, fontsize=8)
    return figure


def bars(axes: Axes, result: dict, rate: float) -> None:
    """A bar for each side."""
    shown = sides(SHOWN, result)
    places, ends = np.arange(len(shown)), np.zeros(len(shown))
    for kind, (colour, alpha) in zip(result[shown[0]]["shares"], TONES, strict=True):
        widths = [1e3 * result[side]["shares"][kind] * result[side]["seconds"] for side in shown]
        axes.barh(places, widths, left=ends, height=0.62, color=COLORS[colour], alpha=alpha, lw=0, label=kind)
        ends += widths
    for place, end in zip(places, ends, strict=True):
        axes.text(end, place, f" {end:.0f} ms", va="center", fontsize=8)
    fewest = [1e3 * sum(result[side]["multiply_adds"].values()) / rate for side in shown]
    axes.vlines(
        fewest,
        places - 0.4,
        places + 0.4,
        color=COLORS["ink"],
        lw=1.2,
        ls=":",
        label="arithmetic at the machine's rate",
    )
    axes.set_yticks(places, shown, color=COLORS["ink"])
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
