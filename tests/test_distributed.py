"""Training in two and in four gloo processes against one process with the same draws, and the command by torchrun."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import distributed_jobs as jobs
import pytest
import torch
import torch.multiprocessing

from soe_bench import checkpoint
from soe_bench.config import job_configs
from soe_bench.errors import UserError
from soe_bench.records import read_lines
from soe_bench.runs.execute import execute
from soe_bench.runs.resources import check_parallel
from soe_bench.runs.run import Run
from soe_bench.system import distributed

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["distributed_jobs"])  # imported once, for all processes


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A folder with the checkpoints of one process, and its losses by method."""
    folder = tmp_path_factory.mktemp("one")
    return folder, {name: jobs.trained(folder, name) for name in ("4", "0", "generic")}


def start(processes, folder, other):
    """The results of each process; they load the checkpoints in `other`."""
    torch.multiprocessing.start_processes(
        jobs.process, (processes, folder, other), processes, start_method="forkserver"
    )
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(processes)]


@pytest.fixture(scope="module")
def two(one, tmp_path_factory):
    return start(2, tmp_path_factory.mktemp("two"), one[0])


@pytest.fixture(scope="module")
def four(two, tmp_path_factory):
    return start(4, tmp_path_factory.mktemp("four"), two[0])


@pytest.fixture(scope="module", params=[2, 4])
def group(request):
    return request.getfixturevalue({2: "two", 4: "four"}[request.param])


@pytest.mark.parametrize("name", ["4", "0", "generic"])
def test_the_losses_and_the_state_are_those_of_one_process(one, group, name):
    """Soup, dense on pi and generic: losses, parameters and moments, from the first step on."""
    for result in group[1]:
        assert result[name] == pytest.approx(one[1][name], abs=1e-12)
    for when in ("half", "end"):
        expected, _ = checkpoint.load(one[0] / f"{name}-{when}.safetensors")
        tensors, state = checkpoint.load(group[0] / f"{name}-{when}.safetensors")
        assert tensors.keys() == expected.keys() and state == {"step": {"half": jobs.HALF, "end": jobs.STEPS}[when]}
        for key, value in expected.items():
            torch.testing.assert_close(tensors[key], value, rtol=0, atol=1e-11, msg=key)


def test_a_checkpoint_is_resumed_by_another_number_of_processes(one, two, four):
    """Of one process by two, of two by four, of four by one."""
    rest = pytest.approx(one[1]["4"][jobs.HALF :], abs=1e-12)
    assert all(result["resumed"] == rest for _, results in (two, four) for result in results)
    assert jobs.resumed(four[0] / "4-half.safetensors", "4") == rest


def test_specialists_and_gradients_in_h_are_those_of_one_process(one, group):
    theta, slope = jobs.delivered(one[0])
    assert slope.abs().max() > 1e-3
    for result in group[1]:
        torch.testing.assert_close(result["delivered"], (theta, slope), rtol=0, atol=1e-12)


def test_a_loss_that_is_not_finite_in_one_process_stops_all_with_nothing_changed(group):
    assert [result["diverged"] for result in group[1]] == [("the loss is nan", True)] * len(group[1])


def test_a_full_disk_reaches_all(group):
    for result in group[1]:
        for refused in (result["refused"], *result["refused_curve"]):
            assert "cannot write" in refused and "run the same command again" in refused
        assert len(result["refused_curve"]) == 2


def test_a_stop_and_an_error_reach_all_and_disagreement_is_seen(group):
    for stopped, error, differs in (result["agreed"] for result in group[1]):
        assert stopped and error == "refused by 0" and "do not agree (False, " in differs


