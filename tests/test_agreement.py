"""Information, all classes at once, and rates: against recorded values, other tools live, and relations."""

from __future__ import annotations

import csv
import io
import json
import math
import warnings
from fractions import Fraction
from importlib import resources
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import SHARED, needs_shared
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapes import shape

import segcli
from segcli.cli.main import run as command_line
from segcli.errors import UsageError
from segcli.evidence.case import Case
from segcli.evidence.joint import Joint
from segcli.evidence.label_map import SMALL
from segcli.masks.labels import Label
from segcli.measure.notation import bind
from segcli.measure.record import measures
from segcli.scoring.limits import judge, parse_limits
from segcli.scoring.values import Scored

Array = NDArray[Any]

few = settings(max_examples=40)

#: Metrics that read regions only: whatever the values are called, and over all of them.
PARTITIONS = ["vi", "vi_split", "vi_merge", "vi_fg", "mutual_information", "nmi", "rand", "ari", "adapted_rand_error",
              "gce", "nmi:norm=geometric", "nmi:norm=min", "nmi:norm=max", "nmi:norm=joint"]  # fmt: skip
MULTICLASS = ["mean_iou", "fw_iou", "pixel_accuracy", "mean_accuracy", "generalized_dice_score"]


@st.composite
def maps(draw: st.DrawFn, *, labels: int = 5) -> tuple[Array, Array]:
    """Draw two label maps that agree in part; every label is in the ground truth."""
    form = draw(st.sampled_from([(4, 6), (7, 5), (3, 4, 5), (1, 30)]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    gt = random.integers(0, labels, form).astype(np.uint8)
    gt.flat[: labels + 2] = [*range(labels), 1, 1]
    noise = random.integers(0, draw(st.integers(1, labels + 1)), form)
    pred = np.where(random.random(form) < draw(st.sampled_from([0.0, 0.2, 0.6, 1.0])), noise, gt).astype(np.uint8)
    return pred, gt


def scored(pred: Array, gt: Array, *asked: str, **options: Any) -> Scored:
    """Return a case with these metrics."""
    return segcli.score(pred, gt, metrics=list(asked), **options)


def same(value: float | None, expected: float | None, rel: float = 1e-12) -> bool:
    """Tell whether two values are equal, or both undefined."""
    if value is None or expected is None:
        return value is expected
    return value == pytest.approx(expected, rel=rel, abs=1e-13)


# --- values recorded from other tools (not part of the repository) ---------------------------------

RECORDED = SHARED / "golden" / "golden_metrics.json"

#: What a tool calls it -> our metric of one label, or of all classes. pymia follows Taha & Hanbury.
NAMES = {
    "itk": {"dice": "dice", "iou": "iou", "volume_similarity": "volume_similarity_signed", "fnr": "fdr",
            "fpr_itk": "false_omission_rate"},
    "pymia": {"voi": "vi_label", "mi": "mutual_information_label", "rand": "rand_label", "ari": "ari_label",
              "icc": "icc", "pbd": "pbd", "auc_1pt": "balanced_accuracy", "kappa": "kappa", "vs": "volume_similarity",
              "fallout": "fpr", "dice": "dice", "iou": "iou"},
    "miseval": {"DSC": "dice", "IoU": "iou"},
    "mesh": {"dice": "dice", "iou": "iou"},
    "seg-metrics": {"dice": "dice", "iou": "iou", "precision": "precision", "sensitivity": "sensitivity",
                    "vs_signed": "volume_similarity_signed"},
    "metricsreloaded": {"plr": "likelihood_ratio_positive", "youden": "informedness",
                        "normalised_expected_cost": "expected_cost:prior=0.5"},
    "torchmetrics": {"mean_iou": "mean_iou", "dice_micro": "pixel_accuracy"},
}  # fmt: skip


def recorded_counts() -> list[Any]:
    """Return the recorded cases of metrics of counts of tools that have no surface convention of ours."""
    if not RECORDED.is_file():
        return []
    stored = json.loads(RECORDED.read_text(encoding="utf-8"))
    return [
        pytest.param(c, stored["prelude"], id=c["id"])
        for c in stored["cases"]
        if c["metric"] in NAMES.get(c["convention"], {})
    ]


@needs_shared("golden", "golden_metrics.json")
@pytest.mark.parametrize(("case", "prelude"), recorded_counts())
def test_recorded_counts(case: dict[str, Any], prelude: str) -> None:
    """Every recorded value of a tool comes out, or is undefined where theirs is a convention for empty masks."""
    scope: dict[str, Any] = {}
    exec(prelude, scope)  # noqa: S102  (our own recorded file)
    pred, gt = (
        np.asarray(
            case[side]["array"] if "array" in case[side] else eval(case[side]["expr"], scope)  # noqa: S307
        ).astype(np.uint8)
        for side in ("pred", "gt")
    )
    pred, gt = np.atleast_2d(pred), np.atleast_2d(gt)  # some are recorded as rows of numbers
    metric, sign = NAMES[case["convention"]][case["metric"]], 1
    if case["convention"] == "itk" and case["metric"] == "volume_similarity":
        sign = -1  # recorded with the ground truth as the source
    several = {"labels": "fg=any"} if max(pred.max(), gt.max()) <= 1 else {}
    found = segcli.score(pred, gt, metrics=[metric], **several).values[0]
    if found.why in ("both_empty", "pred_empty"):
        assert found.value is None
        assert case["expected"] in ("nan", "inf") or case["expected"] in (0, 1) or case["expected"] > 1e308
    else:
        assert found.value is not None
        assert sign * found.value == pytest.approx(case["expected"], rel=1e-6, abs=max(case["tol"], 1e-9))


# --- other tools, live ------------------------------------------------------------------------------


@given(maps())
@few
def test_scikit_image(pair: tuple[Array, Array]) -> None:
    """Both parts of the variation of information and the adapted Rand error are scikit-image's."""
    tool = pytest.importorskip("skimage.metrics")
    pred, gt = pair
    found = scored(pred, gt, *PARTITIONS)
    split, merge = tool.variation_of_information(gt, pred)
    assert same(found.value("vi_split"), split)
    assert same(found.value("vi_merge"), merge)
    assert same(found.value("vi"), split + merge)
    assert same(found.value("adapted_rand_error"), tool.adapted_rand_error(gt, pred, ignore_labels=(0,))[0])
    inside = gt != 0
    assert same(found.value("vi_fg"), sum(tool.variation_of_information(gt[inside], pred[inside])))


@given(maps())
@few
def test_snemi3d(pair: tuple[Array, Array]) -> None:
    """The Rand error of SNEMI3D and CREMI from a table of counts, as their code has it."""
    pred, gt = pair
    found = scored(pred, gt, "adapted_rand_error_snemi3d").value("adapted_rand_error_snemi3d")
    table = np.zeros((int(gt.max()) + 1, int(pred.max()) + 1))
    np.add.at(table, (gt.reshape(-1), pred.reshape(-1)), 1)
    single = table[1:, 0].sum() / gt.size
    both = (table[1:, 1:] ** 2).sum() + single
    precision = both / ((table[1:, 1:].sum(axis=0) ** 2).sum() + single)
    recall = both / (table[1:].sum(axis=1) ** 2).sum()
    assert same(found, 1 - 2 * precision * recall / (precision + recall))


def test_a_predicted_zero_is_a_region_or_none() -> None:
    """Two instances whose membranes are not labelled: scikit-image counts the zeros as one region across both."""
    gt = np.repeat([[1, 2]], 8, axis=1).reshape(2, 8)
    pred = gt.copy()
    pred[:, [0, 7]] = 0
    found = scored(pred, gt, "adapted_rand_error", "adapted_rand_error_snemi3d")
    # 8 voxels each, 2 of each predicted 0: pairs in both 2 (15 + 1), pred 2 15 + 6, gt 2 28; squares 72, gt 128, z 1/4
    assert found.value("adapted_rand_error") == pytest.approx(1 - 2 * 32 / (36 + 56))
    assert found.value("adapted_rand_error_snemi3d") == pytest.approx(1 - 2 * 72.25 / (72.25 + 128))


@given(maps())
@few
def test_scikit_learn_partitions(pair: tuple[Array, Array]) -> None:
    """Mutual information, its four norms, and both Rand indices are scikit-learn's."""
    tool = pytest.importorskip("sklearn.metrics")
    pred, gt = pair
    found = scored(pred, gt, *PARTITIONS)
    p, g = pred.ravel(), gt.ravel()
    assert same(found.value("mutual_information"), tool.mutual_info_score(g, p) / math.log(2), 1e-9)
    for norm in ("arithmetic", "geometric", "min", "max"):
        theirs = tool.normalized_mutual_info_score(g, p, average_method=norm)
        assert same(found.value("nmi" if norm == "arithmetic" else f"nmi:norm={norm}"), theirs, 1e-9)
    assert same(found.value("rand"), tool.rand_score(g, p))
    assert same(found.value("ari"), tool.adjusted_rand_score(g, p))


@given(maps())
@few
def test_scikit_learn_classes(pair: tuple[Array, Array]) -> None:
    """What the confusion matrix says is scikit-learn's; classes of neither map are left out of the means."""
    tool = pytest.importorskip("sklearn.metrics")
    pred, gt = pair
    found = scored(pred, gt, *MULTICLASS, "multiclass_mcc", "multiclass_kappa", "confusion", labels=list(range(1, 9)))
    p, g = pred.ravel(), gt.ravel()
    there = np.union1d(p, g)
    assert same(found.value("mean_iou"), tool.jaccard_score(g, p, average="macro", labels=there, zero_division=0))
    assert same(found.value("fw_iou"), tool.jaccard_score(g, p, average="weighted", labels=there, zero_division=0))
    assert same(found.value("pixel_accuracy"), tool.accuracy_score(g, p))
    recalls = tool.recall_score(g, p, average=None, labels=np.unique(g))
    assert same(found.value("mean_accuracy"), recalls.mean())
    if len(np.unique(p)) > 1:
        assert same(found.value("multiclass_mcc"), tool.matthews_corrcoef(g, p), 1e-9)
    assert same(found.value("multiclass_kappa"), tool.cohen_kappa_score(g, p), 1e-9)
    (table,) = found.tables
    theirs = tool.confusion_matrix(g, p, labels=range(9))
    assert table.columns[1:] == ("background", *map(str, range(1, 9))) == tuple(row[0] for row in table.rows)
    assert [list(row[1:]) for row in table.rows] == theirs.tolist()


@given(maps(labels=2))
@few
def test_scikit_learn_rates(pair: tuple[Array, Array]) -> None:
    """Likelihood ratios of one label are scikit-learn's."""
    tool = pytest.importorskip("sklearn.metrics")
    pred, gt = (np.minimum(m, 1) for m in pair)
    found = scored(pred, gt, "likelihood_ratio_positive", "likelihood_ratio_negative", labels="fg=1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where a ratio has no value
        theirs = tool.class_likelihood_ratios(gt.ravel(), pred.ravel())
    for name, value in zip(("likelihood_ratio_positive", "likelihood_ratio_negative"), theirs, strict=True):
        assert same(found.value(name), None if math.isnan(value) else value)


@given(maps(), st.sampled_from(["square", "simple", "uniform"]), st.sampled_from(["in", "out"]))
@few
def test_monai_classes(pair: tuple[Array, Array], weight: str, background: str) -> None:
    """The generalized Dice score and the mean IoU are MONAI's, in its single precision."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monai = pytest.importorskip("monai.metrics")
        torch = pytest.importorskip("torch")
    pred, gt = pair
    labels = np.arange(6).reshape(-1, *(1,) * gt.ndim)
    p, g = (torch.from_numpy((m[None] == labels)[None].astype(np.float32)) for m in (pred, gt))
    how = {"include_background": background == "in"}
    found = scored(
        pred, gt, f"generalized_dice_score:weight={weight}:background={background}", f"mean_iou:background={background}"
    )
    if g.dim() > 2:
        theirs = monai.GeneralizedDiceScore(weight_type=weight, **how)(p, g)
        assert found.values[0].value == pytest.approx(float(theirs), rel=1e-5)
    each = monai.compute_iou(p, g, ignore_empty=False, **how)[0].numpy()
    there = [bool((pred == c).any() or (gt == c).any()) for c in range(background == "out", 6)]
    assert found.values[1].value == pytest.approx(float(each[there].mean()), rel=1e-5)


@given(maps(labels=2))
@few
def test_simpleitk_errors(pair: tuple[Array, Array]) -> None:
    """With the prediction as its source, SimpleITK's similarity is the signed one and its errors are ours."""
    itk = pytest.importorskip("SimpleITK")
    pred, gt = (np.atleast_2d(np.minimum(m, 1)) for m in pair)
    if not pred.any():
        return
    overlap = itk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(itk.GetImageFromArray(pred), itk.GetImageFromArray(gt))
    found = scored(pred, gt, "volume_similarity_signed", "fnr", "fpr", labels="fg=1")
    assert same(found.value("volume_similarity_signed"), overlap.GetVolumeSimilarity(1))
    assert same(found.value("fnr"), overlap.GetFalseNegativeError(1))
    assert same(found.value("fpr"), overlap.GetFalsePositiveError(1))


# --- relations --------------------------------------------------------------------------------------


@given(maps(), st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16, np.int64]))
@few
def test_names_of_regions_do_not_matter(pair: tuple[Array, Array], seed: int, dtype: type) -> None:
    """Regions may be numbered in any way, each map in its own, as long as the background of gt stays 0."""
    pred, gt = pair
    random = np.random.default_rng(seed)
    most = {np.uint8: 250, np.uint16: 60000, np.int64: 10**12}[dtype]
    values = [np.array([0, *random.choice(np.arange(1, most, most // 240), 9, replace=False)]) for _ in range(2)]
    values[0][0] = random.integers(1, most)
    renamed = [v.astype(dtype)[m] for v, m in zip(values, (pred, gt), strict=True)]
    before, after = scored(pred, gt, *PARTITIONS), scored(*renamed, *PARTITIONS, labels=[1])
    if len(np.unique(renamed[0])) < len(np.unique(pred)):
        return  # two regions of the prediction were given one number
    for metric in PARTITIONS:
        assert same(before.value(metric), after.value(metric)), metric


@given(maps())
@few
def test_exchange_of_the_maps(pair: tuple[Array, Array]) -> None:
    """What is split one way is merged the other; the information of two maps adds up."""
    pred, gt = pair
    there, back = scored(pred, gt, *PARTITIONS), scored(gt, pred, *PARTITIONS)
    assert same(there.value("vi_split"), back.value("vi_merge"))
    own = scored(gt, gt, "mutual_information").value("mutual_information")
    assert own is not None
    assert same(there.value("mutual_information"), own - (there.value("vi_merge") or 0.0))
    norms = [there.value(f"nmi:norm={norm}") for norm in ("min", "geometric", "max", "joint")]
    assert norms == sorted(norms, reverse=True)


@given(maps(labels=2))
@few
def test_one_label_is_two_classes(pair: tuple[Array, Array]) -> None:
    """Of a binary pair the metrics over all classes are those of its label."""
    pred, gt = (np.minimum(m, 1) for m in pair)
    twins = ["vi", "vi_split", "vi_merge", "mutual_information", "nmi", "rand", "ari", "gce", "nmi:norm=max"]
    of_label = [":".join([f"{t.split(':')[0]}_label", *t.split(":")[1:]]) for t in twins]
    more = ["multiclass_mcc", "multiclass_kappa", "mean_iou:background=out", "fw_iou:background=out", "mean_accuracy",
            "pixel_accuracy", "pixel_accuracy:background=out", "generalized_dice_score:background=out"]  # fmt: skip
    equal = ["mcc", "kappa", "iou", "iou", "balanced_accuracy", "accuracy", "sensitivity", "dice"]
    found = scored(pred, gt, *twins, *of_label, *more, *equal, labels="fg=1")
    for wide, narrow in zip([*twins, *more], [*of_label, *equal], strict=True):
        assert same(found.value(wide), found.value(narrow, "fg"), 1e-9), wide


@given(maps(labels=2))
@few
def test_rates_add_up(pair: tuple[Array, Array]) -> None:
    """Relations that the docstrings of the rates state hold."""
    pred, gt = (np.minimum(m, 1) for m in pair)
    asked = ["tversky_index:fp=1:fn=1", "tversky_index:fp=0.5:fn=0.5", "tversky_index:fp=1:fn=0",
             "tversky_index:fp=0:fn=1", "expected_cost:prior=0.5", "expected_cost"]  # fmt: skip
    found = scored(pred, gt, "overlap", "volume", *asked, labels="fg=1")
    assert found.value("expected_cost") is not None

    def value(text: str) -> float:
        got = found.value(text)
        return math.nan if got is None else got

    assert same(value("tversky_index:fp=1:fn=1"), value("iou"))
    assert same(value("tversky_index:fp=0.5:fn=0.5"), value("dice"))
    assert same(value("expected_cost:prior=0.5"), value("fnr") + value("fpr"))
    assert same(value("informedness"), 2 * value("balanced_accuracy") - 1)
    if pred.any() and not pred.all():
        assert same(value("tversky_index:fp=1:fn=0"), value("precision"))
        assert same(value("tversky_index:fp=0:fn=1"), value("sensitivity"))
        assert same(value("informedness") * value("markedness"), value("mcc") ** 2, 1e-9)
    if value("dice"):
        assert same(value("pbd"), (1 - value("dice")) / value("dice"), 1e-9)
    assert same(value("absolute_volume_error"), abs(value("volume_difference")))
    assert same(value("volume_difference"), value("volume_pred") - value("volume_gt"))
    assert same(1 - abs(value("volume_similarity_signed")) / 2, value("volume_similarity"))


@given(maps(), st.integers(1, 4))
@few
def test_padding_of_inner_measures(pair: tuple[Array, Array], pad: int) -> None:
    """Background around both maps changes nothing that leaves it out."""
    pred, gt = pair
    asked = ["vi_fg", "adapted_rand_error", *(f"{m}:background=out" for m in MULTICLASS)]
    before, after = scored(pred, gt, *asked), scored(np.pad(pred, pad), np.pad(gt, pad), *asked)
    assert [same(a.value, b.value) for a, b in zip(before.values, after.values, strict=True)] == [True] * len(asked)


@given(maps(), st.integers(0, 2**32 - 1))
@few
def test_ignored_voxels_are_in_no_class(pair: tuple[Array, Array], seed: int) -> None:
    """Ignored voxels are as good as cut out, in confusion and in information."""
    pred, gt = pair
    hidden = np.random.default_rng(seed).random(gt.shape) < 0.3
    hidden.flat[0] = False
    asked = [*PARTITIONS, *MULTICLASS, "confusion"]
    labels = list(range(1, 6))
    found = scored(pred, np.where(hidden, 99, gt), *asked, ignore_label=99, labels=labels)
    cut = scored(pred[~hidden][None], gt[~hidden][None], *asked, labels=labels)
    assert [same(a.value, b.value) for a, b in zip(found.values, cut.values, strict=True)] == [True] * len(found.values)
    assert found.tables == cut.tables


def test_several_thousand_instances() -> None:
    """Maps of thousands of regions cost their non-empty cells only, and have exact values."""
    gt = np.arange(1, 4001, dtype=np.uint16).repeat(4).reshape(100, 160)
    pred = (np.arange(16000).reshape(100, 160) // 8 + 1).astype(np.uint16)  # pairs of neighbours merged
    found = scored(pred, gt, *PARTITIONS, labels=[1])
    assert same(found.value("vi_merge"), 1.0)
    assert same(found.value("vi_split"), 0.0)
    assert found.value("adapted_rand_error") == pytest.approx(1 - 2 * 4000 * 6 / (2000 * 28 + 4000 * 6))
    assert found.value("gce") == 0
    with pytest.raises(UsageError, match="4001 classes"):
        scored(pred, gt, "confusion")


def test_large_counts_are_exact() -> None:
    """Pairs of voxels beyond 64 bits are counted in whole numbers; entropies keep their digits near 0."""
    counts = [[5 * 10**9, 1], [2, 3 * 10**9]]
    joint = Joint.of_matrix(np.array(counts))
    total = sum(map(sum, counts))

    def pairs(n: int) -> int:
        return n * (n - 1) // 2

    rows, columns = [sum(r) for r in counts], [sum(c) for c in zip(*counts, strict=True)]
    expected = (sum(pairs(n) for r in counts for n in r), *(sum(map(pairs, s)) for s in (rows, columns)), pairs(total))
    assert joint.pairs == expected
    # H(pred | gt): -sum n log2(n / column), each logarithm by its series where n is nearly the column
    surprise = sum(
        n * (float(Fraction(c - n, c)) + float(Fraction(c - n, c)) ** 2 / 2 if n > 2 else math.log(c / n))
        for row in counts
        for n, c in zip(row, columns, strict=True)
    )
    assert joint.conditional[0] == pytest.approx(surprise / total / math.log(2), rel=1e-12)


def test_a_case_without_a_voxel_that_counts() -> None:
    """With no voxel that counts nothing has a value, and nothing fails."""
    gt = np.ones((3, 4), np.uint8)
    case = Case.of(gt, gt, [Label("a", (1,))], valid=np.zeros_like(gt, dtype=bool))
    wide = [*PARTITIONS, *MULTICLASS, "multiclass_mcc", "multiclass_kappa"]
    assert [bind(name)(case.classes) for name in wide] == [None] * len(wide)
    narrow = [m.name for m in measures("metric") if m.family in ("overlap", "information") and m.reads == "labels"]
    narrow = [name for name in narrow if not name.startswith("voxels")]
    assert [bind(name)(case.pair(0)) for name in narrow] == [None] * len(narrow)
    assert [row[1:] for row in bind("confusion", "table")(case.classes).rows] == [(0, 0), (0, 0)]


def test_regions_alone_are_no_classes() -> None:
    """Where only regions are named there is nothing to average, and nothing reads as perfect."""
    gt = np.array([[0, 1, 2, 2]], np.uint8)
    found = scored(gt, gt, *MULTICLASS, "multiclass_mcc", "multiclass_kappa", labels={"whole": [1, 2]})
    assert {v.value for v in found.values} == {None}


def test_a_large_map_and_its_crop_are_counted_alike() -> None:
    """The table of a map too large to look for its largest label is the one of a small map."""
    tile = np.random.default_rng(3).integers(0, 7, (16, 64)).astype(np.uint8)
    times = SMALL // tile.size + 1
    small, large = (scored(np.roll(m, 1, axis=1), m, "confusion", "vi") for m in (tile, np.tile(tile, (times, 1))))
    assert [[n * times for n in row[1:]] for row in small.tables[0].rows] == [
        list(row[1:]) for row in large.tables[0].rows
    ]
    assert same(small.value("vi"), large.value("vi"))


# --- what is shown ------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Any) -> list[str]:
    """Give a pair of label maps as files."""
    gt = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 0]], np.uint8)
    pred = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [2, 2, 0, 0]], np.uint8)
    for name, array in (("pred", pred), ("gt", gt)):
        np.save(tmp_path / f"{name}.npy", array)
    return [str(tmp_path / "pred.npy"), str(tmp_path / "gt.npy")]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return the exit code, stdout and stderr of a command line."""
    code = command_line(list(arguments))
    printed = capsys.readouterr()
    return int(code), printed.out, printed.err


def test_row_of_all_classes_and_table(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The row `all` stands after the labels, with blanks where a metric is not of that row; the table is below."""
    code, text, _ = shown(capsys, "score", *files, "-m", "dice,mean_iou,confusion", "--labels", "a=1,b=2,none=5")
    assert code == 0
    lines = [line.split() for line in text.splitlines()]
    assert lines[1:8] == [
        ["label", "dice", "mean_iou"],
        ["a", "0.889"],
        ["b", "0.800"],
        ["none", "–", "both", "empty"],
        ["mean", "0.844"],
        ["(2/3)"],
        ["all", "0.711"],
    ]
    assert text.splitlines()[8] == "confusion"
    assert lines[9] == ["gt", "\\", "pred", "background", "a", "b", "none"]
    assert lines[10] == ["background", "4", "1", "0", "0"]
    assert lines[12] == ["b", "1", "0", "2", "0"]
    assert "all: over the classes, the background one of them (background=out leaves it out)" in text
    assert "all: 1 of 3 labels in neither mask, left out of means over classes: none" in text
    row = text.splitlines()[7]
    assert row.rstrip().endswith("0.711")
    assert row.index("0.711") >= text.splitlines()[1].index("mean_iou")


def test_table_in_markdown_json_and_not_in_csv(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Markdown has the table below the main one, JSON under `tables` as the schema allows, CSV nothing of it."""
    asked = ("score", *files, "-m", "dice,vi,confusion")
    _, text, _ = shown(capsys, *asked, "-f", "md")
    assert "| gt \\\\ pred | background | 1 | 2 |\n| :--- | ---: | ---: | ---: |\n| background | 4 | 1 | 0 |" in text
    _, text, _ = shown(capsys, *asked, "-f", "json")
    document = json.loads(text)
    schema = json.loads((resources.files("segcli") / "schemas" / "run.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, schema)
    assert document["spec"]["measures"] == ["metric.dice", "metric.vi", "table.confusion"]
    assert document["cases"][0]["tables"] == [
        {"label": "all", "measure": "confusion", "columns": ["gt \\ pred", "background", "1", "2"],
         "rows": [["background", 4, 1, 0], ["1", 0, 4, 0], ["2", 1, 0, 2]]}
    ]  # fmt: skip
    values = [v for v in document["cases"][0]["values"] if v["label"] == "all"]
    assert [(v["measure"], v["unit"], v["status"]) for v in values] == [("vi", "bit", "ok")]
    assert {s["measure"] for s in document["summary"]} == {"dice"}
    _, text, _ = shown(capsys, *asked, "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["measure"] for row in rows} == {"dice", "vi"}
    assert [row["label"] for row in rows if row["measure"] == "vi"] == ["all"]


def test_only_a_table(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for alone, a table stands alone."""
    code, text, _ = shown(capsys, "score", *files, "-m", "confusion")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["confusion", "gt", "background", "1", "2"]


@pytest.mark.parametrize(
    ("limits", "code", "said"),
    [
        (["--min", "mean_iou=0.7"], 0, "ok    --min mean_iou=0.7   all mean_iou 0.711 >= 0.7"),
        (["--min", "all/mean_iou=0.72"], 1, "FAIL  --min all/mean_iou=0.72   all mean_iou 0.711 < 0.72"),
        (["--max", "vi=0.1"], 1, "FAIL  --max vi=0.1   all vi"),
        (["--min", "vi=0.1"], 2, "--max vi=0.1"),
        (["--min", "confusion=3"], 2, "--min confusion=3: confusion is a table"),
        (["--min", "1/mean_iou=0.7"], 2, "mean_iou has no value for 1"),
        (["--max", "mean/vi=0.7"], 2, "vi has no value for mean"),
        (["--min", "all/dice=0.7"], 2, "dice has no value for all"),
    ],
)
def test_limits_of_all_classes(
    files: list[str], limits: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit holds the row `all`; one on a row that has no such value is refused, never passed."""
    found, out, err = shown(capsys, "score", *files, "-m", "dice", *limits)
    assert found == code
    assert said in out + err


def test_undefined_over_all_classes_says_why(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    """The row `all` says which map is background only; a limit on it fails."""
    np.save(tmp_path / "gt.npy", shape("most"))
    np.save(tmp_path / "pred.npy", shape("none"))
    two = [str(tmp_path / "pred.npy"), str(tmp_path / "gt.npy")]
    _, text, _ = shown(capsys, "score", *two, "-m", "gce,multiclass_mcc,rand")
    assert "all: the prediction is nothing but background; gce, multiclass_mcc are undefined" in text
    code, text, _ = shown(capsys, "score", *two, "-m", "gce", "--max", "gce=0.5")
    assert code == 1
    assert "FAIL  --max gce=0.5   all gce undefined (pred empty); wanted max 0.5" in text


def test_compare_has_a_row_of_all_classes(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Compare shows what is over all classes in a row `all`, ranks by it, and refuses a table."""
    code, text, _ = shown(capsys, "compare", *files, "--losses", "dice", "--metrics", "mean_iou,dice", "-f", "json")
    assert code == 0
    rows = [(r["label"], r["measure"]) for r in json.loads(text)["rows"] if r["measure"] != "loss.dice"]
    assert [r for r in rows if r[1].endswith("mean_iou")] == [("all", rows[-1][1])]
    code, text, _ = shown(capsys, "compare", *files, files[1], "--losses", "dice", "--rank-by", "mean_iou")
    assert code == 0
    assert "gt.npy > pred.npy" in text
    code, _, said = shown(capsys, "compare", *files, "--metrics", "confusion")
    assert (code, said) == (2, "error: confusion is a table.\nhint: segcli score prints it\n")


def test_a_scored_case_is_asked_by_name() -> None:
    """A value over all classes needs no label; its limits are judged in every case."""
    found = scored(shape("hook_pred"), shape("hook_gt"), "mean_iou", "dice")
    assert found.value("mean_iou") == found.value("miou", "all") == pytest.approx((3 / 6 + 10 / 13) / 2)
    assert [v.label for v in judge(parse_limits("min", ["mean_iou=0.1", "dice=0.1"]), [found])] == ["all", "foreground"]


def test_catalog_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """The card of a table has no range and no gradient; tables can be listed alone."""
    _, text, _ = shown(capsys, "catalog", "confusion_matrix")
    assert text.startswith("table.confusion   confusion")
    assert not {"range", "gradient", "optimum"} & {line.split()[0] for line in text.splitlines()[1:]}
    _, text, _ = shown(capsys, "catalog", "--kind", "table", "-f", "json")
    assert {record["kind"] for record in json.loads(text)} == {"table"}
