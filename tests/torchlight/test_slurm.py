"""Tasks that srun starts become one process group, and the shells of SLURM do not."""

import os
from pathlib import Path

import pytest

from tests.torchlight import tiny
from torchlight.runtime import slurm

STEP = {"SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"}
TASK = STEP | {"SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "0", "SLURM_STEP_TASKS_PER_NODE": "2"}


def joined(environment: dict[str, str]) -> dict[str, str]:
    """The variables that joining adds."""
    found = dict(environment)
    slurm.join(found)
    assert {key: found[key] for key in environment} == environment
    return {key: value for key, value in found.items() if key not in environment}


def test_a_task_of_a_step_on_one_node_joins_the_others_there():
    port = joined(TASK)["MASTER_PORT"]
    assert joined(TASK) == {
        **{"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
    }
    assert 20_000 <= int(port) < 32_000
    assert joined(TASK | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"})["MASTER_PORT"] == port
    for other in ({"SLURM_JOB_ID": "4712"}, {"SLURM_STEP_ID": "1"}):
        assert joined(TASK | other)["MASTER_PORT"] != port


def test_tasks_on_several_nodes_use_the_address_of_the_first_one():
    nodes = {"SLURM_STEP_TASKS_PER_NODE": "2(x2),1", "SLURM_STEP_NUM_TASKS": "5", "SLURM_STEP_NODELIST": "gpu[02-03,7]"}
    found = joined(TASK | nodes | {"SLURM_PROCID": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "2"})
    assert (found["RANK"], found["LOCAL_RANK"], found["LOCAL_WORLD_SIZE"]) == ("4", "0", "1")
    assert found["MASTER_ADDR"] == "gpu02"
    for text, first in (("a1", "a1"), ("a1,b2", "a1"), ("n[1-3]-ib,m[1-2]", "n1-ib"), ("n[10,12]", "n10")):
        assert slurm.first_node({"SLURM_JOB_NODELIST": text}) == first
    assert slurm.first_node({"SLURM_LAUNCH_NODE_IPADDR": "10.0.0.5"}) == "10.0.0.5"


def test_a_given_address_is_kept():
    assert "MASTER_ADDR" not in joined(TASK | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"})


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {key: value for key, value in TASK.items() if key != "SLURM_STEP_ID"},  # the shell of salloc or sbatch
        TASK | {"SLURM_STEP_ID": str(2**32 - 5)},  # a batch script
        TASK | {"SLURM_STEP_ID": str(2**32 - 6), "SLURM_STEP_NUM_TASKS": "1"},  # an interactive shell
        TASK | {"SLURM_STEP_NUM_TASKS": "1"},
        TASK | {"RANK": "0", "WORLD_SIZE": "4"},  # torchrun within srun
    ],
    ids=["none", "salloc", "batch", "interactive", "one task", "torchrun"],
)
def test_no_group_is_joined_outside_of_a_step_of_several_tasks_or_under_torchrun(environment):
    assert joined(environment) == {}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"SLURM_LOCALID": None}, "SLURM_LOCALID: expected a whole number in a SLURM step of several tasks"),
        ({"SLURM_JOB_ID": "x"}, "SLURM_JOB_ID: expected a whole number in a SLURM step of several tasks, got 'x'"),
        ({"SLURM_STEP_TASKS_PER_NODE": "2(y3)"}, r"expected counts such as 2\(x3\),1"),
        ({"SLURM_NODEID": "7"}, "SLURM_NODEID: expected a number below 1, got 7"),
        ({"SLURM_PROCID": "2"}, "SLURM: expected a task number below 2 and a local one below 2, got 2 and 1"),
        ({"SLURM_STEP_TASKS_PER_NODE": "1,1", "SLURM_LOCALID": "0"}, "SLURM_JOB_NODELIST: expected the nodes"),
    ],
)  # fmt: skip
def test_a_step_that_cannot_be_joined_is_refused(change, line):
    environment = {key: value for key, value in (TASK | change).items() if value is not None}
    with pytest.raises(ValueError, match=line):
        slurm.join(environment)


def test_two_tasks_train_one_run_and_leave_other_phases_to_the_first(tmp_path, experiment):
    run, tasks = tmp_path / "run", []
    step = TASK | {"MASTER_PORT": str(tiny.free_port())}
    config = experiment(num_epoch=1, **tiny.PLAIN)
    for phase, text in (("train", "batch size 8 = 4 per process x 2 process(es)"), ("show", "num_epoch")):
        outputs = [tmp_path / f"{phase}.{rank}" for rank in range(2)]
        tasks = [
            tiny.start(
                *("--config", config, "--work-dir", run, "--phase", phase),
                output=output,
                **step | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            )
            for rank, output in enumerate(outputs)
        ]
        assert tiny.finish(*tasks) == 0, [output.read_text() for output in outputs]
        assert text in outputs[0].read_text() and Path(outputs[1]).read_text() == ""
    assert len(tiny.metrics(run)) == 1 and "SLURM_PROCID" not in os.environ
