import pytest
import scipy.stats
import torch
from conftest import car, small_codec

from autoencoders import data, losses, models, training


@pytest.mark.parametrize("size", [32, 48, 128, 256])
@pytest.mark.parametrize("latent", [4, 100, 256])
def test_conv_shapes_for_any_size_and_latent(size, latent):
    model = models.ConvAutoencoder(size, latent, width=4)
    x = torch.rand(2, 3, size, size)
    assert model.encoder(x).flatten(1).shape == (2, latent)
    assert model(x).shape == x.shape


def test_conv_latent_is_a_map_where_it_can_be():
    model = models.ConvAutoencoder(128, 1024, width=4)
    assert model.encoder(torch.rand(1, 3, 128, 128)).shape == (1, 16, 8, 8)
    assert model(torch.rand(1, 3, 64, 96)).shape == (1, 3, 64, 96)  # so crops pass too
    assert models.ConvAutoencoder(128, 1000, width=4).encoder(torch.rand(1, 3, 128, 128)).shape == (
        1,
        1000,
    )


def test_conv_output_is_a_picture():
    y = models.ConvAutoencoder(32, 16, width=4)(100 * torch.randn(4, 3, 32, 32))
    assert (y >= 0).all() and (y <= 1).all()


@pytest.mark.parametrize("hidden", [0, 20])
def test_dense_shapes(hidden):
    model = models.DenseAutoencoder(32, 7, hidden)
    x = torch.rand(2, 3, 32, 32)
    assert model.encoder(x).shape == (2, 7)
    assert model(x).shape == x.shape


def test_dense_without_hidden_layer_is_affine():
    model = models.DenseAutoencoder(32, 7, hidden=0)
    a, b = torch.rand(2, 1, 3, 32, 32)
    torch.testing.assert_close(model(a) + model(b), model(a + b) + model(torch.zeros_like(a)))


def test_parameter_counts_by_hand():
    assert models.parameters(models.DenseAutoencoder(32, 7, 0)) == 2 * 3072 * 7 + 7 + 3072
    assert models.parameters(models.conv(3, 8, 5)) == 8 * (3 * 25 + 1)
    assert models.parameters(models.deconv(8, 4)) == 16 * (8 * 9 + 1)


def test_conv_and_deconv_change_the_side_by_two():
    x = torch.rand(1, 3, 16, 16)
    assert models.conv(3, 8, 5)(x).shape == (1, 8, 8, 8)
    assert models.deconv(3, 8)(x).shape == (1, 8, 32, 32)


@pytest.mark.parametrize(
    "model",
    [
        models.DenseAutoencoder(32, 5, 8),
        models.ConvAutoencoder(32, 16, 4),
        models.ConvAutoencoder(32, 5, 4),
    ],
)
def test_every_weight_gets_a_gradient(model):
    losses.mse(model, torch.rand(4, 3, 32, 32))["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    "model", [models.DenseAutoencoder(32, 16, 64), models.ConvAutoencoder(32, 64, 16)]
)
def test_overfits_one_batch(model, pictures):
    x = torch.from_numpy(pictures[:4, ::2, ::2].copy()).movedim(-1, 1).float() / 255
    before = losses.mse(model, x)["loss"].item()
    training.fit(model, losses.mse, x, epochs=300, lr=3e-3)
    assert losses.mse(model, x)["loss"].item() < 0.1 * min(before, x.var().item())


