"""Numbers to shapes: smooth curves, signed distances, and a canvas to paint material properties on. Needs only NumPy."""

import itertools
import zlib

import numpy as np


def generator(seed, element):
    """A random generator of its own for each element of a scene, so that changing one leaves the others as they were."""
    return np.random.default_rng([seed, zlib.crc32(element.encode())])


def pick(rng, weights):
    """One key of `weights` (a dict of key: weight), drawn in proportion to its weight."""
    keys, p = list(weights), np.array(list(weights.values()), float)
    return keys[rng.choice(len(keys), p=p / p.sum())]


def lerp(a, b, t):
    return a + (b - a) * t


def smoothstep(a, b, x):
    t = np.clip((x - a) / (b - a), 0, 1)
    return t * t * (3 - 2 * t)


def smooth_max(a, b, radius):
    """The larger of two signed distances, with their corner rounded: the intersection of two shapes."""
    h = np.clip(0.5 + 0.5 * (a - b) / radius, 0, 1)
    return lerp(b, a, h) + radius * h * (1 - h)


def bezier(a, b, c, t):
    return (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t * t * c


def smooth_curve(points, sigma):
    """A polyline (x, y), extended at both ends and blurred with a Gaussian: natural curves that never overshoot."""
    x, y = np.array(sorted(points), float).T
    step, margin = sigma / 25, 4 * sigma
    grid = np.arange(x[0] - 2 * margin, x[-1] + 2 * margin, step)
    start, end = (y[1] - y[0]) / (x[1] - x[0]), (y[-1] - y[-2]) / (x[-1] - x[-2])
    line = (
        np.interp(grid, x, y)
        + start * np.minimum(grid - x[0], 0)
        + end * np.maximum(grid - x[-1], 0)
    )
    kernel = np.exp(-0.5 * (np.arange(-75, 76) / 25) ** 2)
    smooth = np.convolve(line, kernel / kernel.sum(), "same")
    return lambda q: np.interp(q, grid[75:-75], smooth[75:-75])


# Signed distances in metres, negative inside.


def sd_box(x, y, cx, cy, half_x, half_y, radius=0.0):
    qx, qy = np.abs(x - cx) - half_x + radius, np.abs(y - cy) - half_y + radius
    return (
        np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0) - radius
    )


def sd_segments(x, y, points):
    """Distance to an open polyline."""
    d = np.full(np.shape(x), np.inf)
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        ex, ey, wx, wy = bx - ax, by - ay, x - ax, y - ay
        t = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
        d = np.minimum(d, np.hypot(wx - ex * t, wy - ey * t))
    return d


def sd_polygon(x, y, points):
    inside = np.zeros(np.shape(x), bool)
    closed = [*points, points[0]]
    for (ax, ay), (bx, by) in itertools.pairwise(closed):
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return np.where(inside, -1, 1) * sd_segments(x, y, closed)


def stripes(x, period, width):
    """Signed distance to parallel stripes of a width, repeated with a period."""
    return np.abs((x / period) % 1 - 0.5) * period - width / 2


def coverage(distance, blur=0.004):
    """Signed distance to coverage in [0, 1], anti-aliased over ± `blur` metres."""
    return np.clip(0.5 - distance / (2 * blur), 0, 1)


class Canvas:
    """Material properties on a grid of texels: colour, metallic, roughness, coat, height, glass, glass tint, and paint (1 where
    the car's own paint shows, so that parked cars can share a texture and differ in colour)."""

    def __init__(self, shape, colour, metallic=0.0, roughness=0.4, coat=0.0):
        self.colour = np.ones((*shape, 3)) * colour
        self.surface = np.ones((*shape, 3)) * (metallic, roughness, coat)
        self.paint, self.height = np.ones(shape), np.full(shape, 0.5)
        self.glass, self.tint = np.zeros(shape), np.zeros(shape)

    def put(
        self, mask, colour=None, metallic=None, roughness=None, coat=None, raise_by=0.0, glass=0.0
    ):
        """Cover `mask` (0 to 1) with a material; None leaves a property as it is."""
        rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
        if not len(rows):
            return
        # Most things are small: only the part of the canvas that the mask touches is worked on.
        part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        mask = mask[part]
        if colour is not None:
            self.paint[part] *= 1 - mask
            here = self.colour[part]
            here += (np.asarray(colour) - here) * mask[..., None]
        for channel, value in enumerate((metallic, roughness, coat)):
            if value is not None:
                here = self.surface[(*part, channel)]
                here += (value - here) * mask
        self.height[part] += raise_by * mask
        here = self.glass[part]
        here += (glass - here) * mask

    def seam(self, distance, half_width=0.006):
        """A panel gap: a dark line in a soft groove."""
        self.put(coverage(distance - half_width, 0.003) * 0.93, (0.006, 0.006, 0.006), 0, 0.7, 0)
        self.height -= 0.4 * np.exp(-((distance / (half_width * 1.8)) ** 2))

    def shade(self, factor):
        """Multiply the colour: dirt, streaks, soft shadows."""
        self.colour *= np.asarray(factor)[..., None]

    def above(self, other):
        """This canvas in the lower half of the texture, another one of the same width in the upper half."""
        for name in vars(self):
            setattr(self, name, np.concatenate([getattr(self, name), getattr(other, name)]))
        return self


