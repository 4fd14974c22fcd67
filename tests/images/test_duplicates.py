from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calco.config import AuditConfig
from calco.images.duplicates import connected, find_twins, in_blocks, shared_scene, signature
from calco.images.io import read_image
from calco.images.toy import TWIN_EVERY, TWIN_OF, draw_sample
from calco.records import ImageSpec, Twins

Image = NDArray[np.uint8]
REAL = Path(__file__).resolve().parents[2].parent / "shared/data/dsb2018/train/images"


def jpeg(quality: int) -> Callable[[Image], Image]:
    def change(image: Image) -> Image:
        code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)

    return change


def resized(factor: float) -> Callable[[Image], Image]:
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return lambda image: np.asarray(
        cv2.resize(image, None, fx=factor, fy=factor, interpolation=way), np.uint8
    )


def levels(gain: float, offset: float = 0.0) -> Callable[[Image], Image]:
    return lambda image: np.clip(image * gain + offset, 0, 255).astype(np.uint8)


def gamma(exponent: float) -> Callable[[Image], Image]:
    return lambda image: np.rint(255 * (image / 255) ** exponent).astype(np.uint8)


def cropped(share: float, corner: tuple[float, float]) -> Callable[[Image], Image]:
    """Keep 1 - share of both sides; the corner (0, 0) is top left, (1, 1) bottom right."""

    def change(image: Image) -> Image:
        height, width = (round(side * (1 - share)) for side in image.shape[:2])
        row = round(corner[0] * (image.shape[0] - height))
        col = round(corner[1] * (image.shape[1] - width))
        return image[row : row + height, col : col + width]

    return change


CHANGES: dict[str, Callable[[Image], Image]] = {
    "jpeg 30": jpeg(30),
    "jpeg 90": jpeg(90),
    "half size": resized(0.5),
    "double size": resized(2),
    "darker": levels(0.8),
    "brighter": levels(1.2),
    "offset": levels(1.0, 20),
    "less contrast": levels(0.8, 25),
    "a quarter of the light": levels(0.25),
    "twice the light": levels(2.0),  # saturates what was brighter than half
    "gamma 0.5": gamma(0.5),
    "gamma 2": gamma(2),
    "dark and re-encoded": lambda image: jpeg(80)(gamma(1.8)(levels(0.5)(image))),
    "crop 5 % off-centre": cropped(0.05, (0.2, 0.7)),
    "crop 5 % at corner": cropped(0.05, (0, 0)),
    "crop 10 %": cropped(0.10, (0.5, 0.5)),
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "quarter turn": lambda image: np.rot90(image),
    "grey": lambda image: np.repeat(image.mean(axis=2).astype(np.uint8)[..., None], 3, axis=2),
    "all at once": lambda image: jpeg(60)(levels(1.1)(cropped(0.05, (1, 0.4))(image))),
}


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    """Twelve unrelated pictures (the first fifteen indices hold no copies and no debris only)."""
    return [draw_sample(3, index)[0] for index in range(12)]


def twins_of(
    images: Sequence[Image],
    config: AuditConfig | None = None,
    sha256s: Sequence[str] | None = None,
) -> list[tuple[int, ...]]:
    """Return groups as positions."""
    ids = [f"{i:04d}" for i in range(len(images))]
    signatures = [signature(np.ascontiguousarray(image)) for image in images]
    found = find_twins(ids, signatures, sha256s or ids, config or AuditConfig())
    return [tuple(int(i) for i in twins.ids) for twins in found]


def test_unrelated_pictures_are_no_twins(pictures: list[Image]) -> None:
    assert twins_of(pictures) == []


@pytest.mark.parametrize("name", CHANGES)
def test_altered_copies_are_twins_of_their_originals_alone(
    pictures: list[Image], name: str
) -> None:
    copies = [CHANGES[name](image) for image in pictures]
    assert twins_of(pictures + copies) == [(i, i + 12) for i in range(12)]