def test_rebuilt_from_its_arguments():
    for model in (models.DenseAutoencoder(48, 5, 8), models.ConvAutoencoder(48, 18, 4)):
        again = type(model)(**model.arguments)
        again.load_state_dict(model.state_dict())
        x = torch.rand(1, 3, 48, 48)
        torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    "make,message",
    [
        (
            lambda: models.ConvAutoencoder(40),
            "size=40, .* need a size that 16 divides, e.g. 32 or 48",
        ),
        (
            lambda: models.ConvAutoencoder(16),
            "size=16: expected a square picture's side from 32 to 256",
        ),
        (lambda: models.DenseAutoencoder(512), "size=512: expected"),
        (lambda: models.DenseAutoencoder(32, 0), "latent=0: expected 1 to 3072 values"),
        (lambda: models.ConvAutoencoder(32, 4000), "latent=4000: expected 1 to 3072 values"),
        (lambda: models.ConvAutoencoder(32, 16, 0), "width=0: .* a width from 1"),
        (lambda: models.DenseAutoencoder(32, 16, -1), "hidden=-1: expected at least 0"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("scale", [0.1, 1.0, 7.3, 100.0])
def test_laplace_bits_are_those_of_the_closed_form(scale):
    x = torch.linspace(-12 * scale - 3, 12 * scale + 3, 301, dtype=torch.float64)
    distribution = scipy.stats.laplace(scale=scale)
    side = (
        x.abs().numpy()
    )  # the far side, where a difference of survival functions keeps its digits
    mass = torch.tensor(distribution.sf(side - 0.5) - distribution.sf(side + 0.5)).clamp(min=1e-9)
    bits = models.laplace_bits(x, torch.tensor(scale, dtype=torch.float64).log2())
    torch.testing.assert_close(bits, -mass.log2(), rtol=1e-6, atol=1e-6)


def test_laplace_bits_sum_to_one_and_stay_finite():
    for log2_scale in (-4.0, 0.0, 3.0):
        bits = models.laplace_bits(torch.arange(-400.0, 401.0), torch.tensor(log2_scale))
        assert (2**-bits).sum().item() == pytest.approx(1, abs=1e-5)
    residual, log2_scale = (
        torch.tensor([0.0, 1e9, -1e9, 3.0], requires_grad=True),
        torch.tensor([-99.0, 99, 0, 0], requires_grad=True),
    )
    models.laplace_bits(residual, log2_scale).sum().backward()
    assert residual.grad.isfinite().all() and log2_scale.grad.isfinite().all()


@pytest.mark.parametrize(
    "passes", [models.Context.FIRST, models.Context.LATER], ids=["first", "later"]
)
@pytest.mark.parametrize("height,width", [(1, 1), (1, 2), (3, 5), (4, 4), (7, 16), (9, 2)])
def test_passes_visit_each_place_once_and_look_at_visited_ones(passes, height, width):
    visited = set()
    for stride, places, taps in passes:
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
    """A decoder that gives each pass only the values of that pass gets what an encoder that holds all of them does."""
    latents, level, parts = (
        3 * torch.randn(1, 16, height, width, generator=torch.Generator().manual_seed(0)).double(),
        torch.tensor([5]),
        [],
    )
    encoded = coder.walk(
        latents,
        level,
        lambda values, mean, _: parts.append((values - mean).round()) or mean + parts[-1],
    )
    assert sum(part.numel() for part in parts) == latents.numel()
    rest = iter(parts)
    decoded = coder.walk(
        torch.full_like(latents, torch.nan), level, lambda _, mean, __: mean + next(rest)
    )
    torch.testing.assert_close(decoded, encoded, rtol=0, atol=0)


def test_learned_codec_starts_as_pca():
    """Untrained and without rounding it is the PCA of 8x8 blocks, which all channels make lossless."""
    pictures = data.to_float(torch.stack([torch.from_numpy(car(i)) for i in range(8)]).numpy())
    model = models.LearnedCodec((64, 128), 4, 4, 1, 4).start_from_pca(pictures)
    torch.testing.assert_close(
        model.synthesis(model.analysis(pictures), torch.zeros(8)), pictures, rtol=0, atol=0.02
    )
    few = models.LearnedCodec((3, 5), 4, 4, 1, 4).start_from_pca(pictures)
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
    assert coder.snap(torch.tensor([value], dtype=torch.float64)).item() == expected
    assert small_codec().snap(torch.tensor(value)).item() == pytest.approx(value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"groups": ()}, {"groups": (0, 5)}, {"groups": (100, 93)}, {"width": 0}, {"post": 1000}, {"blocks": -1}, {"context": 1},
        {"lambdas": ()}, {"lambdas": (0.0,)}, {"lambdas": (1.0,) * 9},
    ],
)  # fmt: skip
def test_learned_codec_errors(arguments):
    with pytest.raises(
        ValueError,
        match="expected numbers from 1 .* at most 192 channels in all, and one to eight lambdas",
    ):
        models.LearnedCodec(**arguments)


