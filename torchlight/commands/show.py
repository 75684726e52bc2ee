"""`--phase show`: the resolved configuration, checked as far as possible without reading data."""

from dataclasses import replace

import yaml

from torchlight.config.options import FIELDS, Config
from torchlight.system.files import open_regular
from torchlight.training import build
from torchlight.training.run_dir import default_work_dir
from torchlight.zoo.catalog import PREFIX, find


def show(config: Config) -> None:
    """Print the resolved configuration, each value with its origin, and the default of work_dir.

    Raises:
        ValueError: training could not start with this configuration for any data, or its weights do not exist.
    """
    folder = None if config.work_dir else default_work_dir(config)
    shown = replace(config, work_dir=str(folder)) if folder else config
    for name in FIELDS:
        value = yaml.safe_dump({name: getattr(shown, name)}, default_flow_style=True, width=1000).strip()[1:-1]
        print(f"{value:<90} # {config.origins.get(name, 'default')}")
    check_weights(config)
    if config.model is not None or config.feeder is not None:  # else there is no experiment, only the defaults
        check_experiment(config)


def check_experiment(config: Config) -> None:
    """Raise ConfigError if training could not start with this configuration for any data."""
    checked = replace(config, phase="train")
    classes = build.preflight(checked, ("feeder", "model", "objective"))
    build.build_model(checked, classes["model"])
    build.build_objective(checked, classes["objective"])


def check_weights(config: Config) -> None:
    """Raise ValueError if a file of weights cannot be opened, or the zoo has no entry of its name."""
    for weights in filter(None, (config.weights, *config.further_weights, config.finetune)):
        if weights.startswith(PREFIX):
            find(weights)
        else:
            with open_regular(weights):
                pass
