"""The sums that losses share: the fused kernel, the ways around it, and what a pair makes of its grids."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import segcli
from segcli.evidence import sums as evidence_sums
from segcli.evidence.soft import SoftPair
from segcli.evidence.sums import SMALL, VoxelSums, sigmoid
from segcli.kernels import pixelwise
from segcli.kernels.pixelwise import logarithms, powers, voxel_sums
from segcli.measure.notation import bind, parse

ROOT = Path(segcli.__file__).parent.parent

#: Losses whose values are functions of the shared sums.
OF_SUMS = (
    "bce,weighted_bce,balanced_bce,focal,poly1,brier,mae,dice,dice_squared,iou,tversky,focal_tversky,log_cosh_dice,"
    "generalized_dice,penalty_gdice,sens_spec,sens_spec_linear,asymmetric,iou_inverted,mcc,bce_dice,combo,bce_logdice,"
    "dice_focal,gdice_focal,focal_plus_tversky,unified_focal"
)

#: Ends, the clip and its neighbours, 1/2 and what float64 can just hold.
EXTREMES = [0.0, 5e-324, 1e-310, 1e-300, 1e-17, 9.9e-8, 1e-7, 1.1e-7, 0.25, 0.5, 0.75, 1 - 1e-7, 1 - 2**-53, 1.0]


def random_case(size, of_p, of_y, seed=0):
    """Return probabilities of all sizes and a gt in long stretches, noise and long stretches again."""
    rng = np.random.default_rng(seed)
    p = (rng.random(size) ** rng.integers(1, 12, size)).astype(of_p)
    y = np.zeros(size)
    y[size // 4 : size // 2] = 1
    y[size // 2 : size // 2 + size // 4] = rng.random(size // 4) < 0.3
    if of_y == np.float64:
        y = np.where(rng.random(size) < 0.5, y, rng.random(size))
    return p, y.astype(of_y)


# --- logarithm and power ----------------------------------------------------------------------------


def test_logarithms_equal_those_of_the_c_library():
    """The stated error holds over all magnitudes, close to 1 on both sides, and where the mantissa turns over."""
    rng = np.random.default_rng(0)
    turns = math.sqrt(0.5) * 2.0 ** rng.integers(-1000, 1000, 3000) * (1 + rng.normal(0, 3e-16, 3000))
    x = np.concatenate([
        10 ** rng.uniform(-307, 308, 20000), rng.random(20000) + 1e-17, 1 - 10 ** rng.uniform(-16, -0.01, 20000),
        1 + 10 ** rng.uniform(-15.6, 0.5, 20000), 2.0 ** np.arange(-1022, 1024), turns,
        [sys.float_info.min, sys.float_info.max],
    ])  # fmt: skip
    expected = np.array([math.log(value) for value in x])
    assert np.all(np.abs(logarithms(x) - expected) <= 4e-16 * np.abs(expected))
    assert logarithms(np.array([1.0]))[0] == 0


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 1.0, 2.0, 3.7, 42.0, 100.0])
def test_powers_equal_those_of_the_c_library(gamma):
    """The stated error holds from 1e-16 up to 1, and nothing is 0, infinite or NaN."""
    rng = np.random.default_rng(1)
    x = np.concatenate([10 ** rng.uniform(-16, 0, 20000), [1.0, 0.5, 1e-16, 1 - 2**-53]])
    found = powers(x, gamma)
    kept = gamma * np.log(x) > -699
    expected = np.array([math.pow(value, gamma) for value in x[kept]])
    bound = (2 + 2 * np.abs(gamma * np.log(x[kept]))) * 2**-52
    assert np.all(np.abs(found[kept] - expected) <= bound * expected)
    assert np.all((found[~kept] > 0) & (found[~kept] < 1.1e-303))


# --- the kernel -------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_p", [np.float32, np.float64])
@pytest.mark.parametrize("of_y", [np.uint8, np.float64])
@pytest.mark.parametrize(("clip", "gamma"), [(1e-7, 2.0), (1e-16, 2.0), (0.01, 0.5), (1e-7, 3.3), (1e-7, 0.0)])
def test_voxel_sums_equal_their_twin(of_p, of_y, clip, gamma):
    """Every sum is that over voxels one by one, to 1e-13."""
    p, y = random_case(5000, of_p, of_y)
    np.testing.assert_allclose(voxel_sums(p, y, clip, gamma), naive.voxel_sums(p, y, clip, gamma), rtol=1e-13)


@pytest.mark.parametrize("size", [0, 1, 2, 127, 128, 129, 255, 256, 257, 511, 512, 513, 65535, 65536, 65537])
@pytest.mark.parametrize("of_y", [np.uint8, np.float64])
def test_voxel_sums_at_every_length_of_block(size, of_y):
    """Less than a stretch, a block and a chunk, exactly one, and one voxel more; with and without ignored voxels."""
    p, y = random_case(size, np.float64, of_y, size)
    valid = np.random.default_rng(size).random(size) < 0.7
    valid[: size // 3] = True
    np.testing.assert_allclose(voxel_sums(p, y, 1e-7, 2), naive.voxel_sums(p, y, 1e-7, 2) if size else 0, rtol=1e-13)
    some = voxel_sums(p, y, 1e-7, 2, valid)
    np.testing.assert_allclose(some, voxel_sums(p[valid], y[valid], 1e-7, 2), rtol=1e-13)
    assert not voxel_sums(p, y, 1e-7, 2, np.zeros(size, bool)).any()


@given(
    p=st.lists(st.sampled_from(EXTREMES), min_size=1, max_size=300),
    data=st.data(),
    gamma=st.sampled_from([0.0, 0.5, 2.0, 5.0]),
)
def test_voxel_sums_of_extremes(p, data, gamma):
    """Ends, denormal numbers and the clip itself give finite sums that are right."""
    y = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(p), max_size=len(p))))
    for truth in (y.astype(np.uint8), y):
        found = voxel_sums(np.array(p), truth, 1e-7, gamma)
        np.testing.assert_allclose(found, naive.voxel_sums(np.array(p), y, 1e-7, gamma), rtol=1e-13, atol=1e-300)


def test_long_sums_keep_their_digits():
    """Three million equal small terms add up to 1e-13, where plain addition in float64 has lost more."""
    n = 3_000_000
    for tiny in (1e-3 / 3, 0.7):
        found = voxel_sums(np.full(n, tiny), np.zeros(n, np.uint8), 1e-7, 2.0)[0]
        expected = [n, n, n * (1 - tiny), n * tiny, n * (1 - tiny) ** 2, n * tiny**2, n * tiny, n * tiny**2]
        log = -math.log1p(-tiny)
        np.testing.assert_allclose(found, [*expected, n * log, n * tiny**2 * log], rtol=1e-13)


def test_small_probabilities_keep_the_digits_of_their_complement():
    """ln(1-p) is that of p, not that of 1-p rounded to float64: 1e-10 has six digits of it left there."""
    p = np.array([1e-10 / 3, 1e-13 / 7, 0.3e-5])
    found = voxel_sums(p, np.zeros(3, np.uint8), 1e-16, 2.0)[0, 8]
    assert found == pytest.approx(-sum(math.log1p(-value) for value in p), rel=1e-15)
    assert abs(-np.log(1 - p).sum() / found - 1) > 1e-12


def test_sums_are_the_same_bits_every_time():
    """Runs, threads and a read-only array change no bit."""
    p, y = random_case(200_000, np.float32, np.uint8)
    once = voxel_sums(p, y, 1e-7, 2.0)
    with ThreadPoolExecutor(4) as pool:
        many = list(pool.map(lambda _: voxel_sums(p, y, 1e-7, 2.0), range(8)))
    p.flags.writeable = False
    for again in (*many, voxel_sums(p, y, 1e-7, 2.0)):
        np.testing.assert_array_equal(once, again)


def test_voxel_sums_refuse_other_arrays():
    """Shapes and dtypes that the kernel does not read are errors."""
    p, y = np.zeros(4), np.zeros(4, np.uint8)
    for wrong in ((p.reshape(2, 2), y), (p, y[:3]), (p.astype(np.float16), y), (p, y.astype(np.int32))):
        with pytest.raises(ValueError, match="voxel_sums"):
            voxel_sums(*wrong, 1e-7, 2.0)
    with pytest.raises(ValueError, match="voxel_sums"):
        voxel_sums(p, y, 1e-7, 2.0, np.ones(3, bool))


def test_kernel_is_plain_python_too():
    """Without the compiler the same code gives the same sums, and no overflow warning."""
    code = (
        "import numpy as np; from segcli.kernels.pixelwise import voxel_sums\n"
        "p = np.linspace(0, 1, 700); y = (np.arange(700) % 300 < 160).astype(np.uint8)\n"
        "print(voxel_sums(p, y, 1e-7, 2.5).tolist(), voxel_sums(p, p**2, 1e-7, 2.0).tolist(), "
        "voxel_sums(np.asfortranarray(p.reshape(70, 10)), np.asfortranarray(y.reshape(70, 10)), 1e-7, 2.0).tolist())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True,
            env={"PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": off},
        ).stdout
        for off in ("0", "1")
    ]  # fmt: skip
    plain, compiled = (np.array([eval(run.replace("] [", "], ["))]) for run in runs)  # noqa: S307
    np.testing.assert_allclose(plain, compiled, rtol=1e-14)


# --- the ways to the sums ---------------------------------------------------------------------------


def grids(seed=3, shape=(9, 11, 13)):
    """Return p, a hard y and which voxels count."""
    rng = np.random.default_rng(seed)
    return rng.random(shape) ** 3, rng.random(shape) < 0.3, rng.random(shape) < 0.8


@pytest.fixture
def always_fused(monkeypatch):
    """Have the kernel read small pairs too."""
    monkeypatch.setattr(evidence_sums, "SMALL", 0)


@pytest.mark.usefixtures("always_fused")
@pytest.mark.parametrize("kind", ["hard", "soft gt", "float32", "float16", "two masks", "mask, soft gt", "uint8 gt"])
@pytest.mark.parametrize("ignored", [False, True])
def test_numpy_kernel_and_counts_agree(kind, ignored):
    """Whatever way a pair's dtypes take, the sums are those of NumPy over float64 vectors."""
    p, y, valid = grids()
    p, y = {
        "hard": (p, y), "soft gt": (p, np.sqrt(p)), "float32": (p.astype(np.float32), y),
        "float16": (p.astype(np.float16), y), "two masks": (p > 0.4, y), "mask, soft gt": (p > 0.4, np.sqrt(p)),
        "uint8 gt": (p, y.astype(np.uint8)),
    }[kind]  # fmt: skip
    where = valid if ignored else None
    straight, plain = VoxelSums(p, y, None, where), VoxelSums(p.astype(float), y.astype(float), None, where)
    plain._fused = False
    for clip, gamma in ((1e-7, 2.0), (0.01, 0.7)):
        np.testing.assert_allclose(straight.logs(clip, gamma), plain.logs(clip, gamma), rtol=1e-13)
    np.testing.assert_allclose(straight.sums(), plain.sums(), rtol=1e-13)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("small", [0, SMALL])
