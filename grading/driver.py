"""Runs inside the sandbox: executes cells in a fresh kernel and answers the grader.

Questions and answers are JSON objects, one a line.

The submitted code runs in the kernel, a process with the same rights: it may stop this one or speak
in its name. So nothing that is said here proves an answer right; the grader compares values itself.
"""

import base64
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from queue import Empty

ANSWER = "application/x-answer+json"
# Under this type `report.record` leaves a number in a cell's output, out of sight.
RECORD = "application/vnd.autoencoders.result+json"
TEXT = 200_000  # characters of a cell's text that are kept
VALUE = 2**25  # bytes of an answer


def encode(value):
    """A number, text, bytes, array, or a list or dict of these, as JSON can hold it.

    Nothing is pickled. Raises TypeError for anything else.
    """
    import numpy as np

    value = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in "biufc":
            raise TypeError(f"an array of {value.dtype}: expected one of numbers")
        if value.ndim:
            return {
                "array": base64.b64encode(np.ascontiguousarray(value)).decode(),
                "dtype": value.dtype.str,
                "shape": value.shape,
            }
        value = value.item()
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return {"list": [encode(v) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(k), encode(v)] for k, v in value.items()]}
    if isinstance(value, complex) or not isinstance(value, bool | int | float | str | None):
        raise TypeError(
            f"a {type(value).__name__}: "
            "expected a number, text, bytes, an array, or a list or dict of these"
        )
    return value


def decode(value):
    """The inverse of `encode`.

    Raises ValueError, TypeError or KeyError for what it did not write.
    """
    import numpy as np

    if not isinstance(value, dict):
        return value
    if "array" in value:
        dtype = np.dtype(str(value["dtype"]))
        if dtype.kind not in "biufc":
            raise ValueError(f"an array of {dtype}: expected one of numbers")
        return (
            np.frombuffer(base64.b64decode(value["array"]), dtype)
            .reshape([int(n) for n in value["shape"]])
            .copy()
        )
    if "bytes" in value:
        return base64.b64decode(value["bytes"])
    return (
        [decode(v) for v in value["list"]]
        if "list" in value
        else {decode(k): decode(v) for k, v in value["dict"]}
    )


def outline(outputs) -> dict:
    """What can be compared of a cell's outputs.

    Its text, the numbers that it records, `{name: value}`, the kinds of its pictures, its error.
    """
    text, records, kinds, error = "", {}, set(), None
    for output in outputs:
        if output["output_type"] == "stream":
            text += output["text"] if output["name"] == "stdout" else ""
        elif output["output_type"] == "error":
            error = f"{output['ename']}: {output['evalue']}"[:2000]
        elif RECORD in output["data"]:
            records |= recorded(output["data"][RECORD])
        else:
            kinds |= {kind for kind in output["data"] if kind.startswith("image/")}
            text += str(output["data"].get("text/plain", "")) + "\n"
    return {"text": text[:TEXT], "records": records, "images": sorted(kinds), "error": error}


def recorded(result) -> dict[str, float]:
    """`{name: value}` of a recorded number, `{}` for anything else: it may come from anybody."""
    if not isinstance(result, dict):
        return {}
    name, value = result.get("name"), result.get("value")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # A whole number may have thousands of digits, and is then no float.
    if not isinstance(name, str) or len(name) > 200 or not number or not abs(value) < 1e300:
        return {}
    return {name: value}


def answer(expression: str, inputs: str, names: dict) -> None:
    """In the kernel: evaluate an expression and publish its value.

    It may use the notebook's names and the inputs.
    """
    from IPython.display import publish_display_data

    value = eval(expression, names | {name: decode(v) for name, v in json.loads(inputs).items()})
    publish_display_data({ANSWER: json.dumps(encode(value))})


