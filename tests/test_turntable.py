"""What models are told about the cars that turn, and the networks that come with the course."""

import pytest
import torch

from autoencoders import course, data, generative, losses, models, turntable


@pytest.fixture(scope="module")
def cars():
    return data.turntable(16)


def test_conditions_say_what_the_table_says(cars):
    told = turntable.all_conditions(cars)
    assert told.shape == (6000, turntable.CONDITIONS)
    assert torch.equal(told[:, :7].argmax(1), cars.body_type)
    assert torch.equal(told[:, 7:20].argmax(1), cars.paint)
    assert torch.equal(told[:, :20].sum(1), torch.full((6000,), 2.0))
    off = turntable.turned(turntable.azimuth(told[:, 20:22]), cars.azimuth)
    assert off.max() < 0.01
    assert told[:, 22].abs().max() <= 1


def test_mirrored_cars_turn_the_other_way(cars):
    torch.manual_seed(0)
    pictures, told = cars.pictures[:50], turntable.all_conditions(cars)[:50]
    before = told.clone()
    new_pictures, new_told = turntable.mirrored((pictures, told))
    mirrored = (new_pictures == pictures.flip(3)).flatten(1).all(1)
    assert 0 < mirrored.sum() < 50
    azimuths = turntable.azimuth(new_told[:, 20:22])
    expected = torch.where(mirrored, 360 - cars.azimuth[:50], cars.azimuth[:50])
    assert turntable.turned(azimuths, expected).max() < 0.01
    others = [column for column in range(23) if column != turntable.SINE]
    assert torch.equal(new_told[:, others], told[:, others])
    assert torch.equal(told, before)  # the training data stay as they are


def test_moved_pictures_keep_their_size_and_their_cars(cars):
    torch.manual_seed(0)
    pictures, told = cars.pictures[:8], turntable.all_conditions(cars)[:8]
    moved, _ = turntable.mirrored_and_moved((pictures, told), margin=2)
    assert moved.shape == pictures.shape
    assert not torch.equal(moved, pictures)


def test_the_way_between_two_azimuths():
    a = torch.tensor([359.0, 90.0, 180.0, 10.0])
    b = torch.tensor([1.0, 90.0, 0.0, 350.0])
    torch.testing.assert_close(turntable.turned(a, b), torch.tensor([2.0, 0.0, 180.0, 20.0]))


def test_the_classifier_answers_each_question():
    model = models.AttributeClassifier((7, 13, 2), width=4)
    answers = model(torch.rand(5, 3, 64, 64))
    assert [tuple(answer.shape) for answer in answers] == [(5, 7), (5, 13), (5, 2)]
    assert model.features(torch.rand(5, 3, 64, 64)).shape == (5, 16)
    with pytest.raises(ValueError, match=r"\(5, 1, 64, 64\): expected \(N, 3, H, W\)"):
        model(torch.rand(5, 1, 64, 64))
    with pytest.raises(ValueError, match="answers=0: expected at least 1"):
        models.AttributeClassifier((7, 0))


def test_a_classifier_with_batch_normalisation_is_saved_whole(tmp_path):
    torch.manual_seed(0)
    model = models.AttributeClassifier((7, 2), width=4)
    for _ in range(3):
        model(torch.rand(8, 3, 16, 16))  # in training mode: moves the running means
    models.save(model, tmp_path / "model.pt")
    again = models.load(tmp_path / "model.pt", models.AttributeClassifier)
    x = torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(again(x)[0], model.eval()(x)[0], atol=0.02, rtol=0.02)


def test_two_views_are_of_one_car_and_mirrored_together(cars):
    torch.manual_seed(0)
    numbers = turntable.by_car(cars.train, cars)
    assert numbers.shape == (800, 6)
    assert (cars.car[numbers] == cars.car[numbers[:, :1]]).all()
    told = turntable.all_conditions(cars)
    batch = cars.pictures[numbers[:20]], told[numbers[:20]]
    before = batch[1].clone()
    seen, seen_told, wanted, wanted_told = turntable.two_views(batch)
    assert torch.equal(batch[1], before)
    mirrors = []
    for picture, words in ((seen, seen_told), (wanted, wanted_told)):
        for i, six in enumerate(batch[0]):
            straight = (six == picture[i]).flatten(1).all(1)
            mirrored = (six.flip(3) == picture[i]).flatten(1).all(1)
            assert straight.sum() + mirrored.sum() == 1
            mirrors.append(bool(mirrored.any()))
            view = (straight | mirrored).nonzero().item()
            sign = -1 if mirrors[-1] else 1
            assert words[i, turntable.SINE] == sign * batch[1][i, view, turntable.SINE]
    assert mirrors[:20] == mirrors[20:]
    assert len(set(mirrors)) == 2
    assert not any(torch.equal(a, b) for a, b in zip(seen, wanted, strict=True))


def test_the_elbo_of_the_same_view_is_the_usual_one(cars):
    torch.manual_seed(0)
    vae = generative.ConditionalVAE(23, size=16, latent=4, width=2).eval()
    batch = cars.pictures[:6], turntable.all_conditions(cars)[:6]
    ours = turntable.other_view(vae, batch, beta=2.0, sigma=0.2)
    usual = losses.elbo(vae, batch, beta=2.0, sigma=0.2)
    for name, term in usual.items():
        torch.testing.assert_close(ours[name], term)


@pytest.mark.parametrize("name", sorted(turntable.RECIPES))
def test_recipes_write_small_weights_that_load(tmp_path, monkeypatch, name):
    def few(size):
        cars = read(size)
        return cars._replace(train=cars.train[:36], validation=cars.validation[:12])

    read = data.turntable
    monkeypatch.setattr(data, "turntable", few)
    out = tmp_path / "model.pt"
    turntable.RECIPES[name](out, epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    kinds = {"attributes": models.AttributeClassifier, "judge": models.AttributeClassifier}
    kinds |= {"dcgan": generative.Generator, "conditional-vae": generative.ConditionalVAE}
    kind = kinds.get(name.removeprefix("turntable-"), generative.VAE)
    model = models.load(out, kind)
    assert out.stat().st_size < 1_300_000
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("turntable_attributes.pt", models.AttributeClassifier),
        ("turntable_classes.pt", generative.ConditionalVAE),
        ("turntable_conditional_vae.pt", generative.ConditionalVAE),
        ("turntable_dcgan.pt", generative.Generator),
        ("turntable_judge.pt", models.AttributeClassifier),
        ("turntable_vae_0.1.pt", generative.VAE),
        ("turntable_vae_1.pt", generative.VAE),
        ("turntable_vae_30.pt", generative.VAE),
    ],
)
def test_the_weights_that_come_with_the_course_load(file, kind):
    models.load(course.ROOT / "notebooks" / file, kind)


def test_the_weights_of_the_notebook_are_small():
    files = list((course.ROOT / "notebooks").glob("turntable_*.pt"))
    assert sum(path.stat().st_size for path in files) <= 4_000_000


def test_the_classifier_that_measures_obedience_reads_real_unseen_cars():
    cars = data.turntable(64)
    classifier = models.load(
        course.ROOT / "notebooks" / "turntable_attributes.pt", models.AttributeClassifier
    )
    with torch.no_grad():
        body_type, paint, direction = classifier(cars.pictures[cars.unseen])
    assert (body_type.argmax(1) == cars.body_type[cars.unseen]).float().mean() > 0.93
    assert (paint.argmax(1) == cars.paint[cars.unseen]).float().mean() > 0.97
    off = turntable.turned(turntable.azimuth(direction), cars.azimuth[cars.unseen])
    assert off.median() < 4