@pytest.mark.parametrize("shape", [(9, 11, 13), (70, 3, 130), (67, 300), (2, 3, 40, 11), (3, 9000)])
@pytest.mark.parametrize("kind", ["hard", "soft gt", "logits"])
def test_layouts_give_the_same_sums(kind, shape, ignored, small, monkeypatch):
    """Fortran order, every second voxel, mirrored axes and mixed orders hold the same voxels: the same bits."""
    monkeypatch.setattr(evidence_sums, "SMALL", small)
    p, y, valid = grids(shape=shape)
    y = np.sqrt(p) if kind == "soft gt" else y
    padded = np.repeat(p, 2, axis=-1)

    def sums(p, y, valid):
        found = VoxelSums(p, y, np.log(p) if kind == "logits" else None, valid if ignored else None)
        return found.logs(1e-7, 2.0), found.sums()

    expected = sums(p, y, valid)
    for others in [
        (np.asfortranarray(p), np.asfortranarray(y), np.asfortranarray(valid)),
        (np.asfortranarray(p), y, valid),
        (p, np.asfortranarray(y), np.asfortranarray(valid)),
        (padded[..., ::2], y, valid),
        (np.ascontiguousarray(p[::-1, ..., ::-1])[::-1, ..., ::-1], y, valid),
        (np.moveaxis(np.ascontiguousarray(np.moveaxis(p, 0, -1)), -1, 0), y, valid),
        (p.astype(">f8"), y, valid),
    ]:
        assert sums(*others) == expected