def blotches(rng, shape, scale, octaves=4):
    """Tileable smooth noise of mean 0 and standard deviation 1; `scale` in texels is the size of the largest blotches."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(shape[1]), np.fft.fftfreq(shape[0])))
    band = (
        (frequency > 0)
        * np.exp(-((frequency * scale / 2**octaves) ** 2))
        / np.maximum(frequency, 1 / scale) ** 1.3
    )
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) * band).real
    return (noise - noise.mean()) / noise.std()


# Meshes: vertices (n, 3) and faces as arrays of vertex indices (m, corners).


def grid_faces(rows, columns, wrap=False):
    i = np.arange(rows - 1)[:, None] * columns
    j = np.arange(columns if wrap else columns - 1)[None]
    k = (j + 1) % columns
    return np.stack([i + j, i + k, i + columns + k, i + columns + j], -1).reshape(-1, 4)


def revolve(profile, n, closed=False):
    """Turn a profile of (radius, y) around the y axis; faces point outwards where y falls along it. `closed` adds end discs."""
    profile, angle = np.asarray(profile, float), np.linspace(0, 2 * np.pi, n, endpoint=False)
    x, z = profile[:, :1] * np.cos(angle), profile[:, :1] * np.sin(angle)
    vertices = np.stack([x, np.broadcast_to(profile[:, 1:], x.shape), z], -1).reshape(-1, 3)
    faces = [grid_faces(len(profile), n, wrap=True)]
    if closed:
        i, j, last = np.arange(n), (np.arange(n) + 1) % n, (len(profile) - 1) * n
        ends = np.array([[0, profile[0, 1], 0], [0, profile[-1, 1], 0]])
        vertices = np.concatenate([vertices, ends])
        centre = np.full(n, len(vertices) - 2)
        faces += [np.stack([j, i, centre], -1), np.stack([last + i, last + j, centre + 1], -1)]
    return vertices, faces


def box_mesh(half):
    """A box around the origin with outward faces."""
    vertices = np.array(
        [[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    ) * np.asarray(half, float)
    faces = np.array(
        [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    )
    return vertices, [faces]


def cushion_mesh(half, exponent=4.0, rows=17, columns=32):
    """A superellipsoid, that is a box with round edges, as a closed mesh."""
    u = np.linspace(-np.pi / 2, np.pi / 2, rows)[1:-1, None]
    v = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]

    def power(t):
        return np.sign(t) * np.abs(t) ** (2 / exponent)

    profile = np.stack(
        [
            power(np.cos(u)) * power(np.cos(v)),
            power(np.cos(u)) * power(np.sin(v)),
            power(np.sin(u)) + 0 * v,
        ],
        -1,
    )
    poles = np.array([[0, 0, -1], [0, 0, 1]])
    vertices = np.concatenate([profile.reshape(-1, 3), poles]) * np.asarray(half, float)
    i, j = np.arange(columns), (np.arange(columns) + 1) % columns
    top, pole = (rows - 3) * columns, (rows - 2) * columns
    fans = [
        np.stack([j, i, np.full(columns, pole)], -1),
        np.stack([top + i, top + j, np.full(columns, pole + 1)], -1),
    ]
    return vertices, [grid_faces(rows - 2, columns, wrap=True), *fans]


def directed_edges_once(faces):
    """True if a mesh is closed and consistently oriented: each directed edge occurs once, and so does its reverse."""
    edges = np.concatenate(
        [np.stack([f, np.roll(f, -1, 1)], -1).reshape(-1, 2) for f in faces if len(f)]
    ).astype(np.int64)
    key, reverse = edges[:, 0] << 32 | edges[:, 1], edges[:, 1] << 32 | edges[:, 0]
    return len(np.unique(key)) == len(key) and np.array_equal(np.sort(key), np.sort(reverse))
