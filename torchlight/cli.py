"""The command line of main.py: flags derived from the configuration's fields."""

import argparse
import logging
import os
import re
import typing
from typing import Any

import yaml

from torchlight import phases
from torchlight.config import legacy
from torchlight.config.load import load_config
from torchlight.config.options import FIELDS, TYPES, ConfigError
from torchlight.runtime import slurm
from torchlight.runtime.launch import launch
from torchlight.runtime.logs import set_up_logging
from torchlight.system.command import Parser, run
from torchlight.system.text import nearest

log = logging.getLogger("torchlight")


def build_parser() -> Parser:
    """One flag per field: --base-lr or --base_lr; mappings take KEY=VALUE pairs or --train-feeder-args.window_size 64."""
    parser = Parser(prog="python main.py", description="Train and test skeleton-based action recognition.")
    for name, field in FIELDS.items():
        flags = sorted({f"--{name}", f"--{name.replace('_', '-')}"}, reverse=True)
        kind = TYPES[name]
        settings: dict[str, Any] = {
            "dest": name,
            "default": argparse.SUPPRESS,
            "help": field.metadata["help"].replace("%", "%%"),
        }
        if kind is dict:
            settings |= {"nargs": "+", "action": "extend", "metavar": "KEY=VALUE", "type": key_value}
        elif typing.get_origin(kind) is list:
            settings |= {"nargs": "*", "metavar": name.upper()}
        elif kind is bool:
            settings |= {"nargs": "?", "const": "true", "metavar": "true|false"}
        elif typing.get_origin(kind) is typing.Literal:
            settings |= {"metavar": "|".join(typing.get_args(kind))}
        parser.add_argument(*flags, **settings)
    for name in legacy.flag_names(set(FIELDS)):
        flags = {f"--{name}", f"--{name.replace('_', '-')}"}
        parser.add_argument(*sorted(flags), dest=name, nargs="*", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def key_value(text: str) -> tuple[str, Any]:
    """'drop_out=0.5' -> ('drop_out', 0.5), the value read as YAML."""
    key, _, value = text.partition("=")
    if not key or not value:
        raise argparse.ArgumentTypeError(f"found {text!r}; KEY=VALUE is needed, and null for no value")
    return key, read_value(text, value)


def read_value(found: str, value: str) -> Any:
    """A word of the command line as YAML reads it; `found` is what an error names."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError([f"command line: found {found!r}; a value in the manner of YAML is needed"]) from error


def parse(argv: list[str]) -> dict[str, Any]:
    """The options given on a command line, by field name.

    Raises:
        ConfigError: unknown flags (with the nearest known one) and malformed ones.
    """
    words: list[str] = []
    for word in legacy.translate_words(argv):
        nested = re.fullmatch(r"--([\w-]+)\.([\w.]+)(?:=(.*))?", word)
        if nested and TYPES.get(nested[1].replace("-", "_")) is dict:
            words += [f"--{nested[1]}", nested[2] + "=" + (nested[3] or "")]
        elif (
            len(words) > 1
            and words[-2].startswith("--")
            and re.fullmatch(r"[\w.]+=", words[-1])
            and not word.startswith("--")
        ):
            words[-1] += word
        else:
            words.append(word)
    known, unknown = build_parser().parse_known_args(words)
    flags = [f"--{name.replace('_', '-')}" for name in FIELDS]
    problems = []
    for before, word in zip(["", *unknown], unknown, strict=False):
        if word.startswith("--"):
            problems.append(
                f"command line: {word}: unknown flag; {nearest(word.partition('=')[0].replace('_', '-'), flags)}"
            )
        elif not before.startswith("--"):  # or it is the value of an unknown flag
            problems.append(f"command line: {word}: found a word that belongs to no flag; write --flag value")
    if problems:
        raise ConfigError(problems)
    options = vars(known)
    for name, value in options.items():
        if name not in TYPES:
            options[name] = legacy.flag_value(value)
        elif TYPES[name] is dict:
            options[name] = {}
            for key, item in value:
                target = options[name]
                *parents, leaf = key.split(".")
                for parent in parents:
                    target = target.setdefault(parent, {})
                target[leaf] = item
        elif isinstance(value, str) and TYPES[name] not in (str, str | None):
            options[name] = read_value(f"--{name} {value}", value)
        elif isinstance(value, list) and TYPES[name] != list[str]:
            options[name] = [read_value(f"--{name} {item}", item) for item in value]
    return options


def main(argv: list[str] | None = None) -> int:
    """Run one command line; the exit code is that of `torchlight.system.command.run`."""
    code = run(act, argv)
    if "RANK" in os.environ:  # one of a group: gloo's threads abort an exit in which another process is already gone
        os._exit(code)
    return code


def act(argv: list[str]) -> int:
    """Run one command line, in this process or in one process per device."""
    slurm.join()
    set_up_logging()
    options = parse(argv)
    config = load_config(options.pop("config", None), options)
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        config.resume, config.overwrite = True, False  # torchrun starts a broken run again: go on with it
    if len(config.device) > 1 and config.phase in ("train", "test") and "RANK" not in os.environ:
        return launch(argv, len(config.device))
    phases.run(config)
    return 0
