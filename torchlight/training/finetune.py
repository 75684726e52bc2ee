"""Fine-tuning: training from the matching weights of a file, with a new classifier."""

import csv
import io
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from torchlight.config.imports import import_object
from torchlight.config.options import Config, ConfigError
from torchlight.contract import DescribedFeeder, Feeder
from torchlight.runtime import distributed
from torchlight.system.files import atomic, read_text, sha256
from torchlight.system.text import counted, quote, shorten
from torchlight.system.yaml_files import parse_yaml
from torchlight.training import build, checkpoint, identity, published, resume
from torchlight.training.run_dir import FINETUNE
from torchlight.zoo.download import local_file

log = logging.getLogger("torchlight")
KEPT, MAPPED, NEW = "kept", "mapped", "new"
LEAST = 0.5  # minimum share of the values of the backbone, without tables of joints, that a file must contain
CUSTOM_GRAPH = "graph.custom.Graph"


class Row(NamedTuple):
    """The origin of one tensor of the network: kept, mapped or new, with the reason."""

    name: str
    shape: str
    what: str
    why: str


@dataclass
class Start:
    """The initial state of fine-tuning. initial: facts about the file for the records; None for a resumed run, which
    does not read the file again. notes: lines for the log."""

    rows: list[Row]
    initial: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def backbone(self) -> set[str]:
        """Names of the tensors that come from the file."""
        return {row.name for row in self.rows if row.what != NEW}

    def write(self, folder: Path) -> None:
        """Write finetune.csv, and the table to the log file."""
        with atomic(folder / FINETUNE, "w") as file:
            csv.writer(file, lineterminator="\n").writerows([Row._fields, *self.rows])
        for row in self.rows:
            log.debug("%-7s %-20s %s: %s", row.what, row.shape, row.name, row.why)


class Origin(NamedTuple):
    """The network of the weights in a file: its class, its body layout (None: unknown) and, if the class is that of the
    configuration, its arguments. guess: the name of a body layout that the file may have, because of its number of
    joints."""

    model: str | None
    body: Any
    model_args: dict[str, Any]
    guess: str = ""


def begin(config: Config, model: nn.Module, feeder: Feeder, folder: Path) -> Start:
    """Load the matching weights of `config.finetune` into the network and freeze them if `backbone_lr` is 0. A run that
    is resumed from a checkpoint in its `folder` reads its own record instead.

    Raises:
        ValueError: the file is not a checkpoint, or less than `LEAST` of the network matches.
    """
    if config.resume and resume.checkpoints(folder):
        start = Start(read_rows(folder / FINETUNE) if config.backbone_lr != 1 else [])
    else:
        distributed.on_main(partial(local_file, config.finetune))  # one process downloads
        start = load(config, model, feeder, str(local_file(config.finetune)))
    if config.backbone_lr == 0:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name not in start.backbone)
    return start


def read_rows(path: Path) -> list[Row]:
    """The rows of a finetune.csv; raises ValueError."""
    head, *rows = list(csv.reader(io.StringIO(read_text(path)))) or [[]]
    if tuple(head) != Row._fields or not all(len(row) == len(head) for row in rows):
        raise ValueError(f"{path}: expected the columns {','.join(Row._fields)}, got {shorten(','.join(head))}")
    return [Row(*row) for row in rows]


def load(config: Config, model: nn.Module, feeder: Feeder, path: str) -> Start:
    """Load the matching weights of a file."""
    content = checkpoint.load(path)
    key = "model_ema" if config.ema and not config.weights_key else config.weights_key
    raw = checkpoint.state_dict_of(content, path, key)
    own, body = model.state_dict(), body_of(config, feeder)
    origin = find_origin(content, raw, path, config, body)
    both_known = origin.body is not None and body is not None
    V = config.model_args.get("num_point")
    selects = both_known and isinstance(V, int) and V not in (origin.body.num_joint, body.num_joint)  # as `unify` does
    differs = both_known and not selects and origin.body.joints != body.joints
    known = {name: value for name, value in config.model_args.items() if name not in published.BY_SHAPE}
    graph = origin.model_args if differs else config.model_args
    known |= {name: graph[name] for name in ("graph", "graph_args") if name in graph}
    state, hint = (raw, "") if raw.keys() == own.keys() else published.convert(model, raw, path, known)
    tables = {*import_object("model.transfer.joint_tables")(model), *import_object("model.transfer.norm_tables")(model)}
    others = [name for name in tables if name in state and name in own and state[name].shape != own[name].shape]
    classifier = classifier_of(config, model)
    mapped, how = {}, "the network has some of the joints" if selects else "the body of the file is unknown"
    if differs or (others and both_known and not selects):
        backbone = {name: value for name, value in state.items() if not name.startswith(classifier)}
        mapped, how = adapt(config, model, backbone, origin, body)
    rows, values = match(own, state, mapped, classifier, dict.fromkeys(tables, how), differs)
    hint = hint or checkpoint.trained_network(content)
    if not hint and origin.model not in (None, config.model):
        hint = f"the file contains {quote(origin.model)}"
    check_share([row for row in rows if row.name not in tables], own, config, path, hint)
    model.load_state_dict(own | values)
    notes = [summary(rows, path, how, [name for name in state if name not in own])]
    if selects and origin.body.joints != body.joints:
        notes.append(f"the {V} joints of the network are taken for those of the file")
    notes += differences(content, path, config, origin, tables, others)
    seen, maybe = identity.held_out_problems(content, feeder, config, path)
    for problem in seen:
        log.warning("%s: %s", path, problem)
    notes += maybe
    counts = Counter(row.what for row in rows)
    return Start(rows, {"file": path, "sha256": sha256(path), **{w: counts[w] for w in (KEPT, MAPPED, NEW)}}, notes)


