"""The models that invent pictures, and their losses."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from autoencoders import generative, losses, models, training

PICTURES = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(24) % 3


@pytest.mark.parametrize("size", [16, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_come_back(size, channels):
    x = torch.rand(2, channels, size, size)
    c = generative.one_hot(torch.tensor([0, 2]), 3)
    vae = generative.VAE(channels, size, latent=5, width=2)
    conditional = generative.ConditionalVAE(3, channels, size, latent=5, width=2)
    gan = generative.DCGAN(channels, size, latent=5, width=2)
    for decoded, mean, log_variance in (vae(x), conditional(x, c)):
        assert decoded.shape == x.shape
        assert mean.shape == log_variance.shape == (2, 5)
    assert vae.sample(7).shape == (7, channels, size, size)
    assert conditional.sample(c).shape == x.shape
    assert gan.sample(7).shape == (7, channels, size, size)
    assert gan.discriminator(x).shape == (2,)


def test_three_halvings_for_32_pixels_and_four_for_64():
    for size, halvings in ((32, 3), (64, 4)):
        encoder = generative.VAE(size=size).encoder
        strides = [
            layer.stride for layer in encoder.modules() if isinstance(layer, torch.nn.Conv2d)
        ]
        assert strides == [(2, 2)] * halvings


def test_the_kl_term_is_the_one_of_two_normal_distributions():
    mean, log_variance = torch.randn(9, 4), torch.randn(9, 4)
    divergence = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(losses.kl_per_dimension(mean, log_variance), divergence.mean(0))


def test_the_elbo_sums_over_pixels_and_latents_and_averages_over_pictures():
    vae = generative.VAE(size=16, latent=5, width=2).eval()
    terms = losses.elbo(vae, PICTURES, beta=3.0, sigma=0.2)
    decoded, mean, log_variance = vae(PICTURES)
    likelihood = Normal(decoded, 0.2).log_prob(PICTURES).sum((1, 2, 3)).mean()
    constant = Normal(0.0, 0.2).log_prob(torch.tensor(0.0)) * PICTURES[0].numel()
    kl = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(terms["reconstruction"], constant - likelihood)
    torch.testing.assert_close(terms["kl"], kl)
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + 3 * kl)


def test_latents_are_drawn_in_training_and_are_the_mean_in_evaluation():
    vae = generative.VAE(size=16, latent=5, width=2)
    assert not torch.equal(vae(PICTURES)[0], vae(PICTURES)[0])
    vae.eval()
    decoded, mean, _ = vae(PICTURES)
    torch.testing.assert_close(decoded, vae.decode(mean))


def test_gradients_flow_through_a_draw():
    mean = torch.zeros(1000, 2, requires_grad=True)
    log_variance = torch.full((1000, 2), 2.0, requires_grad=True)
    z = generative.reparameterise(mean, log_variance)
    assert z.std().item() == pytest.approx(torch.e, rel=0.1)
    z.sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones(1000, 2))
    torch.testing.assert_close(log_variance.grad, 0.5 * z.detach())


def test_the_losses_of_a_discriminator_that_only_guesses():
    gan = generative.DCGAN(size=16, latent=5, width=2)
    for parameter in gan.discriminator.parameters():
        parameter.data.zero_()  # so that its logits are 0
    guess = torch.tensor(2.0).log()
    torch.testing.assert_close(losses.discriminator(gan, PICTURES)["loss"], guess)
    torch.testing.assert_close(losses.generator(gan, PICTURES)["loss"], guess)


def test_the_discriminator_gives_the_generator_no_gradient():
    gan = generative.DCGAN(size=16, latent=5, width=2)
    losses.discriminator(gan, PICTURES)["loss"].backward()
    assert all(p.grad is None for p in gan.generator.parameters())
    assert all(p.grad is not None for p in gan.discriminator.parameters())


def test_a_conditional_vae_obeys():
    """Pictures whose grey is their class: the class that is asked for decides the grey."""
    pictures = (LABELS / 2).reshape(-1, 1, 1, 1).expand(24, 1, 16, 16).contiguous()
    conditions = generative.one_hot(LABELS, 3)
    training.seed_everything(0)
    vae = generative.ConditionalVAE(3, channels=1, size=16, latent=2, width=4)
    training.fit(vae, losses.elbo, (pictures, conditions), epochs=150, batch_size=8, lr=5e-3)
    greys = vae.eval().sample(generative.one_hot(torch.tensor([0, 1, 2]), 3)).mean((1, 2, 3))
    torch.testing.assert_close(greys, torch.tensor([0.0, 0.5, 1.0]), atol=0.1, rtol=0)


def train_gan(path, steps=None):
    """Train a small DCGAN; it is interrupted before its batch number `steps`, if that is given."""
    training.seed_everything(0)
    gan = generative.DCGAN(size=16, latent=5, width=4)
    parts = {"d": gan.discriminator, "g": gan.generator}
    optimizers = {}
    for name, part in parts.items():
        optimizers[name] = torch.optim.Adam(part.parameters(), 1e-3, betas=(0.5, 0.999))
    training.fit(
        gan,
        {"d": losses.discriminator, "g": losses.generator},
        PICTURES,
        epochs=4,
        batch_size=8,
        optimizer=optimizers,
        schedule=Interrupted(steps),
        checkpoint=path,
        save_seconds=0,
    )
    return gan, optimizers, torch.get_rng_state()


class Interrupted:
    """A constant schedule that stands for somebody's Ctrl-C before a step."""

    def __init__(self, steps):
        self.steps = steps
        self.asked = 0

    def __call__(self, step, total):
        # `fit` asks for all shares once, for the checkpoint's fingerprint; then step by step.
        self.asked += 1
        if self.steps and self.asked > total and step == self.steps:
            raise KeyboardInterrupt
        return 1.0