class Kernel:
    """A fresh Jupyter kernel. `execute` never raises for what the code does."""

    def __init__(self):
        from jupyter_client.manager import start_new_kernel

        options = ["--log-level=50", "--HistoryManager.enabled=False"]
        self.manager, self.client = start_new_kernel(
            kernel_name="python3", startup_timeout=600, extra_arguments=options
        )
        self.alive = True

    def execute(self, source: str, seconds: float, cap: int) -> tuple[list, str]:
        """Outputs of a cell, and how it ended.

        That is "done", "late" (stopped), "loud" (over `cap` bytes, stopped), "stuck" or "died".
        """
        from nbformat.v4 import output_from_msg

        if not self.alive:
            return [], "died"
        request = self.client.execute(source, allow_stdin=False, stop_on_error=False)
        outputs, size, state, deadline = [], 0, "done", time.monotonic() + seconds
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=0.5)
            except Empty:
                message = None
            if message is None and not self.manager.is_alive():
                self.alive = False
                return outputs, "died"
            if time.monotonic() > deadline:
                if state != "done":  # it was interrupted and goes on all the same
                    self.manager.shutdown_kernel(now=True)
                    self.alive = False
                    return outputs, "stuck"
                state, deadline = self.interrupt("late")
            if message is None or message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return outputs + self.unsaid(request, outputs), state
            if kind in ("stream", "display_data", "execute_result", "error"):
                size += sum(map(len, map(str, content.get("data", content).values())))
                if size <= cap or kind == "error":
                    outputs.append(output_from_msg(message))
                elif state == "done":
                    state, deadline = self.interrupt("loud")

    def unsaid(self, request: str, outputs: list) -> list:
        """The error of a cell that failed without showing one, for want of memory say."""
        try:
            while (reply := self.client.get_shell_msg(timeout=60))["parent_header"].get(
                "msg_id"
            ) != request:
                pass
            status = reply["content"]["status"]
        except Empty:
            status = "silent"
        if status == "ok" or any(output["output_type"] == "error" for output in outputs):
            return []
        return [
            {
                "output_type": "error",
                "ename": "Error",
                "evalue": f"the kernel's reply is {status!r}",
            }
        ]

    def interrupt(self, state: str) -> tuple[str, float]:
        self.manager.interrupt_kernel()
        return state, time.monotonic() + 30


class Driver:
    """One method a request; each yields its replies."""

    def start(self, limits, given, submission, folder, results):
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))
        for path in filter(os.path.isdir, (given, submission)):
            shutil.copytree(
                path, folder, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*")
            )
        out = Path(os.environ["COURSE_OUT"])
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(results, "utf-8")
        self.folder = Path(folder)
        yield {}

    def run(self, cells, within, seconds, cap):
        """Execute `[number, source]` cells; one reply each."""
        os.chdir(self.folder / within)
        self.kernel = Kernel()
        for number, source in cells:
            outputs, state = self.kernel.execute(source, seconds, cap)
            yield {"cell": number, "state": state, **outline(outputs)}
            if not self.kernel.alive:
                break
        yield {"end": True}

    def ask(self, expression, inputs, seconds):
        answer = f"__import__('runpy').run_path({__file__!r})['answer']"
        call = f"{answer}({expression!r}, {json.dumps(inputs)!r}, globals())"
        outputs, state = self.kernel.execute(call, seconds, VALUE)
        values = [output["data"][ANSWER] for output in outputs if ANSWER in output.get("data", {})]
        yield {
            "state": state,
            "value": values[-1] if values else None,
            "error": outline(outputs)["error"],
        }

    def decode(self, file, original):
        """Bytes of a compressed file, and its pictures, with PSNR where an original is found."""
        from autoencoders import codec, data, metrics, svd

        try:
            content = (self.folder / file).read_bytes()
            pictures = (
                [(original or "", svd.decompress(content))]
                if file.endswith(".svd")
                else list(codec.decode_all(content))
            )
            qualities = []
            for name, picture in pictures:
                places = [
                    folder / (name or original or ".")
                    for folder in (data.ROOT / "cars_sample", self.folder)
                ]
                path = next((place for place in places if place.is_file()), None)
                height, width = picture.shape[:2]
                source = path and data.read(path, height if height == width else None)
                same = source is not None and source.shape == picture.shape
                qualities.append(
                    float(metrics.psnr(source[None], picture[None])[0]) if same else None
                )
            yield {"bytes": len(content), "psnr": qualities}
        except Exception as error:  # whatever a damaged file makes a decoder do
            yield {"error": f"{type(error).__name__}: {error}"[:500]}


def main() -> None:
    requests, replies = (
        os.fdopen(os.dup(0), "rb"),
        os.fdopen(os.dup(1), "wb"),
    )  # out of reach for what the kernel prints
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    driver = Driver()
    for line in requests:
        request = json.loads(line)
        for reply in getattr(driver, request.pop("op"))(**request):
            replies.write(json.dumps(reply).encode() + b"\n")
            replies.flush()


if __name__ == "__main__":
    sys.exit(main())
