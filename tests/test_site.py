"""The documentation site builds without a warning, and every link within the pages leads to a page and a heading."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("mkdocs", "material", "mkdocstrings_handlers")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def plain(page: Path) -> str:
    """The text of a page without code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as forges and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ +(.*?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", head)).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file_and_to_a_heading_in_it(page):
    wrong = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", plain(page)):
        file = page if not target else page.parent / target
        if re.match(r"[a-z]+:", target):
            continue
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            wrong.append(f"{target}#{anchor}")
    assert not wrong


def test_the_site_names_every_page_once():
    text = re.sub(r"!!python/\S+", "", (ROOT / "mkdocs.yml").read_text())

    def pages(entry) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [name for item in (entry.values() if isinstance(entry, dict) else entry) for name in pages(item)]

    named = [name for name in pages(yaml.safe_load(text)["nav"]) if not name.startswith("reference/")]
    root = {"index.md", "contributing.md", "changelog.md"}
    books = {f"{book.stem}_notebook.md" for book in (ROOT / "docs").glob("*.ipynb")}
    assert sorted(named) == sorted(root | books | {page.name for page in (ROOT / "docs").glob("*.md")})


@pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)} here; install requirements/docs.txt")
def test_the_site_builds_without_a_warning_and_asks_no_other_server(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    home = (tmp_path / "site/index.html").read_text()
    assert not re.search(r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="https?:', home)
    pictures = re.findall(r'<img src="([^"]+)"', home)
    assert pictures and all((tmp_path / "site" / picture).is_file() for picture in pictures)
    assert 'href="predict/"' in home and 'href="contributing/#use-your-own-modules' in home
    assert "torchlight.contract.Feeder" in (tmp_path / "site/reference/engine/index.html").read_text()
    assert "Recognizer" in (tmp_path / "site/predict_notebook/index.html").read_text()
    assert (tmp_path / "site/search/search_index.json").stat().st_size > 100_000
