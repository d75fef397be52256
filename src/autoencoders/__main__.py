"""The command line: `python -m autoencoders <command>`; `--help` lists the commands."""

import argparse
import sys

from autoencoders import download


def add_download(commands) -> None:
    command = commands.add_parser("download", help="fetch MNIST or Fashion-MNIST for COURSE_DATA=FOLDER")
    command.add_argument("names", nargs="+", choices=sorted(download.SETS), metavar="NAME", help=" or ".join(download.SETS))
    command.add_argument("--to", default="data", metavar="FOLDER", help="where to put them (default: %(default)s)")
    command.set_defaults(run=run_download)


def run_download(arguments) -> None:
    for name in arguments.names:
        print(f"{name}: complete in {download.download(name, arguments.to)}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m autoencoders", description="Tools around the course's notebooks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_download,):
        add(commands)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