@pytest.mark.parametrize("of_p", [np.float32, np.float64])
@pytest.mark.parametrize("of_y", [np.uint8, np.float64])
def test_tiles_of_fortran_order_equal_the_twin(of_p, of_y):
    """Rows and columns that do not fill tiles and blocks are all added up, once."""
    p, y = (a.reshape(67, 131) for a in random_case(67 * 131, of_p, of_y))
    expected = naive.voxel_sums(p.ravel(), y.ravel(), 1e-7, 2.0)
    for order in "CF":
        found = voxel_sums(np.asarray(p, order=order), np.asarray(y, order=order), 1e-7, 2.0)
        np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("shape", [(160, 160, 128), (2048, 1700)])
@pytest.mark.parametrize("of_p", [np.float32, np.float64])
def test_fortran_order_is_not_copied(shape, of_p):
    """The arrays of a NIfTI pair are read where they lie, large and small, and so are those in C order."""
    p, y = np.full(shape, 0.3, of_p), np.zeros(shape, bool)
    voxel_sums(np.zeros((2, 2), of_p, order="F"), np.zeros((2, 2), np.uint8, order="F"), 1e-7, 2.0)  # compiled
    for order in "CF":
        grids = np.asarray(p, order=order), np.asarray(y, order=order)
        tracemalloc.start()
        VoxelSums(*grids, None, None).sums()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 6e6, (order, peak)  # the buffers of tiles; a copy of p alone is 13 MB or more


