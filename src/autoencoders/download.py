"""MNIST and Fashion-MNIST from torchvision's mirrors.

Checksums are compared, whole files kept, damaged ones fetched again.
"""

from pathlib import Path

from autoencoders import data

SETS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}  # and torchvision's names


def download(name: str, folder: str | Path) -> Path:
    """Fetch a data set of `SETS` into `folder`, where `COURSE_DATA=folder` finds it.

    Returns the folder of its files.

    Calling again fetches only what is missing or damaged. Raises ValueError, also where there is no
    network.
    """
    if name not in SETS:
        raise ValueError(f"name={name!r}: expected one of {', '.join(SETS)}")
    # Not above: it takes longer to load than all else of the command line.
    from torchvision import datasets

    kind, raw = getattr(datasets, SETS[name]), Path(folder) / SETS[name] / "raw"
    for file in data.IDX:
        if (raw / file).exists() and data.idx_fault(raw / file):
            (raw / file).unlink()  # torchvision takes a file that exists for a whole one
    try:
        kind(folder, download=True)
    # No network, a wrong checksum, a full disk, an archive cut short.
    except (RuntimeError, OSError, EOFError) as error:
        files = ", ".join(f"{file}.gz" for file in data.IDX)
        hint = (
            f"get {files} from {kind.mirrors[0]} on a machine with a network, "
            f"put them into {str(raw)!r}, and run this again"
        )
        reason = " ".join(str(error).split())
        raise ValueError(
            f"cannot download {name} ({reason}): "
            f"expected a network connection. Run this again to go on, or {hint}"
        ) from None
    # Read once, so that "complete" is said of what the notebooks can really read.
    data.idx(kind.__name__, folder)
    return raw