def test_a_dcgan_that_was_interrupted_ends_with_the_same_tensors(tmp_path):
    whole, whole_optimizers, whole_rng = train_gan(tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train_gan(tmp_path / "half.pt", steps=7)
    resumed, resumed_optimizers, resumed_rng = train_gan(tmp_path / "half.pt")
    # BatchNorm's running means and variances are buffers of the state.
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    for turn in ("d", "g"):
        states = whole_optimizers[turn].state_dict()["state"]
        others = resumed_optimizers[turn].state_dict()["state"]
        assert states.keys() == others.keys()
        for number, state in states.items():
            for name, tensor in state.items():
                assert torch.equal(tensor, others[number][name]), (turn, number, name)
    assert torch.equal(whole_rng, resumed_rng)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: generative.VAE(size=28), "size=28: expected 16, 32, 64 or 128"),
        (lambda: generative.VAE(latent=0), "latent=0: expected at least 1"),
        (lambda: generative.DCGAN(width=0), "width=0: expected at least 1"),
        (lambda: generative.ConditionalVAE(0), "conditions=0: expected at least 1"),
        (
            lambda: generative.VAE(size=32)(PICTURES),
            r"\(24, 3, 16, 16\): expected \(N, 3, 32, 32\)",
        ),
        (lambda: generative.VAE(size=16)(PICTURES[0]), r"add \[None\]"),
        (lambda: generative.one_hot(LABELS, 2), "labels from 0 to 2: expected 0 to 1"),
        (
            lambda: generative.ConditionalVAE(3, size=16)(PICTURES, torch.zeros(24, 2)),
            r"\(24, 2\): expected \(24, 3\)",
        ),
    ],
)
def test_bad_input_is_told(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    models.save(generative.VAE(size=16), tmp_path / "vae.pt")
    with pytest.raises(ValueError, match=r"a VAE.*expected .* DCGAN"):
        models.load(tmp_path / "vae.pt", generative.DCGAN)


def test_a_circle_of_angles_has_no_seam():
    near = generative.angle(torch.tensor([359.0, 1.0]))
    assert (near[0] - near[1]).norm().item() == pytest.approx(2 * torch.pi / 180, rel=1e-3)