@pytest.mark.parametrize("shape", [(96, 90, 64), (830, 700)])
@pytest.mark.parametrize("kind", ["float32", "float64", "soft gt", "ignored", "logits"])
def test_losses_of_large_images_are_the_same_bits_in_any_order(kind, shape):
    """All losses of sums of more than 2^19 voxels in C and in Fortran order, every digit."""
    assert math.prod(shape) >= SMALL
    p, y, valid = grids(shape=shape)
    z = np.log(p + 1e-9) if kind == "logits" else None
    p = p.astype(np.float32) if kind == "float32" else p
    y = np.sqrt(p) if kind == "soft gt" else y
    values = []
    for order in "CF":
        turned = [None if a is None else np.asarray(a, order=order) for a in (p, y, z, valid)]
        pair = SoftPair.of(turned[0], turned[1], z=turned[2], valid=turned[3] if kind == "ignored" else None)
        values.append([bound(pair) for bound in parse("loss", OF_SUMS)])
    assert values[0] == values[1]


def test_logits_have_exact_logarithms():
    """No clip is felt, and the far ends are those of z itself."""
    z, y = np.array([800.0, -800.0, 40.0, -40.0, 0.5]), np.array([0, 1, 1, 0, 1], bool)
    logs = VoxelSums(sigmoid(z), y, z, None).logs(1e-7, 2.0)
    assert logs.on == pytest.approx(800 + math.exp(-40) + math.log1p(math.exp(-0.5)), rel=1e-15)
    assert logs.off == pytest.approx(800 + math.exp(-40), rel=1e-15)


# --- laziness ---------------------------------------------------------------------------------------


