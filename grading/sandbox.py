"""A process that runs what strangers wrote: bubblewrap around `driver.py`.

The kernel and a watch keep its limits.

Inside there is no network, only one student's folder, the package, the cars and Python to read, and
two small file systems in memory to write in. Where bubblewrap is missing, only `trust` runs
anything, with the same limits and without these walls.
"""

import itertools
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from autoencoders.course import ROOT
from driver import decode, encode

HERE = Path(__file__).resolve().parent
FENCES = itertools.count()  # a number for each control group of ours
CARRIED = 2**27  # bytes that a sandbox may say in all
COURSE, SCRATCH = (
    "/course",
    "/tmp",
)  # inside the sandbox: what there is to read, and where there is room to write


@dataclass(frozen=True)
class Limits:
    """Of one notebook, or of all compressed files of a submission."""

    cell: int = 600  # seconds for a cell, then it is interrupted
    wall: int = 3600  # seconds for everything, then it is killed
    cpu: int = 3600  # processor seconds of one process
    memory: int = 4 * 2**30  # bytes of one process, and of all together
    processes: int = 64
    file: int = 2**28  # bytes of one file
    disk: int = 2**29  # bytes of all files, in each of two places
    output: int = 2**22  # bytes that one cell may print or show
    ask: int = 600  # seconds for one question of a hidden test, which may train something


class Died(Exception):
    """The sandbox ended, or was ended, before it answered."""


@cache
def missing() -> str:
    """Why there is no sandbox on this machine, or "" where there is."""
    if not shutil.which("bwrap"):
        return "bubblewrap (bwrap) is not installed"
    with tempfile.TemporaryDirectory() as folder:
        probe = subprocess.run(
            _walls(Path(folder), Limits(), [sys.executable, "-c", ""]),
            capture_output=True,
            text=True,
        )
    return (
        ""
        if probe.returncode == 0
        else f"bubblewrap does not work here: {probe.stderr.strip()[-300:]}"
    )


def _environment(folder: str, out: str, package: str) -> dict:
    one = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
    )  # two processes with two threads each crawl
    common = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "USER": "student",
        "CI": "true",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return (
        common | one | {"HOME": folder, "TMPDIR": folder, "COURSE_OUT": out, "PYTHONPATH": package}
    )


def _walls(folder: Path, limits: Limits, command: list[str]) -> list[str]:
    call = [
        "bwrap",
        "--unshare-all",
        "--unshare-user",
        "--disable-userns",
        "--uid",
        "1000",
        "--gid",
        "1000",
        "--cap-drop",
        "ALL",
    ]
    call += ["--die-with-parent", "--new-session"]
    call += ["--hostname", "grading", "--clearenv", "--proc", "/proc", "--dev", "/dev"]
    call += [
        "--size",
        str(limits.disk),
        "--tmpfs",
        SCRATCH,
    ]  # before Python, which may lie below it
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        if os.path.islink(name):
            call += ["--symlink", os.readlink(name), name]
        else:
            call += ["--ro-bind-try", name, name]
    python = (sys.base_prefix, sys.prefix, str(Path(sys.executable).resolve().parents[1]))
    for name in (
        "/usr",
        "/nix/store",
        "/etc/ld.so.cache",
        "/etc/alternatives",
        "/etc/fonts",
        *python,
    ):
        call += ["--ro-bind-try", name, name]
    inside = {
        ROOT / "src": "src",
        ROOT / "cars_sample": "cars_sample",
        ROOT / "datasets": "datasets",
        HERE / "driver.py": "driver.py",
        folder: "submission",
    }
    slides = ROOT / "slides"
    for path in [slides / "bench_photographs.csv", *sorted(slides.glob("results_*.json"))]:
        if path.exists():
            inside[path] = f"slides/{path.name}"
    for path in [*inside, *_given()]:
        call += ["--ro-bind", str(path), f"{COURSE}/{inside.get(path, f'given/{path.name}')}"]
    call += ["--size", str(limits.disk), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    call += ["--size", str(limits.disk), "--tmpfs", f"{COURSE}/notebooks"]
    call += ["--remount-ro", "/", "--chdir", f"{COURSE}/notebooks"]
    for name, value in _environment(SCRATCH, f"{SCRATCH}/results", f"{COURSE}/src").items():
        call += ["--setenv", name, value]
    return [*call, "--", *command]


def _given() -> list[Path]:
    """What lies beside the notebooks for them to read."""
    kinds = {".aew", ".aez", ".avif", ".json", ".pt"}
    return sorted(path for path in (ROOT / "notebooks").iterdir() if path.suffix in kinds)


def _fence(threads: int) -> Path | None:
    """A control group of at most so many threads, where we may make one.

    RLIMIT_NPROC does not bind root, and a fork bomb fills the memory before a watch can end it.
    """
    if os.geteuid() != 0 or not Path("/proc/self/cgroup").exists():
        return None
    for line in Path("/proc/self/cgroup").read_text("utf-8").splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers not in ("pids", ""):  # of version 1, and the one group of version 2
            continue
        base = Path("/sys/fs/cgroup", controllers)
        group = Path(f"{base}{own}", f"grading-{os.getpid()}-{next(FENCES)}")
        try:
            group.mkdir()
            (group / "pids.max").write_text(str(threads))
            return group
        except OSError:  # not ours to make, or without this controller
            with suppress(OSError):
                group.rmdir()
    return None


def _remove(group: Path) -> None:
    """Remove a control group, once the last of its processes has gone."""
    for _ in range(100):
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.05)


