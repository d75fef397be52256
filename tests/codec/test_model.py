import pytest
import scipy.stats
import torch
from conftest import car, small_codec

from autoencoders import codec, data, losses
from autoencoders.codec import model as network


@pytest.mark.parametrize("scale", [0.1, 1.0, 7.3, 100.0])
def test_laplace_bits_are_those_of_the_closed_form(scale):
    x = torch.linspace(-12 * scale - 3, 12 * scale + 3, 301, dtype=torch.float64)
    distribution = scipy.stats.laplace(scale=scale)
    side = (
        x.abs().numpy()
    )  # the far side, where a difference of survival functions keeps its digits
    mass = torch.tensor(distribution.sf(side - 0.5) - distribution.sf(side + 0.5)).clamp(min=1e-9)
    bits = codec.laplace_bits(x, torch.tensor(scale, dtype=torch.float64).log2())
    torch.testing.assert_close(bits, -mass.log2(), rtol=1e-6, atol=1e-6)


def test_laplace_bits_sum_to_one_and_stay_finite():
    for log2_scale in (-4.0, 0.0, 3.0):
        bits = codec.laplace_bits(torch.arange(-400.0, 401.0), torch.tensor(log2_scale))
        assert (2**-bits).sum().item() == pytest.approx(1, abs=1e-5)
    residual, log2_scale = (
        torch.tensor([0.0, 1e9, -1e9, 3.0], requires_grad=True),
        torch.tensor([-99.0, 99, 0, 0], requires_grad=True),
    )
    codec.laplace_bits(residual, log2_scale).sum().backward()
    assert residual.grad.isfinite().all() and log2_scale.grad.isfinite().all()


@pytest.mark.parametrize("order", [network.FIRST, network.LATER], ids=["first", "later"])
@pytest.mark.parametrize("height,width", [(1, 1), (1, 2), (3, 5), (4, 4), (7, 16), (9, 2)])
def test_passes_visit_each_place_once_and_look_at_visited_ones(order, height, width):
    visited = set()
    for stride, places, taps in network.passes(order):
        new = {
            (i, j)
            for r, c in places
            for i in range(r, height, stride)
            for j in range(c, width, stride)
        }
        inside = lambda i, j: 0 <= i < height and 0 <= j < width  # noqa: E731
        assert all(
            (i + a, j + b) in visited for i, j in new for a, b in taps if inside(i + a, j + b)
        )
        assert not new & visited and all(max(abs(a), abs(b)) <= 2 for a, b in taps)
        visited |= new
    assert len(visited) == height * width


@pytest.mark.parametrize("height,width", [(1, 1), (3, 5), (6, 8)])
def test_the_walk_knows_nothing_of_what_comes_later(coder, height, width):
    """A decoder has only the values of each pass, and ends where an encoder does that has all."""
    generator = torch.Generator().manual_seed(0)
    latents = 3 * torch.randn(1, 16, height, width, generator=generator).double()
    level, parts = torch.tensor([5]), []

    def write(values, mean, scale):
        parts.append((values - mean).round())
        return mean + parts[-1]

    encoded = coder.walk(latents, level, write)
    assert sum(part.numel() for part in parts) == latents.numel()
    rest = iter(parts)

    def read(values, mean, scale):
        return mean + next(rest)

    decoded = coder.walk(torch.full_like(latents, torch.nan), level, read)
    torch.testing.assert_close(decoded, encoded, rtol=0, atol=0)


def test_learned_codec_starts_as_pca():
    """Untrained and without rounding it is the PCA of 8x8 blocks: lossless with all channels."""
    pictures = data.to_float(torch.stack([torch.from_numpy(car(i)) for i in range(8)]).numpy())
    model = codec.LearnedCodec((64, 128), 4, 4, 1, 4).start_from_pca(pictures)
    torch.testing.assert_close(
        model.synthesis(model.analysis(pictures), torch.zeros(8)), pictures, rtol=0, atol=0.02
    )
    few = codec.LearnedCodec((3, 5), 4, 4, 1, 4).start_from_pca(pictures)
    assert (
        losses.mse(lambda x: few.synthesis(few.analysis(x), torch.zeros(8)), pictures)["loss"]
        < 0.1 * pictures.var()
    )


