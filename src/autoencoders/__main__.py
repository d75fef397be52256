"""The command line: `python -m autoencoders <command>`; `--help` lists the commands."""

import argparse
import sys
from pathlib import Path

from autoencoders import (
    distributed,
    download,
    inspection,
    recipes,
    remedies,
    search,
    trainings,
    turntable,
)
from autoencoders.codec import cli
from autoencoders.codec import recipes as codec_recipes

# Each writes one file, and goes on where it was interrupted.
RECIPES = recipes.RECIPES | turntable.RECIPES | search.RECIPES | inspection.RECIPES
RECIPES |= codec_recipes.RECIPES | remedies.RECIPES


def add_download(commands) -> None:
    """Add `download` to the parsers of the command line."""
    command = commands.add_parser(
        "download", help="fetch MNIST or Fashion-MNIST for COURSE_DATA=FOLDER"
    )
    command.add_argument(
        "names",
        nargs="+",
        choices=sorted(download.SETS),
        metavar="NAME",
        help=" or ".join(download.SETS),
    )
    command.add_argument(
        "--to", default="data", metavar="FOLDER", help="where to put them (default: %(default)s)"
    )
    command.set_defaults(run=run_download)


def run_download(arguments: argparse.Namespace) -> None:
    """Fetch data sets. Raises ValueError and OSError."""
    for name in arguments.names:
        print(f"{name}: complete in {download.download(name, arguments.to)}")


def add_recipe(commands) -> None:
    """Add `recipe` to the parsers of the command line."""
    command = commands.add_parser(
        "recipe",
        help="make again what a notebook reads because it takes longer than a notebook may",
    )
    command.add_argument(
        "name", choices=sorted(RECIPES), metavar="NAME", help=", ".join(sorted(RECIPES))
    )
    command.add_argument("--out", required=True, type=Path, metavar="FILE", help="where to put it")
    command.set_defaults(run=run_recipe)


def run_recipe(arguments: argparse.Namespace) -> None:
    """Train what a recipe says. Raises ValueError and OSError."""
    RECIPES[arguments.name](arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


COMMANDS = (
    cli.add_encode,
    cli.add_decode,
    cli.add_info,
    trainings.add_train,
    add_recipe,
    add_download,
)


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 for an error, 130 after Ctrl-C.

    A training that was asked to stop, and goes on when it is started again, returns 75.
    """
    parser = argparse.ArgumentParser(
        prog="python -m autoencoders", description="Tools around the course's notebooks."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # Each command brings its own options and the function that runs it, `arguments.run`.
    for add in COMMANDS:
        add(commands)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    # What the user can mend is one line; our own mistakes still end in a traceback.
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except distributed.Stopped as stopped:
        print(stopped, file=sys.stderr)
        return distributed.EXIT_STOPPED
    except KeyboardInterrupt:
        print(
            "interrupted: a training goes on from where it was when the same command is given "
            "again",
            file=sys.stderr,
        )
        return 130  # as a shell reports it: 128 and the number of SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