def _hurry(start: bool) -> None:
    """Let the watch get its turn among any number of processes: RLIMIT_NPROC does not bind root."""
    if os.geteuid() == 0 and hasattr(os, "SCHED_RR"):
        with suppress(OSError):
            policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK if start else os.SCHED_OTHER
            os.sched_setscheduler(0, policy, os.sched_param(int(start)))


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _held(process: psutil.Process, method: str, kind: str) -> int:
    try:
        return getattr(getattr(process, method)(), kind)
    except psutil.Error:  # it ended meanwhile
        return 0


class Sandbox:
    """`with Sandbox(folder, limits, trust, results) as box`, then `box.request(...)`.

    Every failure is a `Died` with its reason.
    """

    def __init__(self, folder: Path, limits: Limits, trust: bool = False, results: str = "{}"):
        self.limits, self.trust, self.results, self.folder = limits, trust, results, folder
        self.fence = None

    def __enter__(self):
        _hurry(True)
        limits = {
            "RLIMIT_CORE": 0,
            "RLIMIT_CPU": self.limits.cpu,
            "RLIMIT_DATA": self.limits.memory * 3 // 2,
            "RLIMIT_FSIZE": self.limits.file,
        }
        pipes = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.DEVNULL,
            "start_new_session": True,
        }
        if self.trust:
            self.own = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            course, submission, given = (
                self.own.name,
                str(self.folder),
                str(ROOT / "notebooks" / "none"),
            )
            environment = _environment(course, f"{course}/results", str(ROOT / "src"))
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "driver.py")], env=environment, cwd=course, **pipes
            )
        else:
            limits["RLIMIT_AS"] = (
                self.limits.memory + 2**34
            )  # libraries of torch are large to see, small to hold
            limits["RLIMIT_NPROC"] = 8 * self.limits.processes  # counts threads
            course, submission, given = COURSE, f"{COURSE}/submission", f"{COURSE}/given"
            command = _walls(self.folder, self.limits, [sys.executable, f"{COURSE}/driver.py"])
            self.fence = _fence(8 * self.limits.processes)
            if self.fence:
                # It enters the group itself, before anything else, so that nothing stays outside.
                enter = f'echo $$ > "{self.fence}/cgroup.procs" && exec "$@"'
                command = ["/bin/sh", "-c", enter, "sh", *command]
            self.process = subprocess.Popen(command, **pipes)
        self.heard = time.monotonic()
        self.deadline, self.looked, self.said, self.buffer = (
            self.heard + self.limits.wall,
            0.0,
            0,
            bytearray(),
        )
        for pipe in (self.process.stdin, self.process.stdout):
            os.set_blocking(pipe.fileno(), False)
        try:
            self.request(
                "start",
                limits=limits,
                given=given,
                submission=submission,
                folder=f"{course}/notebooks",
                results=self.results,
            )
        except Died as error:  # nothing of the submission has run yet, so it is not to blame
            self.__exit__()
            raise RuntimeError(f"the sandbox does not start: {error}") from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.trust:
            for process in [self.process, *_below(self.process.pid)]:
                process.kill()
            self.own.cleanup()
        else:
            self._kill_first_inside()
            os.killpg(self.process.pid, signal.SIGKILL)
        # Not before: among the processes of a fork bomb our turn would come when memory is full.
        _hurry(False)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        if self.fence:
            _remove(self.fence)

    def _kill_first_inside(self) -> None:
        """Kill the first process inside the walls, with which the kernel ends all the others.

        Among the processes of a fork bomb its turn to die would come late, so it gets ours.
        """
        with suppress(psutil.Error, OSError):
            for first in psutil.Process(self.process.pid).children():
                if os.geteuid() == 0 and hasattr(os, "SCHED_RR"):
                    os.sched_setscheduler(first.pid, os.SCHED_RR, os.sched_param(1))
                os.kill(first.pid, signal.SIGKILL)

    def request(self, op: str, **arguments) -> dict:
        return next(self.replies(op, **arguments))

    def replies(self, op: str, **arguments):
        """Send one request and yield its replies as they come."""
        self.heard = time.monotonic()
        pending = memoryview(json.dumps({"op": op, **arguments}).encode() + b"\n")
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            selector.register(self.process.stdin, selectors.EVENT_WRITE)
            while True:
                for key, _ in selector.select(0.2):
                    try:
                        if key.fileobj is self.process.stdin:
                            pending = pending[os.write(key.fd, pending[:65536]) :]
                        elif not (read := os.read(key.fd, 2**20)):
                            raise Died("it ended in the middle")
                        else:
                            self.said += len(read)
                            self.heard = time.monotonic()
                            self.buffer += read
                    except BrokenPipeError:
                        raise Died("it ended in the middle") from None
                    if not pending and len(selector.get_map()) > 1:
                        selector.unregister(self.process.stdin)
                self.watch()
                while (end := self.buffer.find(b"\n")) >= 0:
                    line = bytes(self.buffer[:end])
                    del self.buffer[: end + 1]
                    try:
                        reply = json.loads(line)
                        assert isinstance(reply, dict)
                    except (ValueError, RecursionError, AssertionError):
                        raise Died("it said what its driver never says") from None
                    yield reply

    def watch(self) -> None:
        """Raise Died where a limit is passed that the kernel does not keep."""
        now = time.monotonic()
        if now > self.deadline:
            raise Died(f"it took more than {self.limits.wall} seconds")
        if now > self.heard + self.limits.cell + 60:
            raise Died(f"it was silent for more than {self.limits.cell + 60} seconds")
        if self.said > CARRIED:
            raise Died(f"it said more than {CARRIED:,} bytes")
        if now < self.looked + 0.2:
            return
        processes = _below(self.process.pid)
        if len(processes) > self.limits.processes:
            raise Died(f"it started more than {self.limits.processes} processes")
        kinds = (
            ("memory_info", "rss"),
            ("memory_full_info", "pss"),
        )  # the quick one counts twice what two share
        if all(
            sum(_held(process, *kind) for process in processes) > self.limits.memory
            for kind in kinds
        ):
            raise Died(f"it held more than {self.limits.memory / 2**30:.3g} GiB of memory")
        self.looked = time.monotonic()

    def ask(self, expression: str, **inputs):
        """What an expression gives in the kernel, with `inputs` among its names.

        AssertionError if nothing that `encode` takes.
        """
        seconds = self.limits.ask
        try:
            reply = self.request(
                "ask",
                expression=expression,
                inputs={k: encode(v) for k, v in inputs.items()},
                seconds=seconds,
            )
        except Died as error:
            raise AssertionError(
                f"`{expression}` cannot be asked: the sandbox died, {error}"
            ) from None
        if reply.get("state") == "late":
            raise AssertionError(f"`{expression}` took more than {seconds} seconds")
        if reply.get("error"):
            raise AssertionError(f"`{expression}` raised {str(reply['error'])[:500]}")
        try:
            return decode(json.loads(reply["value"]))
        except Exception:  # forged, or none
            raise AssertionError(
                f"`{expression}` gave nothing that can be read; does the kernel still live?"
            ) from None
