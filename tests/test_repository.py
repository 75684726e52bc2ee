"""The files for other programs: the image, the workflow, the forms of issues and the citation."""

import fnmatch
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCKER = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
PROJECT = (ROOT / "pyproject.toml").read_text()
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def steps(word: str) -> list[str]:
    """The arguments of the instructions of this name in the Dockerfile."""
    return re.findall(rf"^{word} (.*)$", DOCKER, re.MULTILINE)


def reaches_the_image(path: str) -> bool:
    """Whether .dockerignore lets a path at the top level pass; the last pattern that matches decides."""
    passes = True
    for pattern in IGNORED:
        if fnmatch.fnmatch(path, pattern.lstrip("!")):
            passes = pattern.startswith("!")
    return passes


def test_everything_that_the_image_copies_exists_and_is_sent_to_the_builder():
    copied = [name for step in steps("COPY") if not step.startswith("--from") for name in step.split()[:-1]]
    assert {"main.py", "torchlight", "constraints.txt"} <= set(copied)
    assert not [name for name in copied if not (ROOT / name).exists() or not reaches_the_image(name)]
    assert {pattern[1:] for pattern in IGNORED if pattern.startswith("!")} == set(copied)
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert len(folders) > 4 and folders <= set(copied)


def test_the_image_has_the_versions_of_the_constraints_and_a_python_that_the_project_supports():
    (install,) = [step for step in steps("RUN") if "pip install" in step]
    assert "-c constraints.txt -r requirements.txt" in install and "==" not in DOCKER
    least = tuple(map(int, re.search(r'requires-python = ">=(\d+)\.(\d+)"', PROJECT).groups()))
    python = re.search(r"^ARG BASE=python:(\d+)\.(\d+)-slim-\w+$", DOCKER, re.MULTILINE)
    assert tuple(map(int, python.groups())) >= least
    others = re.findall(r"BASE=(\S+)", DOCKER)
    assert len(others) == 2 and all(re.fullmatch(r"[\w/]+:[\w.-]+", base) and "latest" not in base for base in others)


def test_the_image_is_built_in_stages_and_runs_as_a_user_without_rights():
    assert len(steps("FROM")) == 3 and steps("USER") == ["skeleton"]
    last = DOCKER.rpartition("FROM ")[2]
    assert "pip install" not in last and last.index("RUN useradd") < last.index("USER") < last.index("ENTRYPOINT")


def test_the_workflow_runs_what_the_project_runs():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads the key `on` so
    job = workflow["jobs"]["test"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111 and "make test" in (ROOT / ".ci/run").read_text()
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)
    least = re.search(r'requires-python = ">=([\d.]+)"', PROJECT)[1]
    assert job["strategy"]["matrix"]["python"][0] == least and workflow["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_is_valid(path):
    form = yaml.safe_load(path.read_text())
    if path.name == "config.yml":
        assert set(form) == {"blank_issues_enabled"}
        return
    assert {"name", "description", "body"} <= set(form)
    ids = [part["id"] for part in form["body"]]
    assert len(ids) == len(set(ids)) and all(part["attributes"]["label"] for part in form["body"])
    if path.name in ("bug.yml", "result.yml"):
        (part,) = [part for part in form["body"] if part["id"] == "environment"]
        assert part["attributes"]["label"] == "environment.json" and part["validations"]["required"]


def test_the_citation_has_the_name_version_and_license_of_the_project():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = dict(re.findall(r'^(name|version) = "(.*)"$', PROJECT, re.MULTILINE))
    title = (ROOT / "README.md").read_text().partition("\n")[0].removeprefix("# ")
    assert found["cff-version"] == "1.2.0" and found["type"] == "software" and found["message"]
    assert (found["title"], found["version"]) == (title, project["version"])
    assert f"version = {{{project['version']}}}" in (ROOT / "README.md").read_text()
    assert found["authors"] == [{"name": f"The {project['name']} contributors"}]
    assert found["license"] == "Apache-2.0" and "Apache License" in (ROOT / "LICENSE").read_text()[:300]