DENOISERS = [models.DenseDenoiser(), models.ConvDenoiser(1, 8), models.ConvDenoiser(3, 4, 3)]


@pytest.mark.parametrize("model", DENOISERS, ids=["dense", "conv", "colour"])
def test_denoisers_return_pictures_and_every_weight_gets_a_gradient(model):
    x = (
        torch.rand(2, 3, 64, 40)
        if model.arguments.get("channels") == 3
        else torch.rand(2, 1, 28, 28)
    )
    y = model(x)
    assert y.shape == x.shape and y.min() >= 0 and y.max() <= 1
    losses.binary_cross_entropy(model, x)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_fine_detail_goes_round_the_coarse_map():
    model = models.ConvDenoiser(1, 8)
    for p in model.encoder[1].parameters():
        torch.nn.init.zeros_(p)
    assert not torch.equal(*model(torch.rand(2, 1, 28, 28)))


def test_the_reference_sizes():
    assert models.parameters(models.DenseDenoiser()) == 784 * 64 + 64 + 64 * 784 + 784
    assert (
        models.parameters(models.DenseClassifier())
        == 784 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10
    )
    assert models.DenseDenoiser().encoder(torch.rand(3, 1, 28, 28)).shape == (3, 64)


@pytest.mark.parametrize("model", [models.DenseClassifier(classes=7), models.ConvClassifier(4, 7)])
def test_classifiers_learn_one_batch(model):
    torch.manual_seed(0)
    x, label = torch.rand(14, 1, 28, 28), torch.arange(14) % 7
    assert model(x).shape == (14, 7)
    history = training.fit(model, losses.cross_entropy, (x, label), epochs=150, lr=3e-3)
    assert history["train_accuracy"][-1] == 1


def test_the_composite_is_one_after_the_other():
    denoiser, classifier = models.DenseDenoiser(), models.DenseClassifier()
    both, x = models.DenoiseAndClassify(denoiser, classifier), torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(both(x), classifier(denoiser(x)))
    assert models.parameters(both) == models.parameters(denoiser) + models.parameters(classifier)


def test_a_sure_denoiser_still_learns_in_bfloat16():
    """In bfloat16 a sigmoid of 9 is 1, and the gradient of what is wrong there would be 0."""
    model = models.DenseDenoiser()
    with torch.no_grad():
        model.decoder[0].bias.fill_(9)
    with torch.autocast("cpu", torch.bfloat16):
        losses.binary_cross_entropy(model, torch.zeros(1, 1, 28, 28))["loss"].backward()
    torch.testing.assert_close(
        model.decoder[0].bias.grad.sum(), torch.tensor(1.0), atol=0.02, rtol=0
    )


@pytest.mark.parametrize(
    "model,shape,wanted",
    [
        (models.DenseDenoiser(), (1, 28, 28), r"\(N, 1, 28, 28\); add \[None\]"),
        (models.DenseDenoiser(), (1, 1, 32, 32), r"\(N, 1, 28, 28\)"),
        (models.ConvDenoiser(3, 4, 3), (1, 3, 28, 28), r"\(N, 3, H, W\), H and W multiples of 8"),
        (models.ConvDenoiser(3, 4), (1, 1, 28, 28), r"\(N, 3, H, W\)"),
        (models.DenseClassifier(), (1, 3, 28, 28), r"\(N, 1, 28, 28\)"),
        (models.ConvClassifier(), (28, 28), r"\(N, 1, H, W\)"),
    ],
)
def test_wrong_shapes(model, shape, wanted):
    with pytest.raises(ValueError, match=f"a batch of shape .*: expected {wanted}"):
        model(torch.rand(shape))


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.DenseDenoiser(hidden=0),
        lambda: models.ConvDenoiser(width=0),
        lambda: models.ConvClassifier(0),
    ],
)
def test_sizes_of_nothing(make):
    with pytest.raises(ValueError, match="=0: expected at least 1"):
        make()
