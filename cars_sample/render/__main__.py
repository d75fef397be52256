"""Render pictures of cars:  python cars_sample/render [cars|turntable|wheels|bodies] --out FOLDER

What is there already is kept, so that an interrupted run goes on where it stopped.

cars        FOLDER/car_<seed>.png and cars.csv: --count pictures of --size from --first-seed on; `--like cars_sample/cars.csv`
            renders the seeds of a list under its file names instead
turntable   1,000 cars from six sides: sheets turntable_<n>.webp and turntable.csv (parts/ can be deleted afterwards)
wheels      wheels on a test bench, good and defective, in the layout of MVTec AD, and wheels.csv
bodies      cars in ordinary settings, in a folder for each body type, and bodies.csv
"""

import argparse
import importlib
import sys
from pathlib import Path

SETS = {"cars": "hundred", "turntable": "turntable", "wheels": "wheel_bench", "bodies": "bodies"}


def main():
    options = parse(sys.argv[1:])
    check_blender()
    # Only now, because these modules need bpy.
    from jobs import render_all

    chosen = importlib.import_module(SETS[options.set])
    options.out.mkdir(parents=True, exist_ok=True)
    jobs = chosen.plan(options)
    asked = jobs[: options.limit]
    try:
        rendered = render_all(asked, options.out, options.workers)
    except KeyboardInterrupt:
        sys.exit("\nStopped. The same command goes on from here.")
    if len(asked) == len(jobs):
        chosen.finish(jobs, options.out)
    kept = len(asked) - rendered
    print(f"{len(asked)} of {len(jobs)} in {options.out}: {rendered} rendered now, {kept} kept.")


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python cars_sample/render",
        description="Render pictures of cars with Blender's Cycles.",
    )
    add = parser.add_argument
    add("set", nargs="?", default="cars", choices=SETS, help="which set (default: cars)")
    add("--out", type=Path, required=True, metavar="FOLDER", help="where the set goes")
    add(
        "--workers",
        type=positive,
        default=1,
        help="processes, one core each (default: 1, two cores)",
    )
    add(
        "--limit", type=positive, metavar="N", help="only the first N jobs, to try it out; no table"
    )
    cars = parser.add_argument_group("for the set `cars` only")
    add = cars.add_argument
    add("--count", type=positive, default=100, help="how many pictures (default: 100)")
    add("--size", type=positive, default=256, help="width and height in pixels (default: 256)")
    add(
        "--first-seed",
        type=natural,
        default=0,
        help="seed of the first picture; the others count on (default: 0)",
    )
    add("--like", type=Path, metavar="CSV", help="render the files and seeds of this list instead")
    return parser.parse_args(arguments)


def natural(text):
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 0 or more")
    return int(text)


def positive(text):
    if natural(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 1 or more")
    return int(text)


def check_blender():
    try:
        import bpy  # noqa: F401
    except ImportError as error:
        requirements = Path(__file__).with_name("requirements.txt")
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(
            f"bpy, Blender as a Python module, cannot be imported: {error}\n"
            f"This is Python {version}; the pinned bpy needs Python 3.11. Mend it with\n"
            f"  python3.11 -m venv .render && .render/bin/pip install -r {requirements}\n"
            "and run this command again with .render/bin/python."
        )


if __name__ == "__main__":
    main()
