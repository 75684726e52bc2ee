"""Search for a student: train networks of a declared space, within a budget, and compare them on held-out performers.

    python -m torchlight.search --config config/search/NW-UCLA.yaml --trials 20
    python -m torchlight.search --config config/search/NW-UCLA.yaml --trials 5 -- --num-epoch 5 --step 4

Optuna chooses the networks. A command of main.py with --hold-out trains each of them for a few epochs, so the test
part is never read. The folder of the search contains the log, the table of all students (students.csv), and the
configuration of the best student for main.py (best.yaml). The same command continues a search; a larger --trials
extends it. A student that cannot be trained is left out.
"""

import argparse
import csv
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from torchlight.commands.programs import ProgramError, train
from torchlight.config.imports import import_object
from torchlight.config.load import load_config
from torchlight.config.options import Config, ConfigError
from torchlight.protocol import clips_of, read_recipe
from torchlight.runtime.logs import close_logging, set_up_logging
from torchlight.search.space import Point, Size, Space, read_search, size_of
from torchlight.system.command import Parser, RunError, path, run
from torchlight.system.files import atomic, read_text
from torchlight.system.lock import FolderLock
from torchlight.system.packages import optional
from torchlight.system.paths import locate, set_data_root
from torchlight.system.text import counted
from torchlight.training.build import build_model, preflight, stated_shape
from torchlight.training.run_dir import read_metrics
from torchlight.training.teacher import SHARED_ARGUMENTS

log = logging.getLogger("torchlight")
INSTALL = "pip install -r requirements/search.txt"
OWN = ("--config", "--phase", "--work-dir", "--resume", "--overwrite", "--model", "--model-args")  # flags set here
DRAWS = 200  # the search ends after so many draws in a row without a new network within the budget
FAILURES = 3  # the search ends after so many students in a row that cannot be trained
COLUMNS = ("student", "parameters", "multiply_adds", "held_out_top1", "train_seconds")
DECLARED, TABLE, BEST, JOURNAL, STUDENT = "search.yaml", "students.csv", "best.yaml", "journal.log", "student.yaml"


@dataclass(frozen=True)
class Student:
    """A trained network: point of the space, name, size, top-1 on the held-out clips, and training time in seconds."""

    point: Point
    name: str
    size: Size
    top1: float
    seconds: float


@dataclass(frozen=True)
class Common:
    """Settings of all trainings of a search. recipe: with its full schedule. flags: options of the short trainings."""

    folder: Path
    space: Space
    recipe: Config
    flags: Sequence[str]

    def config(self, point: Point) -> Config:
        """The recipe with the network at a point."""
        model, own = self.space.network(point)
        shared = {key: self.recipe.model_args[key] for key in SHARED_ARGUMENTS if key in self.recipe.model_args}
        return replace(self.recipe, model=model, model_args=shared | own)

    def size(self, point: Point) -> Size:
        """The size of a network for a test clip; raises ConfigError for arguments that the network refuses."""
        config, title = self.config(point), self.space.title(point)
        try:
            network = build_model(config, preflight(replace(config, phase="model_size"), ("model",))["model"])
        except ConfigError as error:
            raise ConfigError([f"{title}: {problem}" for problem in error.problems]) from error
        shape = stated_shape(config, import_object(config.feeder))
        if shape is None:
            raise ConfigError([f"{title}: expected a recipe that states the shape of its clips"])
        return size_of(network, shape)

    def place(self, point: Point) -> Path:
        """The run directory of a network."""
        return self.folder / self.space.title(point)

    def train(self, point: Point, size: Size) -> Student:
        """Train a network, or continue its training."""
        place = self.place(point)
        place.mkdir(exist_ok=True)
        with atomic(place / STUDENT, "w") as file:
            file.write(self.config(point).to_yaml())
        train(place, ["--config", str(place / STUDENT), *self.flags, "--work-dir", str(place)])
        return self.read(point, size)

    def read(self, point: Point, size: Size) -> Student:
        """The result of a finished training; raises ValueError if its folder was removed."""
        lines = read_metrics(self.place(point))
        if not lines:
            raise ValueError(f"{self.place(point)}: expected a finished training, got none; give another --work-dir")
        seconds = sum(line["train_seconds"] for line in lines)
        return Student(point, self.space.title(point), size, lines[-1]["test_top1"], seconds)


