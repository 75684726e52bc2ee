"""Old configuration files and command lines in our words, by the table config/legacy.yaml.

What never had an effect is left out and named once; where it would have had one that is not offered, it is refused with the reason.
"""

import functools
import logging
import re
from collections.abc import Iterator
from typing import Any

import yaml

from torchlight.system.paths import ROOT

log = logging.getLogger("torchlight")
TABLE = ROOT / "config" / "legacy.yaml"
COMMAND_LINE = "command line"
PARTS = ("train_feeder_args", "test_feeder_args")
Layer = tuple[str, dict[str, Any]]  # where options come from, and the options
Name = tuple[str, ...]  # ("model_args", "graph_args", "layout")


@functools.cache
def table() -> dict[str, Any]:
    """The table, with `feeder_args` written out for both parts."""
    table = yaml.safe_load(TABLE.read_text())
    for feeder in table["feeders"].values():
        options = feeder["options"].items()
        feeder["options"] = {
            name.replace("feeder_args", part) if name.startswith("feeder") else name: r
            for name, r in options
            for part in PARTS
        }
    return table


def flag_names(known: set[str]) -> list[str]:
    """Old options of command lines that are not options of ours."""
    return [name for name in table()["options"] if name not in known]


def flag_value(words: list[str]) -> Any:
    """What the words after an old flag say, read as YAML: none is true, several are a list."""
    values = [yaml.safe_load(word) for word in words]
    return True if not values else values[0] if len(values) == 1 else values


def translate_words(argv: list[str]) -> list[str]:
    """A command line without the name of ST-GCN's processor and with our long flags.

    Raises:
        ValueError: a processor that is not part of this project.
    """
    programs, flags = table()["programs"], table()["flags"]
    if argv and argv[0] in programs:
        if programs[argv[0]]:
            raise ValueError(f"command line: {argv[0]}: {programs[argv[0]]}")
        argv = argv[1:]
    return [flags.get(word, word) for word in argv]


def translate(layers: list[Layer], problems: list[str]) -> list[Layer]:
    """Options in our words, layer by layer; a file of ours stays as it is. What cannot be said in our words is added to `problems`."""
    translator = Translator(problems)
    out = [new for layer in layers for new in translator.layer(*layer)]
    if translator.left_out:
        log.warning("without any effect here, and left out: %s", ", ".join(sorted(translator.left_out)))
    if translator.renamed:
        log.info("old names: %s", "; ".join(translator.renamed))
    return out


