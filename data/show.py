"""Draw a clip of a store: a moving skeleton (.gif), a strip of frames (.png), or a page with several clips (.html).

python data/show.py data/NW-UCLA/ctrgcn.clips a01_s01_e00_v01 --out clip.gif
python data/show.py data/NW-UCLA/ctrgcn.clips a01_s01_e00_v01 a02_s01_e00_v01 --out clips.html
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from data.cli import program, say, whole_number
from data.recipes import Recipe
from feeders.clip_store import ClipStore
from graph.skeleton import find_skeleton
from torchlight.system.clip_view import ClipView, render, to_viewer, without_empty, write_page
from torchlight.system.command import Parser
from torchlight.system.paths import locate, set_data_root
from torchlight.system.text import nearest, printable, quote


def find(store: ClipStore, name: str) -> int:
    """The number of the clip with this name; raises ValueError that names similar clips."""
    found = np.flatnonzero(store.name == name)
    if len(found) == 0:
        hint = printable(nearest(name, store.name.tolist()))
        raise ValueError(f"{store.path}: unknown clip {quote(name)}; {hint}")
    return int(found[0])


def view_of(store: ClipStore, i: int) -> ClipView:
    """Clip i as a view with the name of its class."""
    skeleton = find_skeleton(store.manifest["skeleton"])
    recipe = Recipe(skeleton, store.manifest)
    data = store.clip(i).transpose(1, 3, 2, 0)  # (T, M, V, C)
    points = without_empty(to_viewer(data, store.manifest["up"], 2 if recipe.body.is_flat else 3))
    name = f"{store.name[i]}: {store.manifest['class_names'][store.label[i]]}"
    return ClipView(name, points, skeleton.inward, recipe.rate, skeleton.left, skeleton.right)


def main(argv: list[str] | None = None) -> int:
    """Draw a clip; the exit code of the process."""
    return program(_act, argv)


def _act(argv: list[str]) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="a clip store")
    parser.add_argument("name", nargs="+", help="name of a clip; several for .html")
    parser.option("data-root", type=Path, metavar="DIR", help="folder of prepared data ($SKELETON_DATA, else data)")
    parser.option("out", type=Path, default=Path("clip.gif"), help=".gif, .png or .html (%(default)s)")
    parser.option("fps", type=whole_number(1, 50), default=15, help="frames per second of the .gif (%(default)s)")
    args = parser.parse_args(argv)
    if args.out.suffix not in (".gif", ".png", ".html"):
        raise ValueError(f"--out: expected a file name ending with .gif, .png or .html, got {quote(str(args.out))}")
    if len(args.name) > 1 and args.out.suffix != ".html":
        raise ValueError(f"--out: expected a file name ending with .html for several clips, got {quote(str(args.out))}")
    set_data_root(args.data_root)
    store = ClipStore(locate(args.store))
    store.require("skeleton", "up", "class_names")
    clips = [find(store, name) for name in args.name]
    if args.out.suffix == ".html":
        write_page(args.out, args.name[0], render([view_of(store, clip) for clip in clips], play=True))
    else:
        from data.pictures import show  # matplotlib takes a second to import; errors above are reported without it

        show(store, clips[0], args.out, args.fps)
    say(f"wrote {args.out}")


if __name__ == "__main__":
    sys.exit(main())
