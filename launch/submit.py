"""Start a sweep on a Slurm cluster or on this machine, look at it, collect its results.

    python launch/submit.py submit  launch/sweep.toml FOLDER
    python launch/submit.py status  launch/sweep.toml FOLDER
    python launch/submit.py collect launch/sweep.toml FOLDER

submitit makes the jobs. Submitted again, a sweep goes on: what is done stays, what waits or runs is
left alone, what was interrupted continues.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import submitit
from tqdm import tqdm

from autoencoders import course, sweep


def queued() -> set[str]:
    """The jobs that Slurm still has of this user, `{"12_0", ...}`; none where there is no Slurm."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return set()
    return set(asked.stdout.split())


def submit(asked: sweep.Sweep, folder: Path, arguments: argparse.Namespace) -> None:
    """Submit all runs that are neither done nor in the queue, as one job array."""
    jobs = folder / "jobs.json"  # the last job of each run
    known = json.loads(jobs.read_text("utf-8")) if jobs.exists() else {}
    waiting = queued()
    wanted = []
    for run in asked.runs(folder):
        in_queue = known.get(run.folder.name) in waiting
        if run.state() in ("interrupted", "waiting") and not in_queue:
            wanted.append(run)
    if wanted:
        folder.mkdir(parents=True, exist_ok=True)
        made = executor(asked, folder, arguments)
        if made.cluster == "local":
            run_here(made, wanted, asked.machine)
        else:
            with made.batch():  # one job array
                started = [made.submit(run) for run in wanted]
            known |= {r.folder.name: job.job_id for r, job in zip(wanted, started, strict=True)}
            with course.replacing(jobs) as part:
                part.write_text(json.dumps(known, indent=0) + "\n", "utf-8")
    print(f"{len(wanted)} runs submitted, {len([*asked.runs(folder)]) - len(wanted)} left alone")


def run_here(made: submitit.AutoExecutor, runs: list[sweep.Run], machine: dict) -> None:
    """All runs on this machine, as many at once as it has cores for."""
    at_once = max(1, min(machine["parallel"], os.cpu_count() // machine["threads"]))
    jobs = []
    for run in tqdm(runs, "runs"):
        while sum(not job.done() for job in jobs) >= at_once:
            time.sleep(0.5)
        jobs.append(made.submit(run))
    for job in jobs:
        job.wait()


def executor(asked: sweep.Sweep, folder: Path, arguments: argparse.Namespace):
    """What makes jobs of calls: for Slurm, or for processes of this machine."""
    machine = asked.machine
    made = submitit.AutoExecutor(folder / "logs", cluster=arguments.cluster)
    made.update_parameters(
        name="autoencoders",
        timeout_min=machine["minutes"],
        cpus_per_task=machine["threads"],
        slurm_array_parallelism=machine["parallel"],
        slurm_partition=arguments.partition,
        slurm_setup=[f"export OMP_NUM_THREADS={machine['threads']}"],
        # Preempted and lost with their node, they come back by themselves.
        slurm_additional_parameters={"requeue": True},
        slurm_use_srun=False,
    )
    return made


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks; the exit status is 0, or 1 after an error."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("command", choices=["submit", "status", "collect"])
    parser.add_argument("file", type=Path, help="such as launch/sweep.toml")
    parser.add_argument("folder", type=Path, help="of all runs, on a disk that all machines share")
    parser.add_argument(
        "--cluster", choices=["slurm", "local"], help="default: Slurm if it is there"
    )
    parser.add_argument("--partition", help="of Slurm")
    arguments = parser.parse_args(arguments)
    try:
        asked = sweep.Sweep.read(arguments.file)
        folder = arguments.folder.resolve()
        if arguments.command == "submit":
            submit(asked, folder, arguments)
        elif arguments.command == "status":
            print(", ".join(f"{n} {state}" for state, n in sweep.status(asked, folder).items()))
        else:
            rows = sweep.collect(asked, folder)
            whole = len([*asked.runs(folder)])
            print(
                f"{folder / 'runs.csv'}: {len(rows)} of {whole} runs; runs.json and runs.png "
                "beside it"
            )
    except (ValueError, OSError, submitit.core.utils.FailedJobError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
