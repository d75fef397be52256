import pytest
import torch

from autoencoders import course, losses, models, training


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


def test_the_residual_network_learns_one_batch():
    torch.manual_seed(0)
    model = models.ResidualNetwork(classes=7, width=8, levels=3)
    x, label = torch.rand(14, 3, 32, 32), torch.arange(14) % 7
    assert model(x).shape == (14, 7)
    assert model.maps(x).shape == (14, 32, 4, 4)
    torch.testing.assert_close(model.features(x), model.maps(x).mean((2, 3)))
    history = training.fit(model, losses.cross_entropy, (x, label), epochs=60, lr=3e-3)
    assert history["train_accuracy"][-1] == 1


def test_a_residual_block_that_learnt_nothing_passes_its_input_on():
    block = models.ResidualBlock(8, 8)
    torch.nn.init.zeros_(block.body[-1].weight)  # of the last normalisation
    x = torch.rand(2, 8, 6, 6)
    torch.testing.assert_close(block(x), x)
    assert models.ResidualBlock(8, 16, stride=2)(x).shape == (2, 16, 3, 3)


def test_the_way_around_is_a_convolution_of_one_pixel_with_a_stride():
    """Written without the stride: its gradient writes past its memory (oneDNN, issue 6035)."""
    block, x = models.ResidualBlock(8, 16, stride=2).eval(), torch.rand(2, 8, 7, 6)
    convolution, normalisation = block.around
    assert convolution.stride == (1, 1), f"{convolution}: the heap of a training is damaged"
    torch.nn.init.zeros_(block.body[-1].weight)
    wanted = torch.nn.functional.conv2d(x, convolution.weight, stride=2)
    torch.testing.assert_close(block(x), normalisation(wanted).relu())


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
        (models.ResidualNetwork(7), (1, 1, 64, 64), r"\(N, 3, H, W\)"),
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
        lambda: models.ResidualNetwork(classes=0),
    ],
)
def test_sizes_of_nothing(make):
    with pytest.raises(ValueError, match="=0: expected at least 1"):
        make()


def test_a_saved_model_comes_back(tmp_path):
    torch.manual_seed(0)
    model = models.ConvAutoencoder(32, 64, width=4).eval()
    models.save(model, tmp_path / "a.pt")
    loaded = models.load(tmp_path / "a.pt", models.ConvAutoencoder)
    x = torch.rand(2, 3, 32, 32)
    assert loaded.arguments == model.arguments and not loaded.training
    torch.testing.assert_close(loaded(x), model(x), atol=2e-3, rtol=0)
    assert (tmp_path / "a.pt").stat().st_size < 2.2 * models.parameters(model) + 8000


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "missing"])
def test_a_damaged_model_is_one_clear_error(tmp_path, damage):
    path = tmp_path / "a.pt"
    models.save(models.ConvAutoencoder(32, 64, width=4), path)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": content[:-900], "empty": b"", "other": content}[damage])
    kind = models.DenseAutoencoder if damage == "other" else models.ConvAutoencoder
    with pytest.raises(course.CorruptFileError, match=r"a.pt cannot be read \(.*git checkout"):
        models.load(path, kind)
