"""Hooks of MkDocs (mkdocs.yml): the site has the pages of the repository as they are, notebooks and docstrings.

Links between pages are those of the repository. Files that are no pages are in the site under files/.
"""

import json
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
ROOT_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
REFERENCE = {  # page: title and modules
    "predict": ("Prediction", "torchlight.predict.recognizer torchlight.predict.clips torchlight.predict.stream"),
    "engine": (
        "Training and evaluation",
        "torchlight.contract torchlight.objective torchlight.distillation torchlight.contrastive "
        "torchlight.config.options torchlight.training.engine torchlight.training.trainer torchlight.fusion.fuse "
        "torchlight.fusion.intervals",
    ),
    "models": ("Networks", "model.network model.blocks model.ops model.ctrgcn model.stgcn"),
    "feeders": ("Feeders", "feeders.batch_feeder feeders.clip_store feeders.transforms feeders.modality"),
    "graph": ("Bodies", "graph.body graph.skeleton graph.layouts graph.adjacency"),
    "data": ("Recordings", "data.clip data.poses.recording data.poses.read data.poses.convert data.recipes"),
}
# targets of Markdown links, and of pictures in HTML
LINK = re.compile(r"""(?<=\]\()([^)#\s:]+)(?=[)#])|(?<=src=")([^":]+)""")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside of docs/, the notebooks, the reference, and the files that pages link to."""
    for source, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for book in sorted((ROOT / "docs").glob("*.ipynb")):
        files.append(File.generated(config, f"{book.stem}_notebook.md", content=notebook(book)))
    for name, (title, modules) in REFERENCE.items():
        text = "\n\n".join([f"# {title}", *(f"::: {module}" for module in modules.split())])
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    pages = [(file.src_uri, [m[0] for m in LINK.finditer(file.content_string)]) for file in files.documentation_pages()]
    linked = {in_repository(page, target) for page, targets in pages for target in targets} - {None}
    for path in sorted(linked):
        if place_in_site(path).startswith("files/"):
            files.append(File.generated(config, place_in_site(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of the repository as links of the site, and lists as Python-Markdown reads them."""

    def link(match: re.Match) -> str:
        path = in_repository(page.file.src_uri, match[0])
        folder = posixpath.dirname(page.file.src_uri) or "."
        return match[0] if path is None else posixpath.relpath(place_in_site(path), folder)

    return re.sub(r"^ {3}(?=[^\s])", "    ", LINK.sub(link, markdown), flags=re.MULTILINE)


def notebook(path: Path) -> str:
    """A notebook as Markdown, with a link to the file."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    kinds = [cell["cell_type"] for cell in cells]
    parts = [t if k == "markdown" else f"```python\n{t}\n```" for k, t in zip(kinds, texts, strict=True)]
    return "\n\n".join([*parts, f"[The notebook]({path.name})"])


def in_repository(page: str, target: str) -> str | None:
    """The path of a link's target in the repository, None if there is no such file; page: the path in the site."""
    if page.startswith("reference/"):
        return None
    folder = "" if page in ROOT_PAGES.values() else "docs"
    path = posixpath.normpath(posixpath.join(folder, target))
    path = f"{path}/index.html" if (ROOT / path / "index.html").is_file() else path
    return path if not path.startswith("..") and (ROOT / path).is_file() else None


def place_in_site(path: str) -> str:
    """Where a file of the repository is in the site."""
    if path in ROOT_PAGES:
        return ROOT_PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}"