def match(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    mapped: Mapping[str, Tensor],
    classifier: tuple[str, ...],
    tables: Mapping[str, str],
    differs: bool,
) -> tuple[list[Row], dict[str, Tensor]]:
    """A row for each tensor of the network, and the values of those that are not new.

    own: the tensors of the network. state: those of the file, under the names of the network. mapped: those that were
    mapped to another body. classifier: prefixes of names. tables: why the tensors with a joint axis are mapped or new.
    differs: whether the bodies differ, so that tensors with a joint axis are not kept.
    """
    rows, values = [], {}
    for name, value in own.items():
        what, why, found = NEW, "", state.get(name)
        if name.startswith(classifier):
            why = "classifier"
        elif name in mapped:
            what, why, values[name] = MAPPED, tables[name], mapped[name]
        elif found is None:
            why = "not in the file"
        elif found.shape != value.shape or (differs and name in tables):
            why = "; ".join(filter(None, [f"{sizes(found)} in the file", tables.get(name)]))
        else:
            what, values[name] = KEPT, found
        rows.append(Row(name, sizes(value), what, why))
    return rows, values


def find_origin(content: Any, raw: Mapping[str, Tensor], path: str, config: Config, body: Any) -> Origin:
    """The network that weights were trained for; raises ValueError for facts that contradict themselves. body: the body
    layout of the data. A layout that is only guessed from the number of joints is used if this number differs."""
    identified = published.identity(path) or content
    facts = identified.get("clips") if isinstance(identified, dict) else None
    facts = facts if isinstance(facts, dict) else {}
    text = content.get("config") if isinstance(content, dict) else None
    options = parse_yaml(text, f"{path}: config") if isinstance(text, str) else None
    options = options if isinstance(options, dict) else {}
    trained, trained_args = options.get("model"), options.get("model_args")
    trained_args = dict(trained_args) if isinstance(trained_args, dict) else {}
    found = import_object("model.published.open_checkpoint")(raw) if trained is None else None
    graph = trained_args.get("graph")
    skeleton_of, layout_of = (import_object(f"model.transfer.{name}") for name in ("skeleton_of", "body_of"))
    origin, guess = None, ""
    if config.finetune_body:
        origin = skeleton_of(import_object("graph.skeleton.skeleton_name")(config.finetune_body))
    elif isinstance(facts.get("body"), dict) and "parents" in facts["body"]:
        origin = skeleton_of(facts["body"])
    elif isinstance(facts.get("skeleton"), str):
        origin = skeleton_of(facts["skeleton"])
    elif isinstance(graph, str) and graph != CUSTOM_GRAPH:
        origin = layout_of(graph)
    elif found is not None and found.model_args["graph"] != CUSTOM_GRAPH:
        guessed = layout_of(found.model_args["graph"])
        if body is None or guessed.joints != body.joints:
            guess = found.model_args["graph"].removesuffix(".Graph")
        if found.model_args["num_point"] != (body.num_joint if body else config.model_args.get("num_point")):
            origin = guessed
    if found is not None:
        trained, trained_args = found.model, found.model_args
        if origin is not None:
            trained_args = import_object("model.transfer.published_arguments")(found, origin)
    return Origin(trained, origin, trained_args if trained == config.model else {}, guess)


