"""A space of networks, declared in a YAML file, and the size of the networks in it.

A point of the space is a dict of plain values: `network`, the name of a family, and the values of this family, whose
names begin with that of the family (`ctrgcn.width`). Optuna uses the same names and values.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchlight.config.imports import check_arguments
from torchlight.config.options import ConfigError
from torchlight.system.text import nearest, quote
from torchlight.system.yaml_files import read_yaml
from torchlight.training.model_size import count_multiply_adds, count_parameters

Point = dict[str, Any]
Suggest = Callable[[str, list], Any]  # (name, values) -> one of them
WORD = re.compile(r"[\w.-]+")  # a value becomes a part of the name of a folder


@dataclass(kw_only=True)
class Budget:
    """The largest allowed network; None: no limit."""

    parameters: int | None = None
    multiply_adds: int | None = None


@dataclass(kw_only=True)
class Family:
    """Networks of one class.

    width: candidates for the channels of the first stage; each further stage has twice as many as the one before.
    blocks: for each stage, candidates for its number of blocks; a stage with 0 blocks is left out.
    choices: candidates for further arguments, by name.
    """

    model: str
    model_args: dict[str, Any] = field(default_factory=dict)
    width: list[int] = field(default_factory=list)
    blocks: list[list[int]] = field(default_factory=list)
    choices: dict[str, list] = field(default_factory=dict)

    def values(self) -> dict[str, list]:
        """The values to choose from, by name."""
        stages = {f"blocks{i}": counts for i, counts in enumerate(self.blocks, 1)}
        return ({"width": self.width} if self.width else {}) | stages | self.choices

    def arguments(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of the network with the chosen values."""
        own = {name: chosen[name] for name in self.choices}
        channels = {"channels": [c for c, n in self.stages(chosen) for _ in range(n)]} if self.width else {}
        return self.model_args | channels | own

    def stages(self, chosen: Mapping[str, Any]) -> list[tuple[int, int]]:
        """(channels, blocks) of each stage that has blocks."""
        counts = [n for i in range(len(self.blocks)) if (n := chosen[f"blocks{i + 1}"])]
        return [(chosen["width"] * 2**i, n) for i, n in enumerate(counts)]

    def title(self, name: str, chosen: Mapping[str, Any]) -> str:
        """The name of a network, such as `ctrgcn_3x48_2x96_kernel_size5`."""
        stages = [f"{n}x{c}" for c, n in self.stages(chosen)] if self.width else []
        return "_".join([name, *stages, *(f"{key}{chosen[key]}" for key in self.choices)])


@dataclass(kw_only=True)
class Search:
    """A file of config/search/.

    recipe: path of the recipe, relative to this file. flags: options of main.py for the short trainings. first: the
    networks to train first, each {network, width, blocks, and a value for each choice}.
    """

    recipe: str
    flags: str
    networks: dict[str, dict]
    budget: dict = field(default_factory=dict)
    first: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class Space:
    """The declared networks, their budget, and the points to train first."""

    families: dict[str, Family]
    budget: Budget
    first: list[Point]

    def draw(self, suggest: Suggest) -> Point:
        """A point with values that `suggest` chooses."""
        name = suggest("network", list(self.families))
        values = self.families[name].values()
        return {"network": name} | {f"{name}.{key}": suggest(f"{name}.{key}", values[key]) for key in values}

    def family(self, point: Point) -> tuple[Family, dict[str, Any]]:
        """The family of a point, and the values of the point by their names within the family."""
        name = point["network"]
        return self.families[name], {key.removeprefix(f"{name}."): value for key, value in point.items()}

    def network(self, point: Point) -> tuple[str, dict[str, Any]]:
        """The dotted path of the class, and the arguments that the space sets."""
        family, chosen = self.family(point)
        return family.model, family.arguments(chosen)

    def title(self, point: Point) -> str:
        """The name of a network; equal networks of a family have equal names."""
        family, chosen = self.family(point)
        return family.title(point["network"], chosen)

    def excess(self, size: "Size") -> str:
        """The sizes that exceed the budget, in words; empty if none does."""
        limits = {"parameters": self.budget.parameters, "multiply-adds": self.budget.multiply_adds}
        found = {"parameters": size.parameters, "multiply-adds": size.multiply_adds}
        return ", ".join(
            f"{found[kind]:,} {kind} of {limit:,}" for kind, limit in limits.items() if limit and found[kind] > limit
        )