def test_values_of_sums_make_no_vectors():
    """Values and optima of the losses that are sums leave the grids as they are, also with ignored voxels."""
    p, y, valid = grids()
    for pair in (
        SoftPair.of(p.astype(np.float32), y),
        SoftPair.of(p, y, valid=valid),
        SoftPair.of(p > 0.5, y, hard=True),
    ):
        for bound in parse("loss", OF_SUMS):
            assert bound(pair) is not None
            assert bound(bound.perfect(pair)) is not None
        for one in (pair, pair.perfect()):
            assert not {"p", "y", "q", "z"} & set(vars(one.voxels))
            assert not one.voxels._logs


@pytest.mark.usefixtures("always_fused")
def test_one_pass_serves_all_losses(monkeypatch):
    """Losses with the default clip and gamma read the voxels once; another clip costs one more pass."""
    calls = []
    real = pixelwise.voxel_sums
    monkeypatch.setattr(pixelwise, "voxel_sums", lambda *a: calls.append(a[2:4]) or real(*a))
    p, y, _ = grids()
    pair = SoftPair.of(p, y)
    for bound in parse("loss", "dice,tversky,bce,focal,brier,combo,mcc,dice_focal"):
        bound(pair)
    assert calls == [(1e-7, 2.0)]
    for text in ("bce:clip=0.01", "weighted_bce:clip=0.01", "focal:gamma=1", "focal:gamma=1:alpha=none", "dice"):
        bind(text, "loss")(pair)
    assert calls == [(1e-7, 2.0), (0.01, 2.0), (1e-7, 1.0)]


def test_perfect_twin_shares_the_ground_truth():
    """The optimum of a hard gt is counted; the twin's vectors are those of the gt, not copies."""
    p, y, _ = grids()
    pair = SoftPair.of(p, y)
    twin = pair.perfect()
    assert twin.sums.py == y.sum()
    assert twin.voxels.sums._counted
    assert twin.p is twin.y is pair.y
    assert pair.perfect() is twin
    told = pair.perfect(np.full(pair.n, 0.5))
    assert told.sums.p == pair.n / 2


def test_small_images_need_no_numba():
    """Values of a small pair are found without the import, and are the same to the last bit where it is done.

    The fused way agrees with that of NumPy, but not to the last bit.
    """
    code = (
        "import sys, numpy as np; from segcli.measure.notation import parse\n"
        "from segcli.evidence.soft import SoftPair\n"
        "rng = np.random.default_rng(0); p, y = rng.random((20, 30)), rng.random((20, 30)) < 0.3\n"
        f"values = [b(SoftPair.of(p, y)) for b in parse('loss', '{OF_SUMS}')]\n"
        "assert 'numba' not in sys.modules; print(*values)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    rng = np.random.default_rng(0)
    p, y = rng.random((20, 30)), rng.random((20, 30)) < 0.3
    assert "numba" in sys.modules  # the tests above have run kernels
    found = [bound(SoftPair.of(p, y)) for bound in parse("loss", OF_SUMS)]
    assert [float(word) for word in done.stdout.split()] == found
    fused = SoftPair.of(p, y)
    fused.voxels.sums._fused = True
    np.testing.assert_allclose([bound(fused) for bound in parse("loss", OF_SUMS)], found, rtol=1e-12)


@pytest.mark.parametrize(("size", "fused"), [(SMALL - 1, False), (SMALL, True)])
def test_the_size_alone_chooses_the_way(size, fused):
    """What the process did before has no part in it: Numba is imported here, and small pairs are summed without."""
    p, y = np.full(size, 0.3, np.float32), np.zeros(size, bool)
    assert VoxelSums(p, y, None, None)._fused is fused


def test_nothing_counts():
    """A pair of ignored voxels, or of none, has sums of 0 and undefined means."""
    for pair in (SoftPair.of(np.full((1, 2), 0.5), np.ones((1, 2), bool), valid=np.zeros((1, 2), bool)),
                 SoftPair.of(np.zeros((0, 3)), np.zeros((0, 3), bool))):  # fmt: skip
        assert pair.n == 0
        assert not any(pair.sums)
        assert bind("bce")(pair) is None
        assert bind("loss.dice")(pair) == 0