def test_grey_levels_in_common_make_no_twins(pictures: list[Image]) -> None:
    grey = [cv2.resize(image.mean(axis=2), (64, 64)) for image in pictures]
    levels_of_first = np.sort(grey[0], axis=None)
    images = []
    for picture in grey:
        image = np.empty(picture.size)
        image[np.argsort(picture, axis=None)] = levels_of_first
        images.append(image.reshape(64, 64, 1).astype(np.uint8))
    assert twins_of(images) == []


def test_two_crops_of_one_picture_are_twins(pictures: list[Image]) -> None:
    crops = [cropped(0.05, (0.3, 0.3))(pictures[0]), cropped(0.05, (0.6, 0.5))(pictures[0])]
    assert twins_of([*crops, *pictures[1:]]) == [(0, 1)]


def test_finds_the_copies_hidden_in_the_toy_set() -> None:
    images = [draw_sample(0, index)[0] for index in range(2 * TWIN_EVERY)]
    hidden = [i for i in range(len(images)) if i % TWIN_EVERY == TWIN_EVERY - 1]
    assert twins_of(images) == [(i - TWIN_OF, i) for i in hidden]


def test_groups_do_not_depend_on_order(pictures: list[Image]) -> None:
    images = pictures + [jpeg(50)(image) for image in pictures[:4]]
    ids = [f"id{i}" for i in range(len(images))]
    signatures = [signature(image) for image in images]
    order = np.random.default_rng(0).permutation(len(ids))
    config = AuditConfig()
    forward = find_twins(ids, signatures, ids, config)
    shuffled = [ids[i] for i in order]
    assert forward == find_twins(shuffled, [signatures[i] for i in order], shuffled, config)
    assert len(forward) == 4


