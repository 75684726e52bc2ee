"""docs/zoo.md: one table per dataset, from config/zoo.csv.

python -m torchlight.zoo page
"""

from itertools import groupby

from torchlight.system.files import atomic
from torchlight.system.paths import ROOT
from torchlight.system.text import markdown_table
from torchlight.zoo.catalog import Entry, entries

PAGE, TEMPLATE = ROOT / "docs/zoo.md", ROOT / "torchlight/zoo/page.md"
STREAMS = {"j": "joint", "b": "bone", "k": "K-bone", "jm": "joint motion", "bm": "bone motion", "limb": "limb"}
DATASETS = {
    "ntu60": "NTU RGB+D 60",
    "ntu120": "NTU RGB+D 120",
    "k400": "Kinetics-400",
    "finegym": "FineGYM",
    "pku-mmd": "PKU-MMD",
    "uav-human": "UAV-Human",
    "babel60": "BABEL-60",
    "babel120": "BABEL-120",
    "ucf101": "UCF101",
    "hmdb51": "HMDB51",
    "diving48": "Diving48",
}
POSES = {"3d": "3-D", "hrnet2d": "2-D (HRNet)", "2d": "2-D"}
SOURCES = {
    "pyskl": "https://github.com/kennymckormick/pyskl/blob/main/",
    "mmaction2-1.x": "https://github.com/open-mmlab/mmaction2/blob/v1.2.0/",
    "mmaction2-0.x": "https://github.com/open-mmlab/mmaction2/blob/v0.24.1/",
    "protogcn": "https://github.com/firework8/ProtoGCN/blob/main/",
    "aclnet": "https://github.com/firework8/ACLNet/blob/main/",
    "skeletonagent": "https://github.com/firework8/SkeletonAgent/blob/main/",
}


def order(entry: Entry) -> tuple:
    """Sort key: split and kind of poses, then the entries of a row, joints first."""
    return entry.split, entry.pose, entry.network, entry.experiment, list(STREAMS).index(entry.stream)


def make_page() -> str:
    """The text of docs/zoo.md."""
    found = list(entries().values())
    parts = [TEMPLATE.read_text().replace("{{count}}", str(len(found))).rstrip()]
    for dataset, title in DATASETS.items():
        chosen = sorted((e for e in found if e.dataset == dataset), key=order)
        parts += [f"## {title}", table(chosen)]
    return "\n\n".join(parts) + "\n"


def table(found: list[Entry]) -> str:
    """A table with one line per experiment and one column per stream that occurs."""
    streams = [stream for stream in STREAMS if any(entry.stream == stream for entry in found)]
    lines = []
    for name, group in groupby(found, key=lambda entry: entry.experiment):
        by_stream = {entry.stream: entry for entry in group}
        first = next(iter(by_stream.values()))
        cells = [accuracy(by_stream[stream]) if stream in by_stream else "" for stream in streams]
        lines.append([f"`{name}`", first.split, POSES[first.pose], *cells, source(first), first.license])
    head = ["name", "split", "poses", *(STREAMS[stream] for stream in streams), "configuration", "license"]
    return markdown_table(head, lines)


def accuracy(entry: Entry) -> str:
    """The published accuracy in percent, or a dash if there is none, as a link to the weights."""
    return f"[{entry.top1 or '-'}]({entry.url})"


def source(entry: Entry) -> str:
    """A link to the published configuration of the first stream."""
    base = SOURCES.get(entry.family) or SOURCES[entry.network]
    return (
        f"[{entry.family if entry.family in SOURCES else entry.network}]({base}{entry.source.replace('++', '%2B%2B')})"
    )


def write() -> None:
    """Write the page."""
    with atomic(PAGE, "w") as file:
        file.write(make_page())
    print(f"wrote {PAGE}")
