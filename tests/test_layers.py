"""The packages import each other in one direction only."""

import ast
import graphlib
import sys
from pathlib import Path

import pytest

from model import catalog

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {  # besides Python's own library; a whole package, or one file of it
    "graph": {"graph", "torchlight.system", "numpy"},
    "model": {"model", "graph", "numpy", "torch", "triton"},  # triton is optional, imported by model/kernels/
    "feeders": {"feeders", "graph", "torchlight.system", "numpy", "torch"},
    "data": {"data", "graph", "feeders.clip_store", "torchlight.system", "numpy", "scipy", "tqdm", "matplotlib", "PIL"}
    | {"h5py", "c3d", "pose_format"},  # optional, imported by the readers of these formats
    "torchlight": {"torchlight", "numpy", "torch", "yaml", "tqdm", "tensorboardX", "matplotlib", "sklearn"},
}
# what prediction may import, too: poses from any source, as the recipes of the benchmarks prepare them
PREDICT = {"data.poses", "data.recipes", "data.known_facts", "data.pictures", "graph"}
PREDICTING = ("torchlight/predict/", "torchlight/commands/predict")
SYSTEM = {"torchlight.system", "numpy", "yaml"}  # the lowest layer, which every folder may import
LAYERS = (  # of torchlight/, from the lowest; a file may import its own folder and those listed before it
    "system",
    "contract",
    "objective",
    "distillation",
    "contrastive",
    "zoo",
    "config",
    "runtime",
    "training",
    "export",
    "fusion",
    "report",
    "predict",
    "commands",
    "protocol",
    "search",
)
ENTRIES = ("main.py", "ensemble.py")
SOURCES = {package: sorted((ROOT / package).rglob("*.py")) for package in MAY_IMPORT}


def imports(source: str) -> set[str]:
    """Full names of the modules that a source imports, at its top or within functions; `from a import b` gives
    `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def forbidden(source: str, allowed: set[str]) -> set[str]:
    """What a source imports and may not."""
    inside = tuple(f"{name}." for name in allowed)
    return {
        name
        for name in imports(source)
        if name.split(".")[0] not in sys.stdlib_module_names and not f"{name}.".startswith(inside)
    }


def allowed(package: str, path: Path) -> set[str]:
    """What a file of a package may import."""
    is_predicting = path.relative_to(ROOT).as_posix().startswith(PREDICTING)
    return MAY_IMPORT[package] | (PREDICT if is_predicting else set())


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_only_imports_packages_below_it(package):
    assert len(SOURCES[package]) > 5
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in SOURCES[package]
        if (found := forbidden(path.read_text(), allowed(package, path)))
    }
    assert not wrong


def test_the_system_package_imports_only_the_standard_library_numpy_and_yaml():
    files = sorted((ROOT / "torchlight/system").glob("*.py"))
    assert len(files) > 5
    wrong = {path.name: found for path in files if (found := forbidden(path.read_text(), SYSTEM))}
    assert not wrong


@pytest.mark.parametrize("path", SOURCES["torchlight"], ids=lambda path: str(path.relative_to(ROOT / "torchlight")))
def test_a_subpackage_of_torchlight_only_imports_subpackages_below_it(path):
    layer = path.relative_to(ROOT / "torchlight").parts[0].removesuffix(".py")
    if layer == "__init__":
        return
    below = {f"torchlight.{name}" for name in LAYERS[: LAYERS.index(layer) + 1]}
    names = {name for name in imports(path.read_text()) if name.startswith("torchlight.")}
    assert not {name for name in names if not f"{name}.".startswith(tuple(f"{b}." for b in below))}


def module_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """The modules that each module imports, of those whose sources are given, by name."""

    def module(name: str) -> str:
        return name if name in sources or "." not in name else module(name.rpartition(".")[0])

    found = {name: {module(one) for one in imports(source)} for name, source in sources.items()}
    return {name: {one for one in others if one in sources and one != name} for name, others in found.items()}


def test_no_modules_import_each_other_in_a_circle():
    names = {
        path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for files in SOURCES.values() for path in files
    }
    sources = {name.removesuffix(".__init__"): path.read_text() for path, name in names.items()}
    assert len(sources) > 100 and "graph.layouts" in module_graph(sources)["graph.skeleton"]
    graphlib.TopologicalSorter(module_graph(sources)).prepare()
    with pytest.raises(graphlib.CycleError):
        late = {"a.b": "def f():\n    from a.c import g", "a.c": "import a.b"}
        graphlib.TopologicalSorter(module_graph(late)).prepare()


@pytest.mark.parametrize("folder", (*MAY_IMPORT, "benchmarks"))
def test_files_and_functions_stay_short(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        source = path.read_text()
        assert len(source.splitlines()) <= 350, path
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


def test_a_network_file_imports_no_other_network_file():
    papers = {path for path in SOURCES["model"] if path.stem in catalog.networks()}
    shared = {f"model.{path.stem}" for path in SOURCES["model"] if path not in papers}
    wrong = {p.name: found for p in papers if (found := forbidden(p.read_text(), shared | {"graph", "numpy", "torch"}))}
    assert len(papers) >= 9 and not wrong


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_point_is_short_and_only_imports_the_engine(entry):
    source = (ROOT / entry).read_text()
    assert not forbidden(source, {"torchlight"}) and len(source.splitlines()) < 60


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_the_init_file_of_a_package_is_empty(package):
    assert (ROOT / package / "__init__.py").is_file()
    library = ROOT / "torchlight/predict/__init__.py"  # what programs of users import
    assert all(not path.read_text() for path in SOURCES[package] if path.name == "__init__.py" and path != library)


def test_a_forbidden_import_is_found_in_every_form():
    for source in (
        "import feeders",
        "from feeders import clip_part",
        "def f():\n    from feeders.clip_part import ClipPart",
        "import tests.tiny",
    ):
        assert forbidden(source, MAY_IMPORT["graph"]), source
    for source in ("import feeders.clip_part", "from feeders import clip_part", "import torch"):
        assert forbidden(source, MAY_IMPORT["data"]), source
    for source in (
        "from feeders.clip_store import ClipStore",
        "from feeders import clip_store",
        "import json, numpy.linalg",
        "from graph import ucla",
    ):
        assert not forbidden(source, MAY_IMPORT["data"]), source
    assert forbidden("import graphics", MAY_IMPORT["data"])