class Translator:
    """Reads layers in order, remembering which reader and network the files named, and which stream was chosen."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        self.feeder, self.model = {}, {}
        self.stream = {"bone": False, "vel": False}
        self.left_out: set[str] = set()
        self.renamed: list[str] = []

    def layer(self, origin: str, options: dict[str, Any]) -> list[Layer]:
        """One layer in our words, after the defaults of the program that it was written for."""
        flat = dict(flatten(options))
        layers: list[Layer] = []
        self.feeder = table()["feeders"].get(str(options.get("feeder")), {} if "feeder" in options else self.feeder)
        self.model = table()["models"].get(str(options.get("model")), {} if "model" in options else self.model)
        paths = [entry for key, entry in (("feeder", self.feeder), ("model", self.model)) if key in options]
        out = {name_of(name): value for entry in paths for name, value in entry.get("set", {}).items()}
        rules = self.feeder.get("options", {}) | table()["options"] | self.model.get("options", {})
        for name, value in flat.items():
            for new, said in self.reword(origin, name, value, rules.get(".".join(map(str, name)))).items():
                if new in out and out[new] != said and new not in flat:
                    self.problems.append(
                        f"{origin}: {'.'.join(new)}: found {out[new]!r} and {said!r}, said by two old options; give one"
                    )
                out[new] = said
        for entry, key in ((self.feeder, "feeder"), (self.model, "model")):
            if key in options and "refuse" in entry:
                self.problems.append(f"{origin}: {key}: found {options[key]!r}; {entry['refuse']}")
            if key in options and "to" in entry:
                out[(key,)] = entry["to"]
                self.renamed.append(f"{options[key]} is {entry['to']}")
        if "defaults" in self.model and "model" in options and origin != COMMAND_LINE:
            layers.append((f"{TABLE.name}: {options['model']}", self.model["defaults"]))
        self.choose_stream(origin, flat, out)
        self.find_skeleton(out)
        self.freeze(flat, out)
        if origin != COMMAND_LINE and isinstance(out.get(("batch_size",)), int):
            self.divide_batch(origin, out)
        return [*layers, (origin, unflatten(out))]

    def reword(self, origin: str, name: Name, value: Any, rule: Any) -> dict[Name, Any]:
        """One option by its rule."""
        text = ".".join(map(str, name))
        if rule is None:
            return {name: value}
        if isinstance(rule, str):
            self.renamed.append(f"{text} is {rule}")
            return {name_of(rule, name): value}
        if value in rule.get("values", ()) if isinstance(value, str | bool | int | float) else False:
            said = {name_of(new, name): v for new, v in rule["values"][value].items()}
            if said != {name: value}:
                self.renamed.append(
                    f"{text} {value} is " + (", ".join(f"{'.'.join(new)} {v}" for new, v in said.items()) or "nothing")
                )
            return said
        drop = rule.get("drop", [])
        if drop == "any" or value in drop:
            self.left_out.add(text)
            return {}
        if rule.get("else") == "keep":
            return {name: value}
        allowed = ", ".join(map(str, [*rule.get("values", ()), *drop]))
        self.problems.append(
            f"{origin}: {text}: found {value!r}; allowed: {allowed}" + ("; " + rule["why"] if "why" in rule else "")
        )
        return {}

    def choose_stream(self, origin: str, flat: dict[Name, Any], out: dict[Name, Any]) -> None:
        """`bone` and `vel` of the readers, and the names of arrays such as train_data_bone.npy, as `modality`."""
        said: dict[str, set[bool]] = {}
        for name in [name for name in out if name[0] in PARTS and name[1:] in (("bone",), ("vel",))]:
            said.setdefault(name[1], set()).add(bool(out.pop(name)))
        for word, values in said.items():
            if len(values) > 1:
                self.problems.append(
                    f"{origin}: {word}: found {word} of one part only; training and test clips must be of the same stream"
                )
            self.stream[word] = max(values)
        if said:
            kind = "bone" if self.stream["bone"] else "joint"
            out[("modality",)] = kind + "_motion" * self.stream["vel"]
            self.renamed.append(
                f"bone {self.stream['bone']}, vel {self.stream['vel']} is modality {out[('modality',)]}"
            )
        for part in PARTS:
            array = re.search(r"_data_(bone|joint_motion|bone_motion)\.npy$", str(flat.get((part, "data_path"))))
            if array and "to" in self.feeder:
                out[("modality",)] = array[1]
        if ("modality",) in out:
            modality = str(out[("modality",)])
            self.stream = {"bone": modality.startswith("bone"), "vel": modality.endswith("motion")}

    def find_skeleton(self, out: dict[Name, Any]) -> None:
        """The reader of padded arrays is told the body of the network's graph, as bones are made here."""
        graph = str(out.get(("model_args", "graph"), ""))
        if out.get(("feeder",)) == self.feeder.get("to") == "feeders.feeder_kinetics.Feeder" and graph.startswith(
            "graph."
        ):
            for part in PARTS:
                if any(name[0] == part for name in out):
                    out.setdefault((part, "skeleton"), graph.rpartition(".")[0])

    def freeze(self, flat: dict[Name, Any], out: dict[Name, Any]) -> None:
        """2s-AGCN's only_train_part: PA rests through epoch only_train_epoch, counted from 0."""
        part, epoch = (out.pop((name,), None) for name in ("only_train_part", "only_train_epoch"))
        if not part:
            self.left_out |= {name for name in ("only_train_part", "only_train_epoch") if (name,) in flat}
        else:
            out[("freeze",)], out[("freeze_epoch",)] = ["PA"], int(epoch or 0) + 1
            self.renamed.append(
                f"only_train_part up to epoch {epoch or 0} is freeze [PA] for {int(epoch or 0) + 1} epochs"
            )

    def divide_batch(self, origin: str, out: dict[Name, Any]) -> None:
        """batch_size as clips of an optimizer step: MS-G3D divides it, TSGCNeXt multiplies it."""
        batch, share = out[("batch_size",)], out.pop(("forward_batch_size",), None)
        if share and batch % share:
            self.problems.append(f"{origin}: forward_batch_size: found {share}; it must divide batch_size {batch}")
        elif share:
            out[("update_freq",)] = batch // share
            self.renamed.append(f"forward_batch_size {share} is update_freq {batch // share}")
        if "processes" in self.model:
            passes, processes = (
                out.get(("update_freq",), self.model["defaults"]["update_freq"]),
                self.model["processes"],
            )
            out[("batch_size",)] = batch * passes * processes
            self.renamed.append(
                f"batch_size {batch} x update_freq {passes} x {processes} processes is batch_size {out[('batch_size',)]}"
            )


def flatten(options: dict[str, Any], prefix: Name = ()) -> Iterator[tuple[Name, Any]]:
    """(name, value) of everything in nested mappings; empty mappings and lists are values."""
    for key, value in options.items():
        if isinstance(value, dict) and value and all(isinstance(inner, str) for inner in value):
            yield from flatten(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def unflatten(flat: dict[Name, Any]) -> dict[str, Any]:
    """The nested mappings again."""
    out: dict[str, Any] = {}
    for name, value in flat.items():
        inner = out
        for key in name[:-1]:
            if not isinstance(inner.get(key), dict):
                inner[key] = {}
            inner = inner[key]
        if value not in (None, {}) or not inner.get(name[-1]):  # an empty mapping hides nothing that was said elsewhere
            inner[name[-1]] = value
    return out


def name_of(text: str, beside: Name = ()) -> Name:
    """'model_args.graph' as a name; '.graph' is the neighbour of another name."""
    return (*beside[:-1], *text[1:].split(".")) if text.startswith(".") else tuple(text.split("."))
