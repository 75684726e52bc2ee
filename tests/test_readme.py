"""Every command and link of the documentation is valid. The parsers of the programs read the commands; none is run."""

import argparse
import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from torchlight.commands.main import parse
from torchlight.config.load import load_config
from torchlight.fusion import cli as fusion_cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = [
    ROOT / "main.py",
    ROOT / "ensemble.py",
    ROOT / "data/show.py",
    *sorted((ROOT / "data").glob("*/prepare.py")),
]
MAKEFILE = ROOT / "Makefile"


def read(page: Path) -> str:
    """The text of a page, without what belongs to other repositories: the first column of `there | here`."""
    text = page.read_text()
    return re.sub(r"^\|.*\|(.*)\|$", r"\1", text, flags=re.MULTILINE) if page.name == "coming-from.md" else text


def code(page: Path) -> list[str]:
    """Lines of code blocks, fenced or indented, and code within lines; lines that end with a backslash are joined."""
    text = re.sub(r"\s*\\\n\s*", " ", read(page))
    if page in PROGRAMS:  # its docstring shows how it is used
        return [line.strip() for line in text.split('"""')[1].splitlines()]
    if page == MAKEFILE:
        demo = re.search(r"^DEMO := (.*)$", text, re.MULTILINE)[1]
        return [
            line.replace("$(DEMO)", demo).replace("$(PY)", "python")
            for line in re.findall(r"^\t(\$\(PY\) .*)$", text, re.MULTILINE)
        ]
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^ {4,}(\S.*)$", rest, re.MULTILINE)
    return (
        [line.strip() for block in blocks for line in block.splitlines()]
        + indented
        + re.findall(r"(?<!`)`([^`\n]+)`(?!`)", rest)
    )


def commands(word: str) -> list:
    """(page, command) for every command that begins with the word; what stands behind `#` or for more (`...`) is left
    out."""
    found = []
    for page in [*PAGES, *PROGRAMS, MAKEFILE]:
        for line in code(page):
            words = shlex.split(line, comments=True) if line.startswith(f"{word} ") else []
            if words and "..." not in words:
                found.append(pytest.param(words[1:], id=f"{page.relative_to(ROOT)}: {' '.join(words)}"))
    return found


class Understood(BaseException):  # so that no program reports it as an error
    """The command line was read to its end."""


@pytest.mark.parametrize("words", commands("python"))
def test_a_python_command_is_understood(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    if words[0] == "main.py":
        if words[1:] != ["--help"]:
            options = parse(words[1:])
            options.pop("import", None)
            file = options.pop("config", None)
            is_made = str(file).startswith("data/")  # by another command of the page; tests/data/test_docs.py runs both
            load_config(None if is_made else file, options)
    elif words[0] == "ensemble.py":
        fusion_cli.check(fusion_cli.build_parser().parse_args(words[1:]))
    else:
        assert is_understood(words, monkeypatch)


def is_understood(words: list[str], monkeypatch) -> bool:
    """Start a script or module as Python would, and stop it where its command line is read; without arguments it need
    only be there."""
    module = words[0] == "-m"
    name, arguments = (words[1], words[2:]) if module else (words[0], words[1:])
    spec = importlib.util.find_spec(name) if module else None
    if spec and spec.submodule_search_locations:  # of a package Python runs this file
        spec = importlib.util.find_spec(f"{name}.__main__")
    assert spec if module else Path(name).is_file(), f"there is no {name}"
    file = Path(spec.origin if module else name)
    if not arguments or "site-packages" in file.parts:
        return True
    assert re.search(r"parse_(known_)?args\(|data\.cli", file.read_text()), f"{name} reads no arguments"
    parse_known_args = argparse.ArgumentParser.parse_known_args

    def only_read_known(self, *args, **settings):
        parse_known_args(self, *args, **settings)
        raise Understood

    def only_read(self, *args, **settings):
        _, unknown = parse_known_args(self, *args, **settings)
        assert not unknown, unknown
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_read)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", only_read_known)
    monkeypatch.setattr(subprocess, "Popen", None)  # nothing is to start from here
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(Understood):
        runpy.run_module(name, run_name="__main__") if module else runpy.run_path(name, run_name="__main__")
    return True


@pytest.mark.parametrize("words", commands("make"))
def test_a_target_of_make_exists(words):
    assert all(re.search(rf"^{word}:", MAKEFILE.read_text(), re.MULTILINE) for word in words)


def test_the_readme_shows_how_to_begin():
    shown = [" ".join(case.values[0]) for case in commands("python")]
    assert any(command.startswith("main.py") and "--phase train" in command for command in shown) and len(shown) > 20
    assert [case.values[0] for case in commands("make")][:2] == [["demo"], ["test"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_into_config_exists(page):
    shown = set(re.findall(r"\bconfig/[\w/.-]+\.yaml", read(page)))
    assert not [path for path in shown if not (ROOT / path).is_file()]


def test_requirements_keep_an_installed_pytorch_and_make_installs_the_tested_one():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    bounds = [line for line in lines if not line.startswith("#")]
    assert len(bounds) > 5 and all(re.fullmatch(r"[\w-]+>=[\d.]+", line) for line in bounds)
    assert re.search(r"^torch==[\d.]+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    for name, packages in (("ready", "requirements.txt"), ("tools", "tests/requirements.txt")):
        rule = re.search(rf"^\$\(VENV\)/{name}:.*\n(?:\t.*\n)+", MAKEFILE.read_text(), re.MULTILINE)[0]
        assert f"-c constraints.txt -r {packages}\n" in rule and packages in rule.splitlines()[0]
    assert "constraints.txt" in re.search(r"^\$\(VENV\)/ready:(.*)$", MAKEFILE.read_text(), re.MULTILINE)[1]
