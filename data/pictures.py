"""Drawing clips: a moving skeleton (.gif) or a strip of frames (.png)."""

from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from data.poses.recording import Recording
from data.recipes import Recipe
from feeders.clip_store import ClipStore
from graph.skeleton import find_skeleton
from torchlight.system.clip_view import to_viewer
from torchlight.system.files import atomic
from torchlight.system.text import printable

GIF_RATE, MOST_FRAMES = 15, 900  # frames per second of a .gif, and its maximum number of frames
COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red")


def project(clip: np.ndarray, up: str, dims: int) -> np.ndarray:
    """A front view of a clip, not mirrored: (C, T, V, M) -> (2, T, V, M). up, dims: see `to_viewer`."""
    return np.moveaxis(to_viewer(np.moveaxis(clip, 0, -1), up, dims)[..., :2], -1, 0)


def draw(axes: plt.Axes, points: np.ndarray, bones: tuple[tuple[int, int], ...]) -> None:
    """Draw one frame, points (2, V, M), of every person that is not all zero."""
    for m in range(points.shape[2]):
        x, y = points[:, :, m]
        seen = (x != 0) | (y != 0)
        for child, parent in bones:
            if seen[child] and seen[parent]:
                axes.plot(x[[child, parent]], y[[child, parent]], color=COLORS[m % len(COLORS)], linewidth=2)
        axes.plot(x[seen], y[seen], ".", color="black", markersize=3)


def show(store: ClipStore, i: int, out: Path, fps: int = 15, strip: int = 8) -> None:
    """Write clip i as a moving .gif, or as a .png with `strip` of its frames."""
    skeleton = find_skeleton(store.manifest["skeleton"])
    bones, flat = skeleton.inward, Recipe(skeleton, store.manifest).body.is_flat
    points = project(store.clip(i), store.manifest["up"], 2 if flat else 3)
    T = points.shape[1]
    low, high = _limits(points)

    def draw_frame(axes: plt.Axes, t: int) -> None:
        axes.clear()
        draw(axes, points[:, t], bones)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xticks=[], yticks=[])
        axes.set_title(f"frame {t}", fontsize=8)

    moving = out.suffix == ".gif"
    columns = 1 if moving else strip
    figure, row = plt.subplots(1, columns, figsize=(4, 4.4) if moving else (1.8 * strip, 2.8), squeeze=False)
    try:
        title = f"{store.name[i]}: {store.manifest['class_names'][store.label[i]]}"
        figure.suptitle(printable(title), fontsize=10, parse_math=False)  # a $ in a name is not a formula
        if moving:
            _write_gif(figure, lambda t: draw_frame(row[0, 0], t), T, out, fps)
            return
        for axes, t in zip(row[0], np.linspace(0, T - 1, strip).astype(int), strict=True):
            draw_frame(axes, t)
        with atomic(out) as file:
            figure.savefig(file, format="png", dpi=110)
    finally:
        plt.close(figure)


def _write_gif(figure: plt.Figure, draw_frame: Callable[[int], None], count: int, out: Path, fps: int) -> None:
    def picture(t: int) -> np.ndarray:
        draw_frame(t)
        figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()

    # With one palette for all frames, a GIF stores only the changes between two frames, one byte per pixel.
    samples = np.concatenate([picture(t) for t in range(0, count, max(1, count // 8))])
    palette = Image.fromarray(samples).quantize(32)
    frames = [Image.fromarray(picture(t)).quantize(palette=palette, dither=Image.Dither.NONE) for t in range(count)]
    with atomic(out) as file:
        frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:], duration=1000 // fps, loop=0)


def _limits(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a square around all joints that are not zero, with a margin."""
    seen = points[:, (points != 0).any(axis=0)]
    if seen.size == 0:
        return np.full(2, -1.0), np.full(2, 1.0)
    center, half = (seen.min(1) + seen.max(1)) / 2, (seen.max(1) - seen.min(1)).max() * 0.55 + 1e-6
    return center - half, center + half


def animate(
    recording: Recording, bones: tuple[tuple[int, int], ...], caption: Callable[[float], str], out: Path
) -> None:
    """Write a recording as a moving .gif, each person in its own color. caption: time in seconds -> text."""
    flat = recording.facts.axes == "image"
    points = np.nan_to_num(recording.points[..., :2]).transpose(3, 1, 2, 0)  # (2, T, V, M)
    seen = (points != 0).any(0)
    points[0] *= 1 if flat else -1  # x points to the sensor's left, which is the right side of its picture
    points[1] *= -1 if flat else 1
    low, high = _limits(points * seen)
    rate = recording.facts.rate or 30.0
    step = max(1, round(rate / GIF_RATE), -(-points.shape[1] // MOST_FRAMES))
    times = range(0, points.shape[1], step)
    figure, axes = plt.subplots(figsize=(4, 4.4))

    def draw_frame(number: int) -> None:
        t = times[number]
        axes.clear()
        draw(axes, points[:, t], bones)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xticks=[], yticks=[])
        axes.set_title(
            "\n".join([f"{t / rate:.1f} s", *map(printable, caption(t / rate).split("\n"))]),
            fontsize=9,
            parse_math=False,
        )

    try:
        _write_gif(figure, draw_frame, len(times), out, max(1, round(rate / step)))
    finally:
        plt.close(figure)
