"""Trainings on a Slurm cluster that things happen to: `make test-cluster`.

After each mishap the weights are those of an undisturbed training, bit for bit.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import slurm
import torch
from conftest import untestable
from slurm import ROOT, wait_for

TRAIN = ROOT / "launch" / "train.sbatch"
EPOCHS = 80
OPTIONS = ("--latent", 16, "--width", 4, "--epochs", EPOCHS, "--save-seconds", 0.3)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if lacking := slurm.missing():
        names = ", ".join(lacking)
        untestable(f"a cluster, because {names} are not installed (mend: {slurm.INSTALL})")
    with slurm.Cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(cluster, tmp_path_factory):
    """Weights of a training by two nodes to which nothing happened."""
    out = tmp_path_factory.mktemp("undisturbed") / "a.pt"
    job = submit(cluster, out)
    assert cluster.finish(job) == "COMPLETED", cluster.log(job)
    return weights(out)


def submit(cluster, out: Path, *options, nodes: int = 2, **environment) -> str:
    """A training on some nodes, one core each."""
    arguments = ["--nodes", nodes, "--cpus-per-task", 1, "--time", 10, TRAIN, "conv", out]
    return cluster.sbatch(*arguments, *OPTIONS, *options, **environment)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out, weights_only=True)["weights"]


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def under_way(cluster, job: str, out: Path) -> None:
    """Wait until a training has done some epochs and written a checkpoint."""
    kept = out.with_name(f"{out.name}.checkpoint")
    wait_for(f"epoch 10 of job {job}", lambda: cluster.state(job) and cluster.epoch(job) >= 10)
    assert kept.exists() and not out.exists()


def ends_well(cluster, job: str, out: Path, expected: dict) -> None:
    """Wait until a job is done, and compare its weights with what was expected."""
    assert cluster.finish(job) == "COMPLETED", cluster.log(job)
    assert same(weights(out), expected)


def attempts(cluster, job: str) -> int:
    return cluster.log(job).count(f"job {job}, attempt")


def test_preempted_by_a_more_important_job(cluster, undisturbed, tmp_path):
    out = tmp_path / "a.pt"
    job = submit(cluster, out)
    under_way(cluster, job, out)
    important = ["--partition", "high", "--nodes", 2, "--exclusive", "--wrap", "sleep 2"]
    other = cluster.sbatch(*important)
    assert cluster.finish(other) == "COMPLETED"
    assert not out.exists()
    ends_well(cluster, job, out, undisturbed)
    assert attempts(cluster, job) == 2
    assert "stopped after" in cluster.log(job)


def test_the_signal_before_the_time_limit(cluster, undisturbed, tmp_path):
    out = tmp_path / "a.pt"
    job = submit(cluster, out)
    under_way(cluster, job, out)
    # What Slurm sends to the script two minutes before the end.
    cluster.ask("scancel", "--batch", "--signal=USR1", job)
    wait_for("the job in the queue again", lambda: "queued again" in cluster.log(job))
    assert "stopped after" in cluster.log(job)
    ends_well(cluster, job, out, undisturbed)
    assert attempts(cluster, job) == 2


def test_killed_workers(cluster, undisturbed, tmp_path):
    out = tmp_path / "a.pt"
    job = submit(cluster, out)
    under_way(cluster, job, out)
    cluster.workers(out)[1].kill()
    wait_for("the training to go on", lambda: "goes on from" in cluster.log(job))
    wait_for("both workers", lambda: len(cluster.workers(out)) == 2)
    # torchrun has started both again, within the same job.
    assert attempts(cluster, job) == 1
    # This is the one that writes.
    cluster.workers(out)[0].kill()
    ends_well(cluster, job, out, undisturbed)
    # Each torchrun may restart its workers once. If the first one's death, seen from its node,
    # counted as its own worker's failure, Slurm has queued the job again instead.
    assert attempts(cluster, job) <= 2


def test_a_killed_torchrun(cluster, undisturbed, tmp_path):
    out = tmp_path / "a.pt"
    job = submit(cluster, out)
    under_way(cluster, job, out)
    cluster.workers(out)[1].parent().kill()
    ends_well(cluster, job, out, undisturbed)
    assert attempts(cluster, job) == 2


def test_a_lost_node(cluster, undisturbed, tmp_path):
    out = tmp_path / "a.pt"
    job = submit(cluster, out)
    under_way(cluster, job, out)
    # Its daemon, and what runs on the node with it.
    cluster.kill("n2")
    worker = cluster.workers(out)[1]
    for process in (worker.parent(), worker):
        process.kill()
    wait_for("the job in the queue again", lambda: cluster.state(job) == "PENDING", 60)
    cluster.start("n2")
    ends_well(cluster, job, out, undisturbed)
    # A node that comes back may fail the job once more before it is ready.
    assert attempts(cluster, job) >= 2


def test_a_killed_controller(cluster, undisturbed, tmp_path):
    out = tmp_path / "a.pt"
    job = submit(cluster, out)
    under_way(cluster, job, out)
    cluster.kill("ctld")
    seen = cluster.epoch(job)
    wait_for("the training to go on without it", lambda: cluster.epoch(job) > seen + 5)
    cluster.start("ctld")
    ends_well(cluster, job, out, undisturbed)
    assert attempts(cluster, job) == 1


# ---- On one node, against a training by one process ----


@pytest.fixture(scope="module")
def alone(cluster, tmp_path_factory):
    """Weights of the same training by one process, without Slurm."""
    out = tmp_path_factory.mktemp("alone") / "a.pt"
    run = started(cluster, out).communicate(timeout=150)
    assert out.exists(), run
    return weights(out)


def started(cluster, out: Path, *before, code: tuple = ("-m", "autoencoders")):
    """The training as a process of its own; `before` stands before Python."""
    command = [*before, sys.executable, *code, "train", "conv", "--out", out]
    return subprocess.Popen(
        [*map(str, [*command, *OPTIONS])],
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


TERM_WHILE_WRITING = """
import os, signal, sys
from autoencoders import __main__
written = 0
sync = os.fsync
def sync_and_term(file):
    global written
    written += 1
    if written == 3:
        os.kill(os.getpid(), signal.SIGTERM)
    sync(file)
