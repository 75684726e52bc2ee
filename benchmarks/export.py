"""Every network as ONNX and as a program of torch.export, for docs/export.md.

    python -m benchmarks.export                              # everything: about half an hour on two cores
    python -m benchmarks.export --only stgcn --rounds 3

Results replace those of the same network in benchmarks/results/export/<machine>.json.
"""

import argparse
import datetime
import json
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import export_page, pages
from benchmarks.measure import in_turns, inference
from benchmarks.networks import NTU, SETTINGS, Setting, header, networks
from benchmarks.performance_page import slug
from benchmarks.run import CPU, machine
from data.cli import whole_number
from model import catalog
from torchlight.export.run import open_exported
from torchlight.export.write import BOUNDS, export_network
from torchlight.objective import Classification
from torchlight.system.command import Parser
from torchlight.system.command import run as run_command
from torchlight.system.consent import admit
from torchlight.system.files import atomic, read_json
from torchlight.training.engine import for_inference
from torchlight.training.run_dir import git_commit

FILES = {  # kind: format, dynamic, precision
    "ONNX": ("onnx", False, "float32"),
    "ONNX, any batch": ("onnx", True, "float32"),
    "ONNX, float16": ("onnx", False, "float16"),
    "torch.export, any batch": ("torch", True, "float32"),
}


def build_parser() -> Parser:
    """The options."""
    parser = Parser(
        prog="python -m benchmarks.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.option("only", nargs="+", choices=networks(), default=networks(), help="files in model/ (all)")
    parser.option("rounds", type=whole_number(1, 1000), default=5, help="rounds of every comparison (5)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    return run_command(act, argv)


def act(argv: list[str]) -> None:
    """Measure the networks, store the results after each network, and write the page."""
    args = build_parser().parse_args(argv)
    how = f"PyTorch {torch.__version__}, onnxruntime {onnxruntime_version()}, "
    how += f"`{shlex.join(['python', '-m', 'benchmarks.export', *argv])}`"
    measured = {"date": f"{datetime.date.today()}", "commit": (git_commit() or "unknown")[:7], "how": how}
    for name in args.only:
        store({header(name)[0]: {"measured": measured} | network(name, args.rounds)})
    pages.write("export", export_page.make_page)


def onnxruntime_version() -> str:
    import onnxruntime  # of the extra `export`

    return onnxruntime.__version__


def store(found: dict[str, dict]) -> None:
    """Replace the older results of these networks on this machine."""
    of = machine(CPU)
    path = export_page.RESULTS / f"{slug(of['name'])}.json"
    old = read_json(path) if path.exists() else {}
    path.parent.mkdir(exist_ok=True)
    with atomic(path, "w") as file:
        file.write(json.dumps({"machine": of, "networks": old.get("networks", {}) | found}, indent=1) + "\n")


def network(name: str, rounds: int) -> dict[str, Any]:
    """The files of a network, and the times of one clip and of 16."""
    is_drawn = getattr(catalog.load(name).Model, "takes_heatmaps", False)
    setting = SETTINGS[header(name)[0]] if is_drawn else Setting(name, 16, 64)
    model, (data, _) = setting.build(CPU), setting.clips(16, CPU)
    varied(model, data[:4])
    fused, found = for_inference(model).eval(), {"files": []}
    clips = (
        (data[:4], torch.linspace(-1, 1, 64).expand(4, -1))
        if getattr(type(model), "takes_time", False)
        else (data[:4],)
    )
    with tempfile.TemporaryDirectory() as folder:
        exported = {}
        for kind, (format, dynamic, precision) in FILES.items():
            path = Path(folder) / ("n.onnx" if format == "onnx" else "n.pt2")
            facts = {"num_class": NTU["num_class"]}
            try:
                metadata, difference = export_network(
                    fused, Classification(), clips, path, format, facts, dynamic, precision
                )
            except ValueError as error:  # in float16, some networks select other neighbors
                difference = re.search(r"differ by .* got ([\d.e+-]+|nan|inf);", str(error))
                if precision == "float32" or difference is None:
                    raise
                found["files"].append({"kind": kind, "refused": difference[1]})
                continue
            numbers = metadata["operators"]
            entry = {"difference": difference, "operators": sum(numbers.values()), "kinds": len(numbers)}
            found["files"].append({"kind": kind} | entry | {"bytes": path.stat().st_size, "bound": BOUNDS[precision]})
            if format == "torch":
                admit(str(path))
            exported[kind] = open_exported(path)
            print(f"{name}, {kind}: {entry}", flush=True)
    for batch, size, kind in (("one clip", 1, "ONNX"), ("16 clips", 16, "ONNX, any batch")):
        some = data[:size]
        times = (torch.linspace(-1, 1, 64).expand(size, -1),) if len(clips) == 2 else ()
        sides = {"PyTorch": inference(model, some), "bfloat16": inference(model, some, "bfloat16")}
        sides |= {"fused": inference(fused, some), "onnxruntime": lambda e=exported[kind], x=(some, *times): e(*x)}
        found[batch] = in_turns(sides, rounds, CPU)
    return found


@torch.no_grad()
def varied(model: nn.Module, data: Tensor) -> None:
    """Replace the initial parameters, many of which are 0 or equal, by random values, and set the statistics of batch
    norms from the data."""
    for name, p in model.named_parameters():
        if p.dim() < 2:
            p.copy_(torch.rand(p.shape) + 0.5 if name.endswith("weight") else 0.1 * torch.randn(p.shape))
        else:
            p.add_(0.02 * torch.randn(p.shape))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.momentum = 1.0
    model.train()(data)
    model.eval()


if __name__ == "__main__":
    sys.exit(main())