def fields(count: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Smooth random thumbnails of which no two are alike, as signatures."""
    noise = rng.standard_normal((count, 64, 64), np.float32)
    return [signature_of(cv2.GaussianBlur(field, (0, 0), 2)) for field in noise]


def signature_of(field: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = field.ravel() - field.mean()
    return np.asarray(centred / np.linalg.norm(centred), np.float32)


def test_copies_are_found_among_many() -> None:
    rng = np.random.default_rng(2)
    many = fields(460, rng)
    copies = []
    for i, original in enumerate(many[:40]):
        field = np.rot90(original.reshape(64, 64), i % 4)[i % 3 :, : 64 - i % 2]
        field = cv2.resize(field, (64, 64)) + rng.normal(0, 0.002, (64, 64))
        copies.append(signature_of(field.astype(np.float32)))
    ids = [f"{i:04d}" for i in range(500)]
    found = find_twins(ids, many + copies, ids, AuditConfig())
    assert [twins.ids for twins in found] == [(ids[i], ids[460 + i]) for i in range(40)]


def film(count: int, step_px: int) -> list[Image]:
    """A camera that glides over a field, by ``step_px`` of 128 from one frame to the next."""
    rng = np.random.default_rng(5)
    field = cv2.GaussianBlur(rng.normal(0, 1, (128, 128 + step_px * count)), (0, 0), 3)
    field = 128 + 40 * field / field.std()
    frames = (field[:, step_px * i :][:, :128] for i in range(count))
    return [frame.clip(0, 255).astype(np.uint8)[..., None] for frame in frames]


def test_a_film_is_cut_into_blocks_of_frames_that_follow_each_other() -> None:
    frames = film(40, step_px=4)
    ids = [f"{i:04d}" for i in range(40)]
    names = [f"{i * 7 % 40:04d}" for i in range(40)]  # the order of names must not matter
    signatures = [signature(frame) for frame in frames]
    found = find_twins(names, signatures, ids, AuditConfig())
    blocks = sorted(sorted(names.index(name) for name in twins.ids) for twins in found)
    in_time = [i for block in blocks for i in block]
    assert {twins.kind for twins in found} == {"series"}
    assert 4 <= len(blocks) <= 8
    assert in_time == list(range(40))  # each is an interval


def test_copies_of_one_picture_are_never_cut(pictures: list[Image]) -> None:
    copies = [jpeg(quality)(pictures[0]) for quality in range(30, 90, 4)]
    assert twins_of([*copies, *pictures[1:]]) == [tuple(range(15))]  # of 26 images


def test_blank_images_resemble_nothing() -> None:
    blank = [np.full((60, 80, 3), level, np.uint8) for level in (0, 0, 128, 255)]
    hot = blank[0].copy()
    hot[30, 40] = 255  # a hot pixel is no content
    assert twins_of([*blank, hot]) == []


def test_blank_images_of_the_same_bytes_are_exact_twins() -> None:
    blank = [np.zeros((60, 80, 1), np.uint8)] * 3
    zeros = [signature(image) for image in blank]
    found = find_twins(["a", "b", "c"], zeros, ["x", "y", "x"], AuditConfig())
    assert found == (Twins(("a", "c"), "exact"),)


def test_a_group_with_one_altered_copy_is_near(pictures: list[Image]) -> None:
    images = [pictures[0], pictures[0], jpeg(60)(pictures[0]), pictures[1]]
    signatures = [signature(image) for image in images]
    found = find_twins(["a", "b", "c", "d"], signatures, ["x", "x", "y", "z"], AuditConfig())
    assert found == (Twins(("a", "b", "c"), "near"),)


def test_switched_off_only_equal_bytes_count(pictures: list[Image]) -> None:
    images = [pictures[0], pictures[0], jpeg(60)(pictures[0])]
    off = AuditConfig(twins=False)
    assert twins_of(images, off, ["x", "x", "y"]) == [(0, 1)]
    assert twins_of(images, off, ["x", "z", "y"]) == []


def test_many_copies_of_a_file_do_not_crowd_out_an_altered_one(pictures: list[Image]) -> None:
    images = [pictures[0]] * 40 + [jpeg(40)(pictures[0]), *pictures[1:]]
    sha256s = ["x"] * 40 + [f"y{i}" for i in range(len(images) - 40)]
    assert twins_of(images, None, sha256s) == [tuple(range(41))]


def test_few_images() -> None:
    assert twins_of([]) == []
    assert twins_of([np.zeros((5, 5, 3), np.uint8)]) == []


def test_extreme_shapes_are_compared() -> None:
    rng = np.random.default_rng(0)
    shapes = [(1, 1, 3), (1, 500, 3), (500, 1, 3), (3, 4, 1)]
    assert twins_of([rng.integers(0, 256, shape, np.uint8) for shape in shapes]) == []


def centred_blobs(count: int, rng: np.random.Generator) -> list[Image]:
    """Dark soft ellipses in the middle on textured ground, as skin lesions are photographed."""
    rows, cols = np.mgrid[:128, :128]
    images = []
    for _ in range(count):
        centre, axes = 64 + rng.normal(0, 4, 2), rng.uniform(25, 42, 2)
        distance = np.hypot((rows - centre[0]) / axes[0], (cols - centre[1]) / axes[1])
        fine = cv2.GaussianBlur(rng.normal(0, 1, (128, 128)), (0, 0), 2)
        image = 190 - 90 / (1 + np.exp(10 * (distance - 1))) + 5 * fine / fine.std()
        images.append(np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return images


def fixed_camera(count: int, rng: np.random.Generator) -> list[Image]:
    """One machine part under one light; each picture has other scratches and other noise."""
    scene = np.full((128, 128), 120, np.float32)
    for _ in range(30):
        first, second = rng.integers(0, 128, (2, 2)).tolist()
        cv2.rectangle(scene, first, second, int(rng.integers(40, 220)), 2)
    images = []
    for _ in range(count):
        image = scene + rng.normal(0, 3, scene.shape)
        for _ in range(6):
            first, second = rng.integers(0, 128, (2, 2)).tolist()
            cv2.line(image, first, second, int(rng.choice([20, 240])), int(rng.integers(1, 4)))
        images.append(np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return images


@pytest.mark.parametrize("draw", [centred_blobs, fixed_camera])
def test_a_common_layout_makes_no_twins_but_copies_are_found(
    draw: Callable[[int, np.random.Generator], list[Image]],
) -> None:
    images = draw(40, np.random.default_rng(4))
    coarse = np.corrcoef([cv2.resize(i[..., 0], (16, 16)).ravel() for i in images])
    assert np.median(coarse) > 0.6  # at low resolution all of them look alike
    copies = [jpeg(50)(levels(0.9)(image)) for image in images[:8]]
    assert twins_of(images + copies) == [(i, i + 40) for i in range(8)]


def test_shared_scene_is_seen_only_where_there_is_one(pictures: list[Image]) -> None:
    same = np.stack([signature(i) for i in fixed_camera(12, np.random.default_rng(1))])
    scene = shared_scene(same)
    assert scene is not None
    assert np.median(same @ scene) > 0.8
    assert shared_scene(np.stack([signature(i) for i in pictures])) is None
    as_list = shared_scene(list(same))
    assert as_list is not None
    assert np.array_equal(scene, as_list)
    assert shared_scene(same[:3]) is None  # of three pictures nobody can tell


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_signature_is_standardised_for_any_channels(channels: int) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (90, 70, 1), np.uint8)
    vector = signature(np.repeat(grey, channels, axis=2))
    assert vector.shape == (64 * 64,)
    assert vector.dtype == np.float32
    assert abs(vector.mean()) < 1e-6
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert np.allclose(vector, signature(grey), atol=1e-4)  # the same grey picture


@given(st.integers(1, 60), st.integers(1, 3), st.randoms())
def test_chains_are_cut_and_nothing_is_lost(n: int, reach: int, random: Random) -> None:
    order = random.sample(range(n), n)
    links = [(order[i], order[i + k]) for k in range(1, reach + 1) for i in range(n - k)]
    blocks = in_blocks(range(n), links)
    assert sorted(member for block in blocks for member in block) == list(range(n))
    assert len(blocks) == 1 or 4 <= len(blocks) <= 8
    longest = -(-(n - 1) // reach)  # links from end to end; one end may be missed by one link
    assert len(blocks) == 1 or longest >= 7
    assert len(blocks) > 1 or longest <= 7
    for block in blocks:
        along = sorted(order.index(member) for member in block)
        assert along == list(range(along[0], along[-1] + 1))


def test_what_is_near_everything_is_no_chain() -> None:
    star = [(0, i) for i in range(1, 50)]
    assert in_blocks(range(50), star) == [list(range(50))]


@given(st.integers(1, 12), st.data())
def test_connected_puts_the_ends_of_every_pair_together(n: int, data: st.DataObject) -> None:
    end = st.integers(0, n - 1)
    pairs = data.draw(st.lists(st.tuples(end, end), max_size=12))
    groups = connected(n, pairs)
    assert sorted(i for group in groups for i in group) == list(range(n))
    home = {i: place for place, group in enumerate(groups) for i in group}
    assert all(home[a] == home[b] for a, b in pairs)
    assert len(groups) >= n - len(pairs)  # nothing is joined without a pair


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="real data not beside the repository")
def test_precision_and_recall_on_sparse_microscope_pictures() -> None:
    images = [read_image(path, ImageSpec()) for path in sorted(REAL.iterdir())]
    n = len(images)
    assert [len(group) for group in twins_of(images)] == [2]  # one insect eye, focused twice
    changes = ("jpeg 30", "half size", "all at once", "quarter turn")
    found = right = 0
    for name in changes:
        groups = twins_of(images + [CHANGES[name](image) for image in images])
        assert max(len(group) for group in groups) <= 4  # no chains that glue the set together
        pairs = {(a, b) for group in groups for a in group for b in group if a < b}
        copies = {(i, i + n) for i in range(n)}
        right += len(pairs & copies)
        # pairs of the two pictures of the eye and their copies are true as well
        found += sum(len(group) - 1 for group in groups)
    assert right / (n * len(changes)) > 0.99  # recall
    assert right / found > 0.98  # precision