@dataclass(frozen=True)
class Size:
    """Number of parameters of a network, and of multiply-adds for one clip."""

    parameters: int
    multiply_adds: int


def size_of(network: nn.Module, shape: tuple[int, ...]) -> Size:
    """The size of a network for clips of a shape (C, T, V, M). The network is moved to the meta device, where nothing
    is computed."""
    data = torch.zeros(1, *shape, device="meta")
    return Size(count_parameters(network), count_multiply_adds(network.to("meta"), data))


def read_search(file: str | Path) -> tuple[Search, Space]:
    """The declaration in a file, and its space of networks.

    Raises:
        ConfigError: all problems of the file.
    """
    options = read_yaml(file)
    if not isinstance(options, dict):
        raise ConfigError([f"{file}: expected a mapping, got {type(options).__name__}"])
    bind = partial(bound, file)
    search = bind(Search, options, "")
    families = {name: bind(Family, entry, f"networks.{name}.") for name, entry in search.networks.items()}
    budget = bind(Budget, search.budget, "budget.")
    problems = [f"{file}: networks: expected one or more, got none"] if not families else []
    for name, family in families.items():
        problems += [f"{file}: networks.{name}.{problem}" for problem in find_problems(name, family)]
    if problems:
        raise ConfigError(problems)
    return search, Space(families, budget, [bind_point(file, families, entry) for entry in search.first])


def bound(file: str | Path, kind: type, entry: Any, prefix: str) -> Any:
    """Convert a mapping to a dataclass; raises ConfigError."""
    if not isinstance(entry, dict):
        raise ConfigError([f"{file}: {prefix.rstrip('.')}: expected a mapping, got {quote(entry)}"])
    arguments, problems = check_arguments(kind, entry)
    if problems:
        raise ConfigError([f"{file}: {prefix}{problem}" for problem in problems])
    return kind(**arguments)


def find_problems(name: str, family: Family) -> list[str]:
    """The problems of a family that can be found without building its networks."""
    problems = []
    if not WORD.fullmatch(name):
        problems.append(f"expected a name of letters, digits, _, - and ., got {quote(name)}")
    if bool(family.width) != bool(family.blocks):
        problems.append("width: expected both width and blocks, or neither")
    if family.blocks and min(family.blocks[0], default=0) < 1:
        problems.append(f"blocks: expected one or more blocks in the first stage, got {family.blocks[0]}")
    for key, values in family.values().items():
        plain = all(isinstance(v, bool | int | float) or isinstance(v, str) and WORD.fullmatch(v) for v in values)
        if not values or not plain or len(set(map(str, values))) < len(values):
            problems.append(f"{key}: expected different numbers, booleans or words, got {quote(values)}")
        elif key.startswith("blocks") and key not in family.choices and min(values) < 0:
            problems.append(f"{key}: expected numbers of blocks, 0 or more, got {values}")
    return problems


def bind_point(file: str | Path, families: dict[str, Family], entry: dict[str, Any]) -> Point:
    """Convert a mapping of `first` to a point; raises ConfigError if the space does not contain it."""
    name = entry.get("network")
    if not isinstance(name, str) or name not in families:
        hint = nearest(str(name), families)
        raise ConfigError([f"{file}: first: network: expected one of the networks, got {quote(name)}; {hint}"])
    blocks = entry.get("blocks", [])
    stages = {f"blocks{i}": n for i, n in enumerate(blocks if isinstance(blocks, list) else [blocks], 1)}
    given = {key: value for key, value in entry.items() if key not in ("network", "blocks")} | stages
    values = families[name].values()
    wrong = [key for key in values if given.get(key) not in values[key]] + [key for key in given if key not in values]
    if wrong:
        known = "; ".join(f"{key}: {', '.join(map(str, choices))}" for key, choices in values.items())
        raise ConfigError([f"{file}: first: {', '.join(wrong)}: expected values of {name} ({known})"])
    return {"network": name} | {f"{name}.{key}": given[key] for key in values}