os.fsync = sync_and_term
sys.exit(__main__.main())
"""


def test_sigterm_in_the_middle_of_a_writing(cluster, alone, tmp_path):
    out = tmp_path / "a.pt"
    first = started(cluster, out, code=("-c", TERM_WHILE_WRITING))
    _, said = first.communicate(timeout=120)
    assert first.returncode == 75, said
    job = submit(cluster, out, nodes=1)
    ends_well(cluster, job, out, alone)


def test_two_jobs_with_one_file(cluster, alone, tmp_path):
    out = tmp_path / "a.pt"
    jobs = [submit(cluster, out, nodes=1) for _ in range(2)]
    for job in jobs:
        assert cluster.finish(job) == "COMPLETED", cluster.log(job)
    # One of them has trained all of it, the other nothing.
    first, second = sorted(cluster.epoch(job) for job in jobs)
    assert first == 0 and second > EPOCHS // 2
    assert same(weights(out), alone)


@pytest.fixture(scope="module")
def begun(cluster, alone, tmp_path_factory):
    """A checkpoint of the training by one process, stopped on its way."""
    out = tmp_path_factory.mktemp("begun") / "a.pt"
    kept = out.with_name("a.pt.checkpoint")
    first = started(cluster, out)
    for line in first.stdout:
        if json.loads(line)["epoch"] == 10:
            break
    first.terminate()
    _, said = first.communicate(timeout=60)
    assert first.returncode == 75, said
    return kept.read_bytes()


def test_checkpoints_that_are_torn_foreign_or_newer(cluster, begun, tmp_path):
    messages = {"torn": "cannot be read", "foreign": "is of another run", "newer": "has format 99"}
    jobs = {}
    for fault in messages:
        kept = tmp_path / f"{fault}.pt.checkpoint"
        kept.write_bytes(begun)
        if fault == "torn":
            kept.write_bytes(begun[: len(begun) // 2])
        if fault == "newer":
            torch.save(torch.load(kept, weights_only=True) | {"format": 99}, kept)
        before = kept.read_bytes()
        seed = ("--seed", 1) if fault == "foreign" else ()
        # By itself it would be queued again some times.
        job = submit(cluster, tmp_path / f"{fault}.pt", *seed, nodes=1, RESTARTS="0")
        jobs[fault] = (job, kept, before)
    for fault, (job, kept, before) in jobs.items():
        assert cluster.finish(job) == "FAILED", cluster.log(job)
        assert messages[fault] in cluster.log(job)
        # It is the reader's to keep or to delete.
        assert kept.read_bytes() == before


def test_a_full_disk(cluster, alone, begun, tmp_path):
    """A limit on the size of files stands for it: it also works for who is not root."""
    out = tmp_path / "a.pt"
    kept = out.with_name("a.pt.checkpoint")
    kept.write_bytes(begun)
    full = started(cluster, out, "prlimit", "--fsize=1000")
    _, said = full.communicate(timeout=120)
    assert full.returncode == 1
    assert "cannot be written" in said and "is untouched" in said and "Traceback" not in said
    assert kept.read_bytes() == begun
    # With room again it goes on from the last good one.
    printed, said = started(cluster, out).communicate(timeout=150)
    assert json.loads(printed.splitlines()[0])["epoch"] > 10, said
    assert same(weights(out), alone)


# ---- A sweep ----

SWEEP = """
train = "conv"
[grid]
latent = [16, 64]
seed = [1]
[fixed]
width = 4
epochs = 200
[machine]
threads = 1
minutes = 10
"""


SUBMIT = ROOT / "launch" / "submit.py"


@pytest.fixture
def sweep(cluster, monkeypatch, capsys):
    """What `launch/submit.py` prints; within this process, as each start takes seconds."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, cluster.environment[name])
    spec = importlib.util.spec_from_file_location("submit", SUBMIT)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)

    def call(*arguments) -> str:
        capsys.readouterr()
        assert program.main([*map(str, arguments)]) == 0, capsys.readouterr().err
        return capsys.readouterr().out.strip()

    return call


