"""The catalog of published checkpoints.

python -m torchlight.zoo list ctrgcn ntu120
python -m torchlight.zoo show ctrgcn_ntu120_xsub_3d_j
python -m torchlight.zoo get ctrgcn_ntu120_xsub_3d_j
python -m torchlight.zoo page
"""

import logging
import sys

from torchlight.system.command import Parser, run
from torchlight.system.text import counted
from torchlight.zoo import catalog, download, page


def act(argv: list[str]) -> int:
    """Run one command line."""
    parser = Parser(prog="python -m torchlight.zoo", description="Published checkpoints.")
    parser.add_argument("command", choices=("list", "show", "get", "page"), help="page writes docs/zoo.md")
    parser.add_argument("words", nargs="*", help="list: words to search for; show, get: names")
    args = parser.parse_args(argv)
    if (args.command in ("show", "get")) != bool(args.words) and args.command != "list":
        raise ValueError(f"{args.command}: expected {'no words' if args.words else 'names of checkpoints, got none'}")
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if args.command == "list":
        list_entries(args.words)
    elif args.command == "page":
        page.write()
    for name in args.words if args.command in ("show", "get") else ():
        entry = catalog.find(name)
        if args.command == "get":
            print(download.local_file(catalog.PREFIX + entry.name))
        else:
            show(entry)
    return 0


def list_entries(words: list[str]) -> None:
    """Print name and published accuracy of the entries that match all words; raises ValueError if there are none."""
    found = catalog.search(words)
    width = max(len(entry.name) for entry in found)
    for entry in found:
        place = "in weights/" if entry.file.is_file() else "" if entry.is_direct else "by hand"
        print(f"{entry.name:{width}}  {entry.top1 or '-':>6} %  {place}".rstrip())
    print(counted(len(found), "checkpoint"))


def show(entry: catalog.Entry) -> None:
    """Print the row of an entry, and the commands that test and fuse it."""
    for key, value in vars(entry).items():
        if value:
            print(f"{key + ':':9} {value}")
    for note in catalog.notes(entry):
        print(f"{'note:':9} {note}")
    print(f"{'test:':9} python main.py --phase test --weights {catalog.PREFIX}{entry.name} --save-score true")
    if preset := catalog.preset(entry):
        print(f"{'fuse:':9} python ensemble.py --dataset zoo --model {entry.experiment} --preset {preset}")


if __name__ == "__main__":
    sys.exit(run(act))
