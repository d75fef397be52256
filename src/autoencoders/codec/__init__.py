"""The learned codec: a network, an entropy model, a range coder, and the files that they make.

Nothing else in the package needs it. Its modules, each using those before it only:

- `container`: the bytes of a file, checksums, and what a file may declare
- `range_coder`: integers to bytes and back
- `model`: the network and its entropy model
- `weights`: a model as a file; `codec.aew`, the one that comes with the program
- `archive`: the network of a file that has its decoder in it, and its bytes
- `files`: pictures as files
- `training`: losses, training, and the recipes of what we ship
- `refinement`: latents made to measure for a single picture
- `cli`: the commands of `python -m autoencoders`

`quality` counts from 1 in files and on the command line, `level` from 0 in the network.
"""

from autoencoders.codec.archive import ArchiveModel
from autoencoders.codec.container import CorruptFileError
from autoencoders.codec.files import decode, decode_all, encode, encode_all, encode_archive, info
from autoencoders.codec.model import LearnedCodec, laplace_bits
from autoencoders.codec.range_coder import Reader, Writer, table_of
from autoencoders.codec.refinement import refine
from autoencoders.codec.training import fit_codec, fit_student, train_archive
from autoencoders.codec.weights import WEIGHTS_FILE, pack, packed_tensors, shipped, unpack

__all__ = [
    "WEIGHTS_FILE",
    "ArchiveModel",
    "CorruptFileError",
    "LearnedCodec",
    "Reader",
    "Writer",
    "decode",
    "decode_all",
    "encode",
    "encode_all",
    "encode_archive",
    "fit_codec",
    "fit_student",
    "info",
    "laplace_bits",
    "pack",
    "packed_tensors",
    "refine",
    "shipped",
    "table_of",
    "train_archive",
    "unpack",
]