def test_a_sweep_interrupted_and_asked_for_again(cluster, sweep, tmp_path):
    file, folder = tmp_path / "sweep.toml", tmp_path / "runs"
    file.write_text(SWEEP, "utf-8")
    first = [sys.executable, SUBMIT, "submit", file, folder]
    run = subprocess.run(
        [*map(str, first)], env=cluster.environment, capture_output=True, text=True, timeout=120
    )
    assert run.stdout.strip() == "2 runs submitted, 0 left alone", run.stderr
    # What is in the queue is not submitted a second time.
    assert sweep("submit", file, folder) == "0 runs submitted, 2 left alone"
    wait_for("a checkpoint", lambda: [*folder.glob("*/weights.pt.checkpoint")])
    cluster.ask("scancel", "--me")
    wait_for("an empty queue", lambda: not cluster.ask("squeue", "-h"))
    # They hold their locks until they have saved.
    wait_for("the last run", lambda: "0 running" in sweep("status", file, folder))
    interrupted = sweep("status", file, folder)
    assert "0 running" in interrupted and "0 interrupted" not in interrupted
    assert "2 left" not in sweep("submit", file, folder)
    done = "2 done, 0 running, 0 interrupted, 0 waiting"
    wait_for("all runs", lambda: sweep("status", file, folder) == done, 150)
    assert "2 of 2 runs" in sweep("collect", file, folder)
    rows = json.loads((folder / "runs.json").read_text("utf-8"))
    assert [(row["latent"], row["seed"]) for row in rows] == [(16, 1), (64, 1)]
    # A run alone, never interrupted, gives the same weights.
    run = next(row for row in rows if (row["latent"], row["seed"]) == (16, 1))
    out = tmp_path / "alone.pt"
    options = ["--latent", "16", "--width", "4", "--epochs", "200", "--seed", "1"]
    command = [sys.executable, "-m", "autoencoders", "train", "conv", "--out", str(out), *options]
    subprocess.run(command, env=cluster.environment, check=True, capture_output=True, timeout=120)
    assert same(weights(folder / run["run"] / "weights.pt"), weights(out))
