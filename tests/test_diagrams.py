import matplotlib.pyplot as plt
import pytest

from autoencoders import diagrams


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_a_network_has_a_block_for_each_tensor_and_its_size():
    stages = [
        ("picture", "", (3, 32, 32)),
        ("encoder", "conv", (16, 16, 16)),
        ("latent", "linear", (1024,)),
    ]
    ax = diagrams.network(stages, skips=[(0, 1)], title="Small")
    blocks = [patch for patch in ax.patches if hasattr(patch, "get_width")]
    words = [text.get_text() for text in ax.texts]
    assert len(blocks) == 3
    assert words == ["3\n× 32\n× 32", "16\n× 16\n× 16", "conv", "1,024", "linear"]
    # More rows make a block higher, more channels make it wider; blocks do not overlap.
    picture, encoder, latent = blocks
    assert picture.get_height() > encoder.get_height()
    assert picture.get_width() < encoder.get_width()
    assert picture.get_x() + picture.get_width() < encoder.get_x() < latent.get_x()
    with pytest.raises(ValueError, match="role='middle': expected one of picture, encoder"):
        diagrams.network([("middle", "", (3, 32, 32))])


def test_a_flow_joins_its_boxes_at_facing_sides():
    nodes = {"a": (0, 0), "b": (1, 0), "c": (1, 1)}
    ax = diagrams.flow(nodes, [("a", "b", "y"), ("b", "c")])
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c", "y"]
    boxes = [patch for patch in ax.patches if hasattr(patch, "get_width")]
    arrows = [patch for patch in ax.patches if not hasattr(patch, "get_width")]
    start, end = arrows[0]._posA_posB
    assert start == (boxes[0].get_x() + boxes[0].get_width(), 0)
    assert end == (boxes[1].get_x(), 0)
    with pytest.raises(ValueError, match="edge 'a' to 'd': expected nodes, 'd' is none"):
        diagrams.flow(nodes, [("a", "d")])
