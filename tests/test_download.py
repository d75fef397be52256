import functools
import gzip
import hashlib
import http.server
import subprocess
import sys
import threading

import pytest
import torch
from conftest import idx_files
from torchvision.datasets import MNIST

from autoencoders import __main__, data, download


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """The folder of a mirror of MNIST on this machine, with small files and their checksums."""
    folder, resources = tmp_path / "mirror", []
    folder.mkdir()
    for name, content in idx_files().items():
        packed = gzip.compress(content)
        (folder / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(MNIST, "resources", resources)
        yield folder
        server.shutdown()


def test_download_brings_what_digits_reads(mirror, tmp_path, monkeypatch):
    raw = download.download("mnist", tmp_path / "data")
    assert raw == tmp_path / "data" / "MNIST" / "raw"
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    pictures, labels, train, validation, unseen = data.digits()
    assert pictures.shape == (50, 1, 28, 28) and labels.shape == (50,)
    # 30 in its own training files, whose last sixth is for validation, 20 in the others.
    assert train.tolist() == list(range(25))
    assert validation.tolist() == list(range(25, 30))
    assert unseen.tolist() == list(range(30, 50))


def test_again_it_fetches_only_what_is_missing_or_damaged(mirror, tmp_path):
    raw = download.download("mnist", tmp_path / "data")
    labels = raw / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-3])
    for path in raw.glob("*.gz"):
        path.unlink()
    before = {path.name: path.stat().st_mtime_ns for path in raw.iterdir()}
    (mirror / "train-images-idx3-ubyte.gz").rename(mirror / "away")
    with pytest.raises(ValueError, match=r"cannot download mnist .*train-images"):
        download.download("mnist", tmp_path / "data")
    (mirror / "away").rename(mirror / "train-images-idx3-ubyte.gz")
    download.download("mnist", tmp_path / "data")
    assert data.idx_fault(labels) == ""
    for path in mirror.iterdir():
        path.unlink()
    download.download("mnist", tmp_path / "data")  # all is there: no mirror is asked
    assert set(before) == {path.name for path in raw.iterdir() if path.suffix != ".gz"}


def test_a_wrong_checksum_is_an_error(mirror, tmp_path):
    (mirror / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(
        ValueError,
        match=r"cannot download mnist \(.*corrupted.*Run this again to go on, or get train-images",
    ):
        download.download("mnist", tmp_path / "data")


def test_what_arrived_is_read_before_it_is_called_complete(mirror, tmp_path, monkeypatch):
    packed = gzip.compress(idx_files()["t10k-labels-idx1-ubyte"][:-1])
    (mirror / "t10k-labels-idx1-ubyte.gz").write_bytes(packed)
    resources = [
        *MNIST.resources[:3],
        ("t10k-labels-idx1-ubyte.gz", hashlib.md5(packed).hexdigest()),
    ]
    monkeypatch.setattr(MNIST, "resources", resources)
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte \(27 bytes, expected 28\)"):
        download.download("mnist", tmp_path / "data")


def test_without_a_network_the_command_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    assert __main__.main(["download", "mnist", "--to", str(tmp_path / "data")]) == 1
    error = capsys.readouterr().err
    assert (
        error.startswith("error: cannot download mnist (")
        and "expected a network connection" in error
    )
    assert (
        "t10k-labels-idx1-ubyte.gz" in error
        and f"put them into {str(tmp_path / 'data' / 'MNIST' / 'raw')!r}" in error
    )


def test_the_command_says_where_it_is(mirror, tmp_path, capsys):
    assert __main__.main(["download", "mnist", "--to", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(f"mnist: complete in {tmp_path / 'MNIST' / 'raw'}\n")


def test_fashion_mnist_is_known_and_others_are_not(tmp_path):
    assert sorted(download.SETS) == ["fashion-mnist", "mnist"]
    with pytest.raises(ValueError, match="name='cifar': expected one of mnist, fashion-mnist"):
        download.download("cifar", tmp_path)


def test_help_lists_the_commands():
    shown = subprocess.run(
        [sys.executable, "-m", "autoencoders", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "download" in shown and "MNIST" in shown


def write(folder, name="MNIST", **changes):
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    for file, content in (idx_files() | changes).items():
        (raw / file).write_bytes(content)
    return folder


def test_idx_keeps_the_files_own_split(tmp_path):
    files = idx_files()
    folder = write(tmp_path, "FashionMNIST")
    pictures, labels, train, validation, unseen = data.idx("FashionMNIST", folder)
    assert pictures.dtype == torch.float32 and labels.dtype == torch.int64
    assert train.tolist() == list(range(25)) and validation.tolist() == list(range(25, 30))
    assert unseen.tolist() == list(range(30, 50))
    assert labels[unseen].tolist() == list(files["t10k-labels-idx1-ubyte"][8:])
    expected = torch.tensor(list(files["t10k-images-idx3-ubyte"][16:])).view(20, 1, 28, 28) / 255
    torch.testing.assert_close(pictures[unseen], expected)


def test_one_error_names_all_bad_files(tmp_path):
    files = idx_files()
    folder = write(
        tmp_path,
        **{
            "train-images-idx3-ubyte": files["train-images-idx3-ubyte"][:-1],
            "t10k-images-idx3-ubyte": b"<html>",
        },
    )
    (folder / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match="3 of 4 files in .* cannot be read") as error:
        data.idx("MNIST", folder)
    assert "train-images-idx3-ubyte (23,535 bytes, expected 23,536)" in str(error.value)
    assert "t10k-images-idx3-ubyte (not an idx file of 28x28 pictures)" in str(error.value)
    assert "t10k-labels-idx1-ubyte (missing)" in str(error.value)
    assert f"run `python -m autoencoders download mnist --to {folder}`" in str(error.value)


def test_pictures_must_be_of_mnists_size(tmp_path):
    other = bytes.fromhex("00000803 0000001e 0000001b 0000001c") + bytes(30 * 27 * 28)
    with pytest.raises(
        ValueError,
        match=r"1 of 4 files .*train-images-idx3-ubyte \(not an idx file of 28x28 pictures\)",
    ):
        data.idx("MNIST", write(tmp_path, **{"train-images-idx3-ubyte": other}))


def test_labels_must_be_as_many_as_pictures(tmp_path):
    folder = write(tmp_path, **{"t10k-labels-idx1-ubyte": idx_files()["train-labels-idx1-ubyte"]})
    with pytest.raises(
        ValueError, match="20 pictures, 30 labels in .*: expected one label a picture"
    ):
        data.idx("MNIST", folder)


def test_missing_mnist_never_falls_back(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"4 of 4 files in .*MNIST.raw.*\(missing\).*Put whole ones there"
    ):
        data.digits()
