"""Translation of configuration files and command lines of other programs to our options, with the table
config/legacy.yaml.

`is_old` checks whether anything has to be translated. `translate` translates files, and `read_words` translates the
words of a command line that are not our flags. An old option without any effect is omitted and named in the log; an
option whose effect is not supported here is refused with the reason. Facts about programs, networks and datasets are
only in the table.
"""

import copy
import functools
import logging
import re
from collections.abc import Iterator
from typing import Any

from torchlight.config.options import COMMAND_LINE, FEEDER_ARGS, ConfigError
from torchlight.system.paths import ROOT
from torchlight.system.text import quote
from torchlight.system.yaml_files import parse_yaml, read_yaml

log = logging.getLogger("torchlight")
TABLE = ROOT / "config" / "legacy.yaml"
Layer = tuple[str, dict[str, Any]]  # where options come from, and the options
Name = tuple[str, ...]  # ("model_args", "graph_args", "layout")


@functools.cache
def table() -> dict[str, Any]:
    """The table, with `feeder_args` expanded for both feeders."""
    return write_out(read_yaml(TABLE))


def write_out(node: Any) -> Any:
    """A part of the table in which `feeder_args.name` is the option of both feeders."""
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        both = key.startswith("feeder_args.")
        names = [key.replace("feeder_args", part) for part in FEEDER_ARGS] if both else [key]
        out |= dict.fromkeys(names, write_out(value))
    return out


def is_old(layers: list[Layer]) -> bool:
    """Whether `translate` replaces any of the paths, names or values."""
    freeze, switches = table()["freeze"], table()["stream"]["switches"]
    old = {freeze["part"], freeze["epoch"], table()["share"]} | {
        f"{p}.{switch}" for p in FEEDER_ARGS for switch in switches
    }
    feeder, model, last = {}, {}, last_model(layers)
    for _, options in layers:
        feeder, model = entry("feeder", options, feeder), entry("model", options, model)
        if any(key in options and named.keys() - {"options"} for key, named in (("feeder", feeder), ("model", model))):
            return True
        rules = rules_of(feeder, model, last)
        for name, value in flatten(options):
            dotted = ".".join(name)
            if dotted in old or applies(rules.get(dotted), value):
                return True
    return False


