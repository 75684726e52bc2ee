"""Look at a clip of a store: a moving skeleton (.gif) or a strip of frames (.png).

python data/show.py data/NW-UCLA/ctrgcn.clips a01_s01_e00_v01 --out clip.gif
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter

from feeders.clips import ClipStore
from graph.skeleton import find_skeleton
from torchlight.system.text import nearest

COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red")


def find(store: ClipStore, name: str) -> int:
    """Number of the clip of that name. Raises ValueError with the nearest names."""
    found = np.flatnonzero(store.name == name)
    if len(found) == 0:
        raise ValueError(f"{store.path}: unknown clip {name!r}; {nearest(name, store.name.tolist())}")
    return int(found[0])


def picture(clip: np.ndarray, up: str) -> np.ndarray:
    """A clip (C, T, V, M) seen from the front, (2, T, V, M); `up` is the axis that points up: y, -y or z."""
    points = clip[[0, "xyz".index(up[-1])]]
    points[1] *= -1 if up.startswith("-") else 1
    return points


def draw(axes: plt.Axes, points: np.ndarray, bones: tuple[tuple[int, int], ...]) -> None:
    """Draw one frame, points (2, V, M), of every person that is not all zero."""
    for m in range(points.shape[2]):
        x, y = points[:, :, m]
        seen = (x != 0) | (y != 0)
        for child, parent in bones:
            if seen[child] and seen[parent]:
                axes.plot(x[[child, parent]], y[[child, parent]], color=COLOURS[m % len(COLOURS)], linewidth=2)
        axes.plot(x[seen], y[seen], ".", color="black", markersize=3)


def show(store: ClipStore, i: int, out: Path, fps: int = 15, strip: int = 8) -> None:
    """Write clip i as a moving .gif, or as a .png with `strip` of its frames."""
    bones = find_skeleton(store.manifest["skeleton"]).inward
    points = picture(store.clip(i), store.manifest["up"])
    T = points.shape[1]
    low, high = _limits(points)

    def frame(axes: plt.Axes, t: int) -> None:
        axes.clear()
        draw(axes, points[:, t], bones)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xticks=[], yticks=[])
        axes.set_title(f"frame {t}", fontsize=8)

    title = f"{store.name[i]}: {store.manifest['class_names'][store.label[i]]}"
    if out.suffix == ".gif":
        figure, axes = plt.subplots(figsize=(4, 4.4))
        figure.suptitle(title, fontsize=10)
        FuncAnimation(figure, lambda t: frame(axes, t), frames=T).save(out, writer=PillowWriter(fps=fps))
    else:
        figure, row = plt.subplots(1, strip, figsize=(1.8 * strip, 2.8), squeeze=False)
        figure.suptitle(title, fontsize=10)
        for axes, t in zip(row[0], np.linspace(0, T - 1, strip).astype(int), strict=True):
            frame(axes, t)
        figure.savefig(out, dpi=110)
    plt.close(figure)


def _limits(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a square around all joints that are seen, with a margin."""
    seen = points[:, (points != 0).any(axis=0)]
    if seen.size == 0:
        return np.full(2, -1.0), np.full(2, 1.0)
    centre, half = (seen.min(1) + seen.max(1)) / 2, (seen.max(1) - seen.min(1)).max() * 0.55 + 1e-6
    return centre - half, centre + half


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="a clip store")
    parser.add_argument("name", help="name of a clip")
    parser.add_argument("--out", type=Path, default=Path("clip.gif"), help=".gif or .png (%(default)s)")
    parser.add_argument("--fps", type=int, default=15, help="frames per second of the .gif (%(default)s)")
    args = parser.parse_args(argv)
    try:
        if args.out.suffix not in (".gif", ".png"):
            raise ValueError(f"--out {args.out}: found {args.out.suffix or 'no suffix'}; allowed are .gif and .png")
        store = ClipStore(args.store)
        show(store, find(store, args.name), args.out, args.fps)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
