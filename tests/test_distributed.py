"""Training by several processes of `torchrun` on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from autoencoders import distributed

RUN = Path(__file__).parent / "distributed_run.py"


def start(out: Path, *arguments, processes: int = 2, restarts: int = 0):
    """Run `distributed_run.py` in some processes; the finished `torchrun`, or program."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command += [f"--max-restarts={restarts}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop("WORLD_SIZE", None)
    return subprocess.run(
        [*command, str(RUN), str(out), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def trained(out: Path, *arguments, **options) -> dict:
    """What a run has written. Its processes must have ended with equal weights."""
    run = start(out, *arguments, **options)
    assert run.returncode == 0, run.stderr
    content = torch.load(out, weights_only=True)
    first = content["states"][0]
    # A counter of batches that nothing uses: a process without a share of one does not count it.
    first.pop("1.num_batches_tracked", None)
    for other in content["states"][1:]:
        assert all(torch.equal(tensor, other[name]) for name, tensor in first.items())
    return content


def difference(a: dict, b: dict) -> float:
    """The largest difference of two runs' weights and histories."""
    found = [
        (a["states"][0][name] - tensor).abs().max().item()
        for name, tensor in b["states"][0].items()
    ]
    for name, values in b["history"].items():
        pairs = zip(a["history"][name], values, strict=True)
        found += [abs(x - y) for x, y in pairs]
    return max(found)


def test_two_and_three_processes_train_as_one_does(tmp_path):
    one = trained(tmp_path / "one", processes=1)
    two = trained(tmp_path / "two")
    three = trained(tmp_path / "three", processes=3)
    # Float32 rounds to 6e-8 of a number; three epochs of nine steps add up some of that.
    assert 0 < difference(one, two) < 1e-6
    assert 0 < difference(one, three) < 1e-6


def test_a_second_run_is_the_same_and_noise_differs_between_processes(tmp_path):
    two = trained(tmp_path / "two", "--noise")
    assert difference(two, trained(tmp_path / "again", "--noise")) == 0
    # One process alone draws its noise in one piece, two each their own.
    assert difference(two, trained(tmp_path / "one", "--noise", processes=1)) > 1e-5


def test_batch_statistics_are_the_same_in_all_processes(tmp_path):
    content = trained(tmp_path / "two", "--norm")
    assert content["states"][0]["1.running_mean"].abs().max() > 0


def test_a_killed_process_is_restarted_and_the_weights_are_the_same(tmp_path):
    options = ("--noise", "--epochs", 4)
    whole = trained(tmp_path / "whole", *options)
    for rank in (0, 1):
        kept = tmp_path / f"kept{rank}"
        fault = ("--fault", f"kill{rank}", "--checkpoint", kept)
        cut = trained(tmp_path / f"cut{rank}", *options, *fault, restarts=1)
        assert (tmp_path / f"cut{rank}.mark").exists()
        assert difference(whole, cut) == 0


def test_a_signal_to_one_stops_all_and_the_same_command_goes_on(tmp_path):
    options = ("--noise", "--epochs", 4)
    whole = trained(tmp_path / "whole", *options)
    kept = ("--checkpoint", tmp_path / "kept")
    stopped = start(tmp_path / "cut", *options, *kept, "--fault", "term")
    assert stopped.returncode != 0
    assert "stopped after 7 of 12 steps: the same call goes on from" in stopped.stdout
    assert not (tmp_path / "cut").exists()
    assert difference(whole, trained(tmp_path / "cut", *options, *kept)) == 0


def test_another_number_of_processes_is_another_run(tmp_path):
    kept = ("--checkpoint", tmp_path / "kept")
    trained(tmp_path / "two", *kept)
    one = start(tmp_path / "one", *kept, processes=1)
    assert "is of another run (processes 2, here 1)" in one.stderr


def test_processes_that_train_different_things_are_refused(tmp_path):
    run = start(tmp_path / "two", "--fault", "weights")
    assert run.returncode != 0
    assert "trains something else (model.weights" in run.stderr


def test_alone_there_is_nothing_to_share_or_to_wait_for():
    alone = distributed.Team.current()
    items = torch.arange(5)
    assert alone == distributed.Team(0, 1)
    assert torch.equal(alone.share(items), items)
    assert alone.gather("a") == ["a"]
    assert alone.average([], 1.0, [], (True, False)) == [True, False]


def test_shares_are_all_items_once_and_as_equal_as_can_be():
    items = torch.arange(10)
    shares = [distributed.Team(rank, 4).share(items) for rank in range(4)]
    assert torch.equal(torch.cat(shares), items)
    assert [len(share) for share in shares] == [3, 3, 2, 2]


def test_a_signal_is_noted_only_within_the_block(tmp_path):
    assert not distributed.stop_asked()
    with distributed.stopping_on():
        os.kill(os.getpid(), 15)
        assert distributed.stop_asked()
    assert not distributed.stop_asked()


def test_a_sparse_gradient_in_several_processes_is_refused():
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="a sparse gradient of .* in one process"):
        distributed.Team(0, 2).average([*table.parameters()], 1.0, [])