def build_parser() -> Parser:
    """The options."""
    parser = Parser(
        prog="python -m torchlight.search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.option("config", type=path, required=True, metavar="FILE", help="space, budget and recipe: config/search/")
    parser.option("trials", type=int, default=20, help="number of students, with those of earlier calls (%(default)s)")
    parser.option("seed", type=int, default=1, help="seed of the choice of networks (%(default)s)")
    parser.option(
        "work-dir", type=path, metavar="DIR", help="folder of the search; default: work_dir/search/<name of the file>"
    )
    parser.option("data-root", type=path, metavar="DIR", help="folder of prepared data ($SKELETON_DATA, else data)")
    return parser


def act(argv: list[str]) -> None:
    """Run one command line: train students, and write the table and the best student after each training."""
    set_up_logging()
    cut = argv.index("--") if "--" in argv else len(argv)
    args, more = build_parser().parse_args(argv[:cut]), argv[cut + 1 :]
    if args.trials < 1 or args.seed < 0:
        raise ConfigError([f"trials, seed: expected 1 or more and 0 or more, got {args.trials} and {args.seed}"])
    set_data_root(args.data_root)
    optuna = optional("optuna", INSTALL)
    common, declared = prepare(args, more)
    lock = FolderLock(common.folder)
    try:
        set_up_logging(common.folder / "log.txt")
        check_same(common.folder / DECLARED, declared)
        log.info("$ python -m torchlight.search %s", shlex.join(argv))
        students = search(optuna, common, args.trials, args.seed)
        show(students, common.folder)
    finally:
        close_logging()
        lock.release()


def prepare(args: argparse.Namespace, more: Sequence[str]) -> tuple[Common, str]:
    """The settings of all trainings, and the declaration of the search as text.

    Raises:
        ConfigError: all mistakes in the file, the recipe or the flags, or clips that cannot be used.
    """
    file = locate(args.config)
    declared, space = read_search(file)
    flags, recipe = [*shlex.split(declared.flags), *more], str(file.parent / declared.recipe)
    given = [word.partition("=")[0].partition(".")[0].replace("_", "-") for word in flags]
    problems = [f"{flag}: expected nothing, because the search sets it" for flag in OWN if flag in given]
    if problems:
        raise ConfigError(problems)
    short = read_recipe(recipe, flags)
    if not short.hold_out:
        raise ConfigError([f"{file}: flags: expected --hold-out, got none; a search does not read the test part"])
    folder = args.work_dir or Path("work_dir/search") / file.stem
    facts = {"networks": {name: asdict(family) for name, family in space.families.items()}}
    facts |= {"budget": asdict(space.budget), "first": space.first, "training": yaml.safe_load(short.to_yaml())}
    common = Common(folder, space, load_config(recipe), flags)
    for family in space.families:  # build one network of each family, to find most mistakes before the first training
        common.size(space.draw(lambda name, values, family=family: family if name == "network" else values[0]))
    clips_of(short)
    return common, yaml.safe_dump(facts, sort_keys=False)


def check_same(file: Path, declared: str) -> None:
    """Write the declaration of a new search; raises ValueError if the folder contains another search."""
    if not file.exists():
        with atomic(file, "w") as stream:
            stream.write(declared)
    elif read_text(file) != declared:
        raise ValueError(
            f"{file}: expected the space, budget and training of this search, got others; give another --work-dir"
        )


def search(optuna: Any, common: Common, trials: int, seed: int) -> list[Student]:
    """Train networks until there are `trials` students or no new network is found; returns them, the best first.

    Raises:
        RunError: a training was interrupted, or `FAILURES` students in a row, or all of them, could not be
            trained.
    """
    study, states = open_study(optuna, common, seed), optuna.trial.TrialState
    students = {
        common.space.title(trial.params): common.read(trial.params, common.size(trial.params))
        for trial in study.get_trials(states=[states.COMPLETE])
    }
    write_results(common, list(students.values()))
    draws, sizes, failed, in_a_row = 0, {}, set(), 0
    while len(students) < trials and draws < DRAWS:
        trial, draws = study.ask(), draws + 1
        point = common.space.draw(trial.suggest_categorical)
        title = common.space.title(point)
        if title in students or title in failed:  # Optuna ignores failed trials but learns from pruned ones
            study.tell(trial, state=states.FAIL)
            continue
        try:
            if title not in sizes:
                sizes[title] = common.size(point)
            if excess := common.space.excess(size := sizes[title]):
                study.tell(trial, state=states.PRUNED)
                log.debug("%s: over the budget, %s", title, excess)
                continue
            draws = 0
            log.info(
                "student %d of %d: %s, %s parameters, %.4f G multiply-adds",
                *(len(students) + 1, trials, title, f"{size.parameters:,}", size.multiply_adds / 1e9),
            )
            student = common.train(point, size)
        except (ConfigError, ProgramError) as error:  # after an interruption, the trial is repeated first
            study.tell(trial, state=states.FAIL)
            log.warning("%s is left out: %s", title, error)
            failed.add(title)
            in_a_row += isinstance(error, ProgramError)
            if in_a_row == FAILURES:
                raise RunError(
                    f"{FAILURES} students in a row could not be trained; see their messages above"
                ) from error
            continue
        students[title], in_a_row = student, 0
        study.tell(trial, student.top1)
        best = write_results(common, list(students.values()))
        log.info("%s: held-out top-1 %.2f %%; the best is %s, %.2f %%", title, student.top1, best.name, best.top1)
    if not students and failed:
        raise RunError("no student could be trained; see the messages above")
    if not students:
        raise ValueError(f"budget: expected one that some networks of the space meet, got none in {DRAWS} draws")
    if len(students) < trials:
        log.warning("%d draws gave no new network within the budget; the search ends", DRAWS)
    return ranked(list(students.values()))


def open_study(optuna: Any, common: Common, seed: int) -> Any:
    """The study in the folder of the search; interrupted trials are repeated first."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = optional("optuna.storages.journal", INSTALL).JournalFileBackend(str(common.folder / JOURNAL))
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name="students",
        direction="maximize",
        load_if_exists=True,
    )
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    waiting = [] if study.trials else common.space.first
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        waiting = [*waiting, trial.params]
    for point in waiting:
        study.enqueue_trial(point)
    return study


def ranked(students: Sequence[Student]) -> list[Student]:
    """The students, best first; at equal accuracy, the smaller network first."""
    return sorted(students, key=lambda s: (-s.top1, s.size.multiply_adds))


def write_results(common: Common, students: Sequence[Student]) -> Student | None:
    """Write the table of all students and the recipe with the best network, which is returned."""
    if not students:
        return None
    with atomic(common.folder / TABLE, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for s in ranked(students):
            size = (s.size.parameters, s.size.multiply_adds)
            writer.writerow((s.name, *size, f"{s.top1:.2f}", f"{s.seconds:.0f}"))
    best = ranked(students)[0]
    with atomic(common.folder / BEST, "w") as file:
        file.write(f"# {best.name}: the best of {len(students)} students of torchlight.search\n")
        file.write(replace(common.config(best.point), work_dir=str(common.folder / "best")).to_yaml())
    return best


def show(students: Sequence[Student], folder: Path) -> None:
    """Log the ranking and the command that trains the best student."""
    width = max(len(s.name) for s in students)
    log.info("%s of the search, the best first", counted(len(students), "student"))
    log.info("%s", f"{'student':{width}}  parameters  multiply-adds  held-out top-1")
    for s in students:
        log.info(
            "%s",
            f"{s.name:{width}}  {s.size.parameters:10,}  {s.size.multiply_adds / 1e9:11.4f} G  {s.top1:14.2f}",
        )
    log.info("python main.py --config %s", folder / BEST)


def main(argv: list[str] | None = None) -> int:
    """Run one command line; the exit code is that of `torchlight.system.command.run`."""
    return run(act, argv)


if __name__ == "__main__":
    sys.exit(main())
