"""A Slurm cluster of two nodes on this machine, for as long as a test needs it.

As root it works without authentication between its parts; as anyone else with a `munged` of its
own. No control groups, no accounting, no waiting before a job that was queued again may start.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "srun")
INSTALL = "sudo apt-get install slurmctld slurmd slurm-client munge"

CONFIGURATION = """
ClusterName=course
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType={auth}
CredType={cred}
AuthInfo={socket}
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
SchedulerParameters=sched_interval=2,bf_interval=2,requeue_setup_env_fail
KillWait=5
SlurmdTimeout=10
InactiveLimit=0
MinJobAge=300
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 State=UNKNOWN
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 State=UNKNOWN
PartitionName=low Nodes=n1,n2 Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE \
GraceTime=20 State=UP
PartitionName=high Nodes=n1,n2 MaxTime=60 PriorityTier=10 PreemptMode=OFF State=UP
"""


def missing() -> list[str]:
    """Programs that are not installed."""
    needed = [*PROGRAMS] if os.geteuid() == 0 else [*PROGRAMS, "munged"]
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [program for program in needed if not shutil.which(program, path=path)]


def wait_for(what: str, condition: Callable[[], object], seconds: float = 120):
    """The first true value of `condition`, asked five times a second. Raises AssertionError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {seconds:g} seconds")


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Cluster:
    """`with Cluster(folder) as cluster`, then `cluster.sbatch(...)`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.daemons = {}
        self.pending = {}  # since when jobs wait that were queued again
        root = os.geteuid() == 0
        settings = {
            "user": "root" if root else psutil.Process().username(),
            "auth": "auth/none" if root else "auth/munge",
            "cred": "cred/none" if root else "cred/munge",
            "socket": f"socket={folder}/munge.socket",
            "ports": free_ports(3),
            "folder": folder,
        }
        (folder / "state").mkdir(parents=True)
        configuration = folder / "slurm.conf"
        text = CONFIGURATION.format(**settings)
        if root:
            text = "\n".join(x for x in text.splitlines() if not x.startswith("AuthInfo")) + "\n"
        configuration.write_text(text, "utf-8")
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        self.environment = os.environ | {"SLURM_CONF": str(configuration), "PATH": path}
        # The nodes are this machine, and talk within it.
        self.environment |= {"RENDEZVOUS_HOST": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
        self.environment |= {"OMP_NUM_THREADS": "1", "CI": "true"}
        self.munged = None if root else settings["socket"].removeprefix("socket=")

    def __enter__(self):
        if self.munged:
            self._start_munge()
        self.start("ctld")
        for node in ("n1", "n2"):
            self.start(node)
        wait_for("both nodes idle", lambda: self.ask("sinfo", "-h", "-o", "%D %t") == "2 idle", 60)
        return self

    def __exit__(self, *_):
        self.ask("scancel", "--user", psutil.Process().username())
        with suppress(AssertionError):
            wait_for("an empty queue", lambda: not self.ask("squeue", "-h"), 20)
        for name in [*self.daemons]:
            self.kill(name, signal.SIGKILL)
        # What a killed daemon has left behind.
        for process in self.processes(str(self.folder)):
            with suppress(psutil.Error):
                process.kill()

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        self.folder.chmod(0o755)
        options = [f"--socket={self.munged}", f"--key-file={key}", "--foreground", "--force"]
        options += [f"--log-file={self.folder}/munged.log", f"--pid-file={self.folder}/munged.pid"]
        options += [f"--seed-file={self.folder}/munged.seed"]
        self._run("munged", ["munged", *options])
        wait_for("munge's socket", lambda: Path(self.munged).exists(), 20)

    def start(self, name: str) -> None:
        """Start the controller, "ctld", or the daemon of a node, "n1" or "n2"."""
        command = ["slurmctld", "-D"] if name == "ctld" else ["slurmd", "-D", "-N", name]
        self._run(name, command)

    def _run(self, name: str, command: list[str]) -> None:
        with open(self.folder / f"{name}.out", "ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Kill a daemon alone; what it has started stays."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(number)
        daemon.wait()

    def ask(self, *command) -> str:
        """What a command of Slurm prints; "" where it fails, as while no controller runs."""
        run = subprocess.run(
            [*map(str, command)], env=self.environment, capture_output=True, text=True, timeout=60
        )
        return run.stdout.strip() if run.returncode == 0 else ""

    def sbatch(self, *arguments, **environment) -> str:
        """Submit a job from the repository's folder; its number."""
        command = ["sbatch", "--parsable", f"--output={self.folder}/job-%j.out", *arguments]
        run = subprocess.run(
            [*map(str, command)],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()

    def state(self, job: str) -> str:
        """Such as PENDING, RUNNING, COMPLETED or FAILED; a job that was queued again starts now."""
        about = self.ask("scontrol", "show", "job", job)
        words = dict(word.split("=", 1) for word in about.split() if "=" in word)
        state = words.get("JobState", "")
        # Slurm lets it wait for two minutes, which is of no use here. But not at once: within the
        # second in which the last attempt was ended its node would refuse the next one.
        if state != "PENDING" or words.get("Reason") != "BeginTime":
            self.pending.pop(job, None)
        elif time.monotonic() > self.pending.setdefault(job, time.monotonic()) + 2:
            self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
        return state

    def finish(self, job: str, seconds: float = 150) -> str:
        """Wait for the end of a job; how it ended."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

        def ended():
            state = self.state(job)
            return state if state in over else None

        return wait_for(f"the end of job {job}:\n{self.log(job)}", ended, seconds)

    def log(self, job: str) -> str:
        """What a job has printed so far, in all its attempts."""
        path = self.folder / f"job-{job}.out"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def epoch(self, job: str) -> int:
        """The last epoch in a job's log."""
        lines = [line for line in self.log(job).splitlines() if line.startswith('{"epoch"')]
        return int(lines[-1].split(":")[1].split(",")[0]) if lines else 0

    def processes(self, *words: str) -> list[psutil.Process]:
        """Processes of this machine whose command line has all these words."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                line = " ".join(process.cmdline())
                own = process.pid != os.getpid()
                if own and all(word in line for word in words):
                    found.append(process)
        return found

    def workers(self, out: Path) -> list[psutil.Process]:
        """The processes that train into a file, in the order of their ranks."""
        ranks = {}
        for process in self.processes(str(out), sys.executable.rsplit("/", 1)[0]):
            with suppress(psutil.Error):
                rank = process.environ().get("RANK")
                if rank is not None:
                    ranks[int(rank)] = process
        return [ranks[rank] for rank in sorted(ranks)]