def read_words(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The options of another program among words of a command line, and the words that remain.

    Raises:
        ValueError: a program that is not part of this project.
    """
    programs, flags = table()["programs"], table()["flags"]
    if words and words[0] in programs:
        if programs[words[0]]:
            raise ValueError(f"command line: {words[0]}: {programs[words[0]]}")
        words = words[1:]
    options: dict[str, Any] = {}
    remaining: list[str] = []
    values = remaining  # where the words after a flag go
    for word in words:
        if not re.match(r"-\D", word):
            values.append(word)
            continue
        flag, equals, value = word.partition("=")
        name = flags.get(flag, flag.removeprefix("--").replace("-", "_"))
        if name in table()["options"] or flag in flags:
            values = options[name] = [value] if equals else []
        else:
            remaining.append(word)
            values = remaining
    return {name: read_flag(name, values, name in flags.values()) for name, values in options.items()}, remaining


def read_flag(name: str, words: list[str], is_text: bool) -> Any:
    """The value of an old flag as YAML (or as text): true without words, a list of several."""
    try:
        values = words if is_text else [parse_yaml(word, "") for word in words]
    except ValueError as error:
        raise ConfigError([f"command line: --{name}: expected a YAML value, got {quote(' '.join(words))}"]) from error
    return True if not values else values[0] if len(values) == 1 else values


def translate(layers: list[Layer], problems: list[str]) -> list[Layer]:
    """All layers as our options. Options without an equivalent are added to `problems`; our own layers are
    unchanged."""
    translator = Translator(problems, last_model(layers))
    out = [new for layer in layers for new in translator.layer(*layer)]
    if translator.left_out:
        log.warning("old options without any effect, left out: %s", ", ".join(sorted(translator.left_out)))
    if translator.renamed:
        log.info("old names: %s", "; ".join(translator.renamed))
    return out


class Translator:
    """Reads layers in order and remembers the feeder, the network and the stream that the files select. `last` is the
    entry of the network that is named last."""

    def __init__(self, problems: list[str], last: dict[str, Any]):
        self.problems = problems
        self.last = last
        self.feeder, self.model = {}, {}
        self.switches = dict.fromkeys(table()["stream"]["switches"], False)
        self.left_out: set[str] = set()
        self.renamed: list[str] = []

    def layer(self, origin: str, options: dict[str, Any]) -> list[Layer]:
        """One layer as our options, preceded by the defaults of the program that it was written for."""
        flat = dict(flatten(options))
        layers: list[Layer] = []
        self.feeder, self.model = entry("feeder", options, self.feeder), entry("model", options, self.model)
        named = [(key, found) for key, found in (("feeder", self.feeder), ("model", self.model)) if key in options]
        out = {name_of(name): value for _, found in named for name, value in found.get("set", {}).items()}
        rules = rules_of(self.feeder, self.model, self.last)
        for name, value in flat.items():
            for new, meaning in self.reword(origin, name, value, rules.get(".".join(name))).items():
                if new in out and out[new] != meaning and new not in flat:
                    both = f"{quote(out[new])} and {quote(meaning)} from two old options"
                    self.problems.append(f"{origin}: {'.'.join(new)}: expected one value, got {both}")
                out[new] = meaning
        for key, found in named:
            if "refuse" in found:
                self.problems.append(f"{origin}: {key}: {found['refuse']}; got {quote(options[key])}")
            if "to" in found:
                out[(key,)] = found["to"]
                self.renamed.append(f"{options[key]} is {found['to']}")
        if "defaults" in self.model and "model" in options and origin != COMMAND_LINE:
            layers.append((f"{TABLE.name}: {options['model']}", self.model["defaults"]))
        self.choose_stream(origin, flat, out)
        if "feeder" in options:
            self.find_skeleton(out)
        self.freeze(origin, flat, out)
        if origin != COMMAND_LINE and isinstance(out.get(("batch_size",)), int):
            self.divide_batch(origin, out)
        given = [name for name in ("batch_size", "update_freq") if (name,) in flat]
        if origin == COMMAND_LINE and given and "processes" in self.model:
            meaning = "clips per optimizer step and its number of passes, not those of the original program"
            log.warning("%s: a flag has the meaning of this program: %s", ", ".join(given), meaning)
        return [*layers, (origin, unflatten(out))]

    def reword(self, origin: str, name: Name, value: Any, rule: Any) -> dict[Name, Any]:
        """One option, translated by its rule."""
        text = ".".join(name)
        if not applies(rule, value):
            return {name: value}
        if isinstance(rule, str):
            self.renamed.append(f"{text} is {'.'.join(name_of(rule, name))}")
            return {name_of(rule, name): value}
        if has_value(rule, value):
            meaning = {name_of(new, name): v for new, v in rule["values"][as_key(value)].items()}
            if meaning != {name: value}:
                words = ", ".join(f"{'.'.join(new)} {v}" for new, v in meaning.items()) or "nothing"
                self.renamed.append(f"{text} {value} is {words}")
            return meaning
        drop = rule.get("drop", [])
        if drop == "any" or value in drop:
            self.left_out.add(text)
            return {}
        values = " or ".join(map(str, [*rule.get("values", ()), *drop])) or "nothing"
        why = "; " + rule["why"] if "why" in rule else ""
        self.problems.append(f"{origin}: {text}: expected {values}, got {quote(value)}{why}")
        return {}

    def choose_stream(self, origin: str, flat: dict[Name, Any], out: dict[Name, Any]) -> None:
        """The old switches of the feeders, and the names of old data files, as `modality`."""
        modalities = table()["stream"]["modalities"]
        given: dict[str, set[bool]] = {}
        for name in [name for name in out if name[0] in FEEDER_ARGS and name[1:] in {(s,) for s in self.switches}]:
            given.setdefault(name[1], set()).add(bool(out.pop(name)))
        for switch, values in given.items():
            if len(values) > 1:
                self.problems.append(
                    f"{origin}: {switch}: expected the same value for training and test clips, got both"
                )
            self.switches[switch] = max(values)
        if given:
            chosen = next(m for m, values in modalities.items() if values == list(self.switches.values()))
            out[("modality",)] = chosen
            self.renamed.append(f"{', '.join(f'{s} {v}' for s, v in self.switches.items())} is modality {chosen}")
        for part in FEEDER_ARGS:
            pattern = self.feeder.get("modality_in_path")
            stream = re.search(pattern, str(flat.get((part, "data_path")))) if pattern else None
            if stream:
                out[("modality",)] = stream[1]
        if str(out.get(("modality",))) in modalities:
            self.switches = dict(zip(self.switches, modalities[str(out[("modality",)])], strict=True))

    def find_skeleton(self, out: dict[Name, Any]) -> None:
        """Set the skeleton of a feeder whose files do not name one to that of the network's graph."""
        graph = str(out.get(name_of(self.feeder.get("skeleton_of", "")), ""))
        if graph.startswith("graph."):
            for part in FEEDER_ARGS:
                if any(name[0] == part for name in out):
                    out.setdefault((part, "skeleton"), graph.rpartition(".")[0])

    def freeze(self, origin: str, flat: dict[Name, Any], out: dict[Name, Any]) -> None:
        """Translate the old option that freezes parameters up to an epoch, counted from 0, to `freeze` and
        `freeze_epoch`."""
        freeze = table()["freeze"]
        part, epoch = (out.pop((freeze[key],), None) for key in ("part", "epoch"))
        if not part:
            self.left_out |= {freeze[key] for key in ("part", "epoch") if (freeze[key],) in flat}
        elif not isinstance(epoch, int | None):
            self.problems.append(f"{origin}: {freeze['epoch']}: expected an integer, got {quote(epoch)}")
        else:
            out[("freeze",)], out[("freeze_epoch",)] = freeze["names"], (epoch or 0) + 1
            names = ", ".join(freeze["names"])
            self.renamed.append(
                f"{freeze['part']} up to epoch {epoch or 0} is freeze [{names}] for {(epoch or 0) + 1} epochs"
            )

    def divide_batch(self, origin: str, out: dict[Name, Any]) -> None:
        """Convert batch_size to clips per optimizer step; old files give the clips of a pass or of a process."""
        batch, share = out[("batch_size",)], out.pop((table()["share"],), None)
        if share is not None and (not isinstance(share, int) or share < 1 or batch % share):
            self.problems.append(
                f"{origin}: {table()['share']}: expected a divisor of batch_size {batch}, got {quote(share)}"
            )
        elif share:
            out[("update_freq",)] = batch // share
            self.renamed.append(f"{table()['share']} {share} is update_freq {batch // share}")
        if "processes" in self.model:
            processes, passes = (
                self.model["processes"],
                out.get(("update_freq",), self.model["defaults"]["update_freq"]),
            )
            if isinstance(passes, int):
                out[("batch_size",)] = total = batch * passes * processes
                self.renamed.append(
                    f"batch_size {batch} x update_freq {passes} x {processes} processes is batch_size {total}"
                )


def entry(key: str, options: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The entry of the table about the feeder or the model that the options name; `before` if they name none."""
    if key not in options:
        return before
    named, name = table()[f"{key}s"], str(options[key])
    spelled = (e for e in named.values() if name != e.get("to") and re.fullmatch(e.get("spelled", "(?!)"), name))
    return named.get(name) or next(spelled, {})


def last_model(layers: list[Layer]) -> dict[str, Any]:
    """The entry of the network in the last layer with a `model`; its rules also apply to the layers before."""
    return functools.reduce(lambda before, layer: entry("model", layer[1], before), layers, {})


def rules_of(*entries: dict[str, Any]) -> dict[str, Any]:
    """The rule of each option by its dotted name: rules of the feeder, then of all programs, then of networks."""
    feeder, *models = (entry.get("options", {}) for entry in entries)
    return functools.reduce(dict.__or__, models, feeder | table()["options"])


def applies(rule: Any, value: Any) -> bool:
    """Whether a rule changes or refuses this value."""
    if rule is None or isinstance(rule, str):
        return rule is not None
    drop = rule.get("drop", [])
    return has_value(rule, value) or drop == "any" or value in drop or rule.get("else") != "keep"


def has_value(rule: dict[str, Any], value: Any) -> bool:
    """Whether a rule lists this value."""
    return isinstance(value, str | bool | int | float) and as_key(value) in rule.get("values", ())


def as_key(value: Any) -> Any:
    """A value as a key of the table, where keys are text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


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
        before = inner.get(name[-1])
        if isinstance(value, dict) and isinstance(before, dict):
            inner[name[-1]] = value | before  # its entries are defaults, wherever the file gives the other options
        elif value not in (None, {}) or not before:
            inner[name[-1]] = copy.deepcopy(value)  # it may be part of the table
    return out


def name_of(text: str, beside: Name = ()) -> Name:
    """'model_args.graph' as a name; '.graph' is the neighbor of another name."""
    return (*beside[:-1], *text[1:].split(".")) if text.startswith(".") else tuple(text.split("."))