def test_learned_codec_sizes_and_levels():
    model = small_codec()
    pictures = torch.rand(2, 3, 24, 40)
    decoded, bits = model(pictures, torch.tensor([0, 7]))
    assert decoded.shape == pictures.shape and bits.shape == (2,) and (bits > 0).all()
    assert model.analysis(pictures).shape == (2, 16, 3, 5)
    bits = [model(pictures[:1], torch.tensor([level]))[1].item() for level in range(8)]
    assert bits == sorted(bits)
    gain, inverse, shift = model.gains()
    torch.testing.assert_close(gain * inverse, torch.ones_like(gain))
    torch.testing.assert_close(gain.log2(), shift)


def test_fixed_point_estimates_as_floating_point_does(coder):
    pictures = data.to_float(car(4)[None])
    (_, bits), (_, fixed) = (
        small_codec()(pictures, torch.tensor([4])),
        coder(pictures, torch.tensor([4])),
    )
    assert fixed.item() == pytest.approx(bits.item(), rel=0.03)


@pytest.mark.parametrize(
    "value,expected",
    [(0.3, 77 / 256), (-0.3, -77 / 256), (1e9, 2048), (-1e9, -2048), (1 / 512, 1 / 256)],
)
def test_snap(coder, value, expected):
    fixed, floating = coder.context[0], small_codec().context[0]
    assert fixed.snap(torch.tensor([value], dtype=torch.float64)).item() == expected
    assert floating.snap(torch.tensor(value)).item() == pytest.approx(value)


def test_a_floating_copy_of_fixed_point_has_gradients_and_leaves_it_alone(coder):
    copy = coder.floating_copy()
    pictures = data.to_float(car(4)[None]).requires_grad_()
    level = torch.tensor([4])
    decoded, bits = copy(pictures, level)
    assert bits.dtype == torch.float32 and not copy.fixed_point
    (bits.sum() + decoded.sum()).backward()
    assert pictures.grad.abs().sum() > 0
    assert coder.fixed_point and coder.context[0].own.weight.dtype == torch.float64
    torch.testing.assert_close(copy.gains(), coder.gains().float(), rtol=0, atol=2**-9)


def test_the_order_of_decoding_by_hand():
    """What files of every day depend on: the places of each pass and the neighbours it goes by."""
    near = [(a, b) for a in range(-2, 3) for b in range(-2, 3) if (a + b) % 2]
    diagonal = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    assert network.passes(network.FIRST) == [
        (4, [(0, 0)], []),
        (4, [(2, 2)], [(2 * a, 2 * b) for a, b in diagonal]),
        (4, [(0, 2), (2, 0)], [(-2, 0), (0, -2), (0, 2), (2, 0)]),
        (2, [(1, 1)], diagonal),
        (2, [(0, 1), (1, 0)], near),
    ]
    assert network.passes(network.LATER) == [
        (2, [(0, 0)], []),
        (2, [(1, 1)], diagonal),
        (2, [(0, 1), (1, 0)], near),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {"groups": ()},
        {"groups": (0, 5)},
        {"groups": (100, 93)},
        {"width": 0},
        {"post": 1000},
        {"blocks": -1},
        {"context": 1},
        {"lambdas": ()},
        {"lambdas": (0.0,)},
        {"lambdas": (1.0,) * 9},
    ],
)
def test_learned_codec_errors(arguments):
    with pytest.raises(
        ValueError,
        match="expected numbers from 1 .* at most 192 channels in all, and one to eight lambdas",
    ):
        codec.LearnedCodec(**arguments)


def test_fixed_point_is_exact(coder):
    """Every layer of the entropy model gives what arithmetic in whole numbers gives.

    So no order of sums can matter.
    """
    layers = [layer for layer in coder.context.modules() if isinstance(layer, torch.nn.Conv2d)]
    checked = []

    def check(layer, inputs, output):
        x, weight, bias = (
            (t * 2**k).long() for t, k in ((inputs[0], 8), (layer.weight, 12), (layer.bias, 20))
        )
        assert (
            (x == inputs[0] * 2**8).all()
            and (weight == layer.weight * 2**12).all()
            and (bias == layer.bias * 2**20).all()
        )
        rows = torch.nn.functional.unfold(
            x.double(), layer.kernel_size, padding=layer.padding
        ).long()
        exact = weight.flatten(1) @ rows + bias[:, None]
        assert (output.flatten(2) * 2**20 == exact).all() and (
            weight.abs().flatten(1) @ rows.abs()
        ).max() < 2**50
        checked.append(layer)

    hooks = [layer.register_forward_hook(check) for layer in layers]
    try:
        codec.decode(codec.encode(car(0, 40, 56), 5, coder), coder)
    finally:
        for hook in hooks:
            hook.remove()
    assert set(checked) == set(layers)
