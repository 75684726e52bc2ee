"""The command line of main.py: one flag per option of the configuration."""

import argparse
import logging
import os
import re
import typing
from typing import Any

from torchlight.commands import phases
from torchlight.config import legacy
from torchlight.config.load import load_config
from torchlight.config.options import COMMAND_LINE, FIELDS, RUN, SHARED_HELP, TYPES, ConfigError
from torchlight.runtime import slurm
from torchlight.runtime.launch import launch
from torchlight.runtime.logs import set_up_logging
from torchlight.system.command import Parser, run
from torchlight.system.consent import admit
from torchlight.system.paths import set_data_root
from torchlight.system.text import nearest, quote, shorten
from torchlight.system.yaml_files import parse_yaml
from torchlight.zoo.download import local_file

log = logging.getLogger("torchlight")
KINDS = TYPES | dict.fromkeys(SHARED_HELP, dict)  # the type of each flag
HELP = {name: field.metadata["help"] for name, field in FIELDS.items()} | SHARED_HELP


def build_parser() -> Parser:
    """--base-lr or --base_lr for each option; mappings take KEY=VALUE pairs or --feeder-args.window_size 64."""
    parser = Parser(prog="python main.py", description="Train and test skeleton-based action recognition.")
    for name, kind in KINDS.items():
        settings: dict[str, Any] = {"default": argparse.SUPPRESS, "help": HELP[name].replace("%", "%%")}
        if name in ("weights", "config"):  # one, or several: networks to predict with, files of options
            settings |= {"nargs": "+", "metavar": "FILE"}
        elif kind is dict:
            settings |= {"nargs": "+", "action": "extend", "metavar": "KEY=VALUE"}
        elif typing.get_origin(kind) is list:
            settings |= {"nargs": "*", "metavar": name.upper()}
        elif kind is bool or bool in typing.get_args(kind):
            words = [word for part in typing.get_args(kind) for word in typing.get_args(part)]
            settings |= {"nargs": "?", "const": "true", "metavar": "|".join(["true", "false", *words])}
        elif typing.get_origin(kind) is typing.Literal:
            settings |= {"metavar": "|".join(typing.get_args(kind))}
        parser.option(name.replace("_", "-"), **settings)
    parser.option(
        "import",
        nargs="+",
        action="extend",
        metavar="MODULE",
        default=argparse.SUPPRESS,
        help="modules or .py files of your own that the configuration may name",
    )
    return parser


def read_value(flag: str, text: str, problems: list[str]) -> Any:
    """A word of the command line, parsed as YAML; invalid YAML is added to `problems`."""
    try:
        return parse_yaml(text, flag)
    except ValueError:
        problems.append(f"{COMMAND_LINE}: {flag}: expected a YAML value, got {quote(text)}")
        return None


def parse(argv: list[str]) -> dict[str, Any]:
    """The options given on a command line, by field name; `import` contains the modules to allow.

    Raises:
        ConfigError: unknown flags (with the nearest known one) and malformed ones.
    """
    known, unknown = build_parser().parse_known_args(join_nested(argv))
    old, unknown = legacy.read_words(unknown) if unknown else ({}, [])
    problems, stray = [], []
    for before, word in zip(["", *unknown], unknown, strict=False):
        if word.startswith("--"):
            hint = nearest(word.partition("=")[0].replace("_", "-"), [f"--{name.replace('_', '-')}" for name in KINDS])
            problems.append(f"{COMMAND_LINE}: {shorten(word)}: unknown flag; {hint}")
        elif not before.startswith("--"):  # else it is the value of an unknown flag
            stray.append(word)
    if stray:
        problems.append(explain_stray(stray))
    options = vars(known)
    modules = options.pop("import", [])
    if "weights" in options:
        options["weights"], *further = options["weights"]
        options |= {"further_weights": further} if further else {}
    files = options.pop("config", [])
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if KINDS[name] is dict:
            options[name] = nest(flag, value, problems)
        elif isinstance(value, str) and KINDS[name] not in (str, str | None):
            options[name] = read_value(flag, value, problems)
        elif isinstance(value, list) and KINDS[name] != list[str]:
            options[name] = [read_value(flag, item, problems) for item in value]
    if problems:
        raise ConfigError(problems)
    files = {"config": files[0] if len(files) == 1 else files} if files else {}
    return options | files | old | ({"import": modules} if modules else {})


def explain_stray(words: list[str]) -> str:
    """The problem of words that are the value of no flag, with what the first one probably means."""
    if words[0] in typing.get_args(TYPES["phase"]):
        hint = f"did you mean --phase {words[0]}?"
    elif words[0].endswith(".yaml"):
        hint = f"did you mean --config {shorten(words[0])}?"
    else:
        hint = "put patterns, and names with spaces, in quotes"
    more = f" and {len(words) - 1} more" if len(words) > 1 else ""
    what = "words" if more else "a word"
    return f"{COMMAND_LINE}: {shorten(words[0])}{more}: expected --flag value, got {what} without a flag; {hint}"


def join_nested(argv: list[str]) -> list[str]:
    """`--model-args.drop_out 0.5` and `--model-args.drop_out=0.5` as `--model-args drop_out=0.5`."""
    words: list[str] = []
    waiting = False  # for the value of a nested flag
    for word in argv:
        nested = re.fullmatch(r"--([\w-]+)\.([\w.]+)(?:=(.*))?", word, re.DOTALL)
        if nested and KINDS.get(nested[1].replace("-", "_")) is dict:
            words += [f"--{nested[1]}", f"{nested[2]}={nested[3] or ''}"]
            waiting = nested[3] is None
        elif waiting and not word.startswith("--"):
            words[-1] += word
            waiting = False
        else:
            words.append(word)
            waiting = False
    return words


def nest(flag: str, pairs: list[str], problems: list[str]) -> dict[str, Any]:
    """["a.b=1"] -> {"a": {"b": 1}}, the values read as YAML.

    A word without a value becomes a problem, and so does a key that has both a value and keys below it.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key and value:
            values[key] = read_value(f"{flag} {shorten(key)}", value, problems)
        else:
            problems.append(f"{COMMAND_LINE}: {flag}: expected KEY=VALUE (KEY=null for no value), got {quote(pair)}")
    out: dict[str, Any] = {}
    for key, value in values.items():
        *parents, leaf = key.split(".")
        taken = [name for i in range(1, len(parents) + 1) if (name := ".".join(parents[:i])) in values]
        if taken:
            problems.append(f"{COMMAND_LINE}: {flag}: expected one of {shorten(taken[0])} and {shorten(key)}, got both")
            continue
        inner = out
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[leaf] = value
    return out


def main(argv: list[str] | None = None) -> int:
    """Run one command line; the exit code is that of `torchlight.system.command.run`."""
    code = run(act, argv)
    if "RANK" in os.environ:  # leave at once: gloo's threads abort an interpreter that exits after another rank is gone
        os._exit(code)
    return code


def act(argv: list[str]) -> int:
    """Run one command line, in this process or in one process per device."""
    slurm.join()
    set_up_logging()
    options = parse(argv)
    for word in options.pop("import", []):
        admit(word)
    set_data_root(options.get("data_root"))  # the configuration may be below it
    config = load_config(options.pop("config", None), options)
    set_data_root(config.data_root)
    if config.weights and config.phase in (*RUN, "export-weights"):
        config.weights = str(local_file(config.weights))
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        config.resume, config.overwrite = True, False  # torchrun restarted a failed run: continue it
    if len(config.device) > 1 and config.phase in RUN and "RANK" not in os.environ:
        return launch(argv, len(config.device))
    phases.run(config)
    return 0