def test_parameter_traffic_does_not_grow_with_the_experts(group):
    """Each all-to-all takes R P / W numbers of a process, and the one all-reduce R n for the router, R^2 and a loss."""
    processes, size = len(group[1]), jobs.built("2").flat.size
    width = -(-size // processes)
    assert width * processes > size  # the last slice is padded
    for result in group[1]:
        for n in (2, 6):
            assert result["traffic"][n] == {
                "all_to_all": 8 * 2 * jobs.DRAWS * width,
                "all_reduce": 8 * (jobs.DRAWS * n + jobs.DRAWS**2 + 1),
            }


def test_where_a_process_is_gone_the_others_end(group):
    for rank in range(len(group[1]) - 1):
        assert "another process of this training ended" in torch.load(group[0] / f"{rank}-left.pt")


@pytest.mark.parametrize(
    "extra, message",
    [
        (["method=hypernetwork"], "torchrun works for the soup and dense models: run hypernetwork in one process"),
        (["method=merge_linear"], "run merge_linear in one process"),
        (["train.draws_per_step=1"], "train.draws_per_step (1) must be a multiple of the 2 processes"),
    ],
)
def test_what_torchrun_cannot_do_is_said_before_any_work(arguments, monkeypatch, extra, message):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    with pytest.raises(UserError) as error:
        check_parallel(Run.of(job_configs([*arguments, *extra])[0][0]))
    assert message in str(error.value)


@pytest.mark.slow
def test_the_command_by_torchrun_is_stopped_and_goes_on(arguments, tmp_path, compose):
    """A warm start (dense, data-parallel) and the soup in two processes. SIGTERM to the second alone stops both at one
    step; torchrun goes on from there, evaluates, and gives the records of one process."""
    own = ["method.n_experts=4", f"train.tokens={160 * 16 * 64}", "evaluate.splits=[validation]"]
    own += ["method.lr=6e-3", "method.expert_lr_ratio=0.3"]  # low, so that differences in rounding grow slowly
    home, port = tmp_path / "home", free_port()
    outs = [tmp_path / "first.txt", tmp_path / "second.txt"]
    workers = [
        FORKSERVER.Process(target=jobs.command, args=(rank, port, [*arguments, *own], outs[rank])) for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    deadline = time.monotonic() + 300
    while not list(home.glob("runs/*/checkpoint-*.safetensors")):
        assert time.monotonic() < deadline and all(worker.is_alive() for worker in workers)
        time.sleep(0.02)
    os.kill(workers[1].pid, signal.SIGTERM)
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [130, 130]
    assert outs[0].read_text().count(f"{'':12}stopped at step") == 1 and not outs[1].read_text()

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "soe_bench"]
    done = subprocess.run(
        [*torchrun, *arguments, *own], cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  done\n") == 1 and done.stderr.count("resuming at step") == 1

    cfg = compose(*own)
    run = Run.of(cfg)
    facts = json.loads((run.folder / "training.json").read_text())
    assert facts["device"].startswith("2 x cpu")
    bare = "import soe_bench.runs.execute; from soe_bench.system.machine import peak_memory; print(peak_memory('cpu'))"
    least = int(subprocess.run([sys.executable, "-c", bare], capture_output=True, text=True, check=True).stdout)
    assert facts["peak_memory_bytes"] > 2 * least  # of both processes
    losses = [record["loss"] for record in read_lines(run.records)]
    run.records.unlink()
    execute(cfg)  # evaluates what the two processes trained
    assert losses == pytest.approx([record["loss"] for record in read_lines(run.records)], abs=1e-5)

    (home / "runs").rename(home / "in_two")
    execute(cfg)  # trains it all
    for folder in home.glob("runs/*"):
        curves = [(home / runs_of / folder.name / "metrics.jsonl").read_text() for runs_of in ("runs", "in_two")]
        for a, b in zip(*(map(json.loads, curve.splitlines()) for curve in curves), strict=True):
            close = 2e-3 if a["step"] <= 10 else 0.02  # float32: a difference in rounding grows with the steps
            assert a["step"] == b["step"] and a["train_loss"] == pytest.approx(b["train_loss"], abs=close)
