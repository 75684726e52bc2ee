"""Draw a clip of a store: a moving skeleton (.gif) or a strip of frames (.png).

python data/show.py data/NW-UCLA/ctrgcn.clips a01_s01_e00_v01 --out clip.gif
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from data.cli import program, say, whole_number
from feeders.clip_store import ClipStore
from torchlight.system.command import Parser
from torchlight.system.text import nearest, printable, quote


def find(store: ClipStore, name: str) -> int:
    """Number of the clip of that name. Raises ValueError with the nearest names."""
    found = np.flatnonzero(store.name == name)
    if len(found) == 0:
        hint = printable(nearest(name, store.name.tolist()))
        raise ValueError(f"{store.path}: unknown clip {quote(name)}; {hint}")
    return int(found[0])


def main(argv: list[str] | None = None) -> int:
    """Draw a clip; the exit code of the process."""
    return program(_act, argv)


def _act(argv: list[str]) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="a clip store")
    parser.add_argument("name", help="name of a clip")
    parser.option("out", type=Path, default=Path("clip.gif"), help=".gif or .png (%(default)s)")
    parser.option("fps", type=whole_number(1, 50), default=15, help="frames per second of the .gif (%(default)s)")
    args = parser.parse_args(argv)
    if args.out.suffix not in (".gif", ".png"):
        raise ValueError(f"--out: expected a file name ending with .gif or .png, got {quote(str(args.out))}")
    store = ClipStore(args.store)
    clip = find(store, args.name)
    from data.pictures import show  # matplotlib takes a second to import; a mistake above is reported before

    show(store, clip, args.out, args.fps)
    say(f"wrote {args.out}")


if __name__ == "__main__":
    sys.exit(main())