def body_of(config: Config, feeder: Feeder) -> Any:
    """The body layout of the data, or of the graph of the network; None if neither is known."""
    if isinstance(feeder, DescribedFeeder):
        return feeder.skeleton
    graph = config.model_args.get("graph")
    return import_object("model.transfer.body_of")(graph, config.model_args.get("graph_args")) if graph else None


def adapt(
    config: Config, model: nn.Module, state: dict[str, Tensor], origin: Origin, body: Any
) -> tuple[dict[str, Tensor], str]:
    """Tensors with a joint axis, mapped to the body layout of the data, and a description of the map."""
    args = origin.model_args
    try:
        if not args or args.get("graph") == CUSTOM_GRAPH:
            args = import_object("model.transfer.arguments_for")(origin.body, args or config.model_args)
        source = build.build_model(replace(config, model_args=args), import_object(config.model))
    except (ConfigError, TypeError, ValueError) as error:
        raise ConfigError([f"finetune: the network of the file: {line}" for line in str(error).splitlines()]) from error
    mapped, how = import_object("model.transfer.adapt")(model, state, source, body, origin.body)
    return mapped, f"{how}, from {origin.body.name} to {body.name}" if mapped else how


def classifier_of(config: Config, model: nn.Module) -> tuple[str, ...]:
    """Name prefixes of the classifier: all tensors whose shape depends on the number of classes, and the whole module
    if one is in a module named head. For a network without `num_class`, the last layer."""
    found = []
    for name in build.class_axes(config, model):
        parts = name.split(".")
        head = next((i for i, part in enumerate(parts[:-1]) if part.endswith("head")), len(parts) - 2)
        found.append(".".join([*parts[: head + 1], ""]) if len(parts) > 1 else name)
    return tuple(dict.fromkeys(found))


def check_share(rows: list[Row], own: Mapping[str, Tensor], config: Config, path: str, hint: str) -> None:
    """Raise ValueError if little of the network, tables of joints left out, comes from the file."""
    backbone = [row for row in rows if row.why != "classifier"]
    total = sum(own[row.name].numel() for row in backbone)
    share = sum(own[row.name].numel() for row in backbone if row.what != NEW) / max(total, 1)
    if share < LEAST:
        raise ValueError(
            f"{path}: expected weights of {config.model} with these model_args, got others: {share:.0%} of its values "
            f"fit{f'; {hint}' if hint else ''}"
        )


def summary(rows: list[Row], path: str, how: str, unused: list[str]) -> str:
    """The line of the log with the counts."""
    counts = Counter(row.what for row in rows)
    new = [row.name for row in rows if row.what == NEW]
    text = f"fine-tuning {path}: {counted(counts[KEPT], 'tensor')} kept, "
    text += f"{counts[MAPPED]} mapped ({how}), " if counts[MAPPED] else ""
    text += f"{counts[NEW]} new ({', '.join(new[:3])}{', ...' if len(new) > 3 else ''})"
    text += f"; {len(unused)} of the file not used ({', '.join(unused[:3])})" if unused else ""
    return f"{text}; {FINETUNE} lists them"


def differences(
    content: Any, path: str, config: Config, origin: Origin, tables: set[str], others: list[str]
) -> list[str]:
    """Notes about facts that the file does not state or that differ from the options."""
    notes = []
    if origin.body is not None and origin.guess:
        notes.append(
            f"the body of {path} is taken for {origin.guess} because of its {origin.body.num_joint} joints; "
            "name another with --finetune-body"
        )
    elif origin.body is None and others:
        notes.append(
            f"the body of {path} is unknown and {len(others)} tables of joints are new; name it with --finetune-body"
        )
    elif origin.body is None and tables:
        hint = f"; if it is {origin.guess}, give --finetune-body {origin.guess}" if origin.guess else ""
        notes.append(f"the body of {path} is unknown and taken for that of the data{hint}")
    identified = published.identity(path) or content
    modality = identity.modality_of(identified.get("config")) if isinstance(identified, dict) else None
    if modality is not None and modality != config.modality:
        notes.append(f"the weights are of the stream {modality}, the data of {config.modality}")
    return notes


def frozen_norms(model: nn.Module, start: Start | None, config: Config) -> tuple[nn.Module, ...]:
    """The batch norms whose statistics do not change: those of a frozen backbone."""
    if start is None or config.backbone_lr != 0:
        return ()
    norms = [(p, m) for p, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return tuple(norm for prefix, norm in norms if f"{prefix}.running_mean" in start.backbone)


def sizes(value: Tensor) -> str:
    """A shape as 3x25x25."""
    return "x".join(map(str, value.shape)) or "1"
