"""Processes that `srun` starts without torchrun: the variables of torch.distributed from those of SLURM."""

import os
import re
from collections.abc import MutableMapping

NO_TASKS = 2**32 - 16  # step ids from this number on belong to batch scripts and interactive shells


def join(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT in a task of a SLURM step of
    several tasks.

    Nothing is changed under torchrun, in a step of one task, and in the shell of `salloc` or `sbatch`, which is not a
    task.

    Raises:
        ValueError: a variable is missing or malformed.
    """
    step = environment.get("SLURM_STEP_ID", environment.get("SLURM_STEPID", ""))
    is_step = step.isdecimal() and int(step) < NO_TASKS
    if "RANK" in environment or not is_step or "SLURM_PROCID" not in environment:
        return
    tasks = read_number(
        environment, "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    )
    if tasks == 1:
        return
    rank, local_rank = read_number(environment, "SLURM_PROCID"), read_number(environment, "SLURM_LOCALID")
    on_node = tasks_on_node(environment, tasks)
    if rank >= tasks or local_rank >= on_node:
        raise ValueError(
            f"SLURM: expected a task number below {tasks} and a local one below {on_node}, got {rank} and "
            f"{local_rank}; start the processes with torchrun instead"
        )
    environment |= {"RANK": str(rank), "WORLD_SIZE": str(tasks)}
    environment |= {"LOCAL_RANK": str(local_rank), "LOCAL_WORLD_SIZE": str(on_node)}
    environment.setdefault("MASTER_ADDR", "127.0.0.1" if on_node == tasks else first_node(environment))
    number = read_number(environment, "SLURM_JOB_ID") * 31 + int(step)  # steps of one job may run at the same time
    environment.setdefault("MASTER_PORT", str(20_000 + number % 12_000))  # below the ephemeral ports of Linux


def read_number(environment: MutableMapping[str, str], name: str) -> int:
    """The integer, 0 or more, in a variable; raises ValueError."""
    text = environment.get(name)
    if text is None or not text.isdecimal():
        found = "nothing" if text is None else repr(text)
        raise ValueError(
            f"{name}: expected a whole number in a SLURM step of several tasks, got {found}; "
            "start the processes with torchrun, or one task with srun --ntasks=1"
        )
    return int(text)


def tasks_on_node(environment: MutableMapping[str, str], tasks: int) -> int:
    """How many tasks of the step run on this node; "2(x3),1" means 2, 2, 2 and 1 on four nodes."""
    text = environment.get("SLURM_STEP_TASKS_PER_NODE", environment.get("SLURM_TASKS_PER_NODE"))
    if text is None:
        return tasks
    counts: list[int] = []
    for word in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", word)
        if match is None:
            raise ValueError(f"SLURM_STEP_TASKS_PER_NODE: expected counts such as 2(x3),1, got {text!r}")
        counts += [int(match[1])] * int(match[2] or 1)
    node = read_number(environment, "SLURM_NODEID")
    if node >= len(counts):
        raise ValueError(f"SLURM_NODEID: expected a number below {len(counts)}, got {node}")
    return counts[node]


def first_node(environment: MutableMapping[str, str]) -> str:
    """The name of the node of task 0: the first one of a list such as gpu[01-04,7],login. Without a list: the address
    of the node that launched the step.

    Raises:
        ValueError: neither is known.
    """
    for name in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"):
        match = re.match(r"([^\[\],]+)(?:\[([^\],-]+)[^\]]*\]([^,]*))?", environment.get(name, ""))
        if match is not None:
            return "".join(part or "" for part in match.groups())
    if "SLURM_LAUNCH_NODE_IPADDR" in environment:
        return environment["SLURM_LAUNCH_NODE_IPADDR"]
    raise ValueError(
        "SLURM_JOB_NODELIST: expected the nodes of the job, got nothing; set MASTER_ADDR, or start with torchrun"
    )
