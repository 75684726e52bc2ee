"""`--phase robustness`: the accuracy on test clips that are degraded step by step."""

import logging
from dataclasses import replace
from functools import partial

from torchlight.config.options import Config, ConfigError
from torchlight.contract import DescribedFeeder, RawClipFeeder, multi_label_targets
from torchlight.predict.robustness import CURVES, DegradedClips, figures, write
from torchlight.runtime import distributed
from torchlight.system.text import nearest
from torchlight.training.build import feeder_extras
from torchlight.training.experiment import open_experiment, predict
from torchlight.training.run_dir import ROBUSTNESS

log = logging.getLogger("torchlight")


def measure(config: Config) -> None:
    """Measure the curves that the configuration names, log them, write a table and a picture into the run directory.

    Raises:
        ConfigError: there are no weights, a curve is unknown, or the feeder gives no raw clips.
    """
    if not config.weights:
        raise ConfigError(["weights: missing; --phase robustness needs the file to test"])
    names = config.curves or list(CURVES)
    if unknown := [name for name in names if name not in CURVES]:
        raise ConfigError([f"curves: unknown curve {unknown[0]}; {nearest(unknown[0], CURVES)}"])
    config = replace(config, data_on_device=False)  # clips are changed on the host, in worker processes
    with open_experiment(config, ("test",)) as experiment:
        feeder, rows = experiment.feeders["test"], []
        if not (isinstance(feeder, RawClipFeeder) and isinstance(feeder, DescribedFeeder)):
            raise ConfigError([f"feeder: expected raw_clip, from_clips and a skeleton, got {config.feeder}"])
        if multi_label_targets(feeder) is not None:
            raise ConfigError(["phase: expected clips with one label each for robustness, got clips with several"])
        arguments = config.test_feeder_args | feeder_extras(config, "test")
        whole = predict(experiment, experiment.model)
        for name in names:
            log.info("%s (%s)", CURVES[name].title, CURVES[name].unit)
            for level in CURVES[name].levels:
                is_whole = level == CURVES[name].levels[0]
                degraded = DegradedClips(feeder, arguments, name, level)
                found = whole if is_whole else predict(experiment, experiment.model, degraded)
                rows.append(figures(name, level, found.scores, found.label))
                log.info("%8g  top-1 %6.2f %%, macro %6.2f %%", level, rows[-1]["top1"], rows[-1]["macro"])
        distributed.on_main(partial(write, experiment.run_dir.path, rows))
        log.info("wrote %s and robustness.png", experiment.run_dir.path / ROBUSTNESS)
