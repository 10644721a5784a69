"""Small inputs on which a version was wrong, through the command line, with what is right.

`case.json` of each says why, and where the right value comes from: other tools that were run, or counting by hand.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHARED, needs_shared

from segcli.cli.main import run as run_here

FAULTS = SHARED / "faults"
pytestmark = needs_shared("faults")

CHECKS: dict[str, Callable[..., None]] = {}


class Call:
    """What one call printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def value(self, measure: str, label: str, kind: str = "metric") -> float | None:
        """Return one number of a score."""
        case = self.json["cases"][0]
        rows = [*case["values"], *case["means"]]
        found = [r["value"] for r in rows if (r["label"], r["measure"], r["kind"]) == (label, measure, kind)]
        assert len(found) == 1, (measure, label, [(r["label"], r["measure"]) for r in rows])
        return found[0]


Segcli = Callable[..., Call]


def check(function: Callable[..., None]) -> Callable[..., None]:
    CHECKS[function.__name__] = function
    return function


@pytest.fixture
def segcli(capsys: pytest.CaptureFixture[str]) -> Segcli:
    """Return a function that runs a command here; the words of it are one text."""

    def call(text: str) -> Call:
        code = run_here(["--isolated", *text.split()])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Call(code, said.out, said.err)

    return call


@pytest.mark.parametrize("name", sorted(p.name for p in FAULTS.iterdir() if p.is_dir()) if FAULTS.is_dir() else [])
def test_a_fault_is_mended(name: str, segcli: Segcli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of the case say what is right."""
    shutil.copytree(FAULTS / name, tmp_path / name)
    monkeypatch.chdir(tmp_path / name)
    CHECKS[name](segcli)


@check
def blind_loss_words(segcli: Segcli) -> None:
    one = "--kind probability --labels fg=1"
    for loss in ("boundary", "hd_dt_onesided", "balanced_bce", "skeleton_recall", "mcc"):
        out = segcli(f"inspect pred.npy gt_empty.npy {one} --loss {loss}").out
        assert "the same for every prediction of this gt" in out
        assert "saturated" not in out
    out = segcli("compare pred_full.npy gt_full.npy --kind probability --losses boundary,mcc").out
    assert out.count("the same for every prediction of this gt") == 2
    assert "full" in out.split("optimum:")[1]  # the caution
    assert "saturated" not in segcli("compare pred_one.npy gt_one.npy --kind probability --losses hd_er").out


@check
def cldice_even_tube(segcli: Segcli) -> None:
    for half in ("first", "second"):
        found = segcli(
            f"score bar_pred_{half}_half.nii.gz bar_gt.nii.gz -m cldice,skeleton_recall -l skeleton_recall -f json"
        )
        assert found.value("skeleton_recall:thinning=ends", "foreground") == pytest.approx(0.5, abs=0.05)
        assert found.value("cldice:thinning=ends", "foreground") == pytest.approx(2 / 3, abs=0.05)
        loss = [v["value"] for v in found.json["cases"][0]["values"] if v["kind"] == "loss"]
        assert loss == [pytest.approx(0.5, abs=0.05)]
    found = segcli("score tube_pred_middle_missing.nii.gz tube_gt.nii.gz -m cldice,skeleton_recall -f json")
    assert found.value("skeleton_recall:thinning=ends", "foreground") == pytest.approx(0.5, abs=0.1)


@check
def cohort_one_probability_map(segcli: Segcli) -> None:
    found = segcli("evaluate p g -m dice -o run.json -j 1")
    assert found.code == 4
    run = json.loads(Path("run.json").read_text())
    assert [case["case"] for case in run["cases"]] == ["a", "b"]
    assert [error["case"] for error in run["errors"]] == ["c"]
    assert "error: c: the prediction is one probability map" in found.out


@check
def conventions_multichannel(segcli: Segcli) -> None:
    losses = "hd_dt,log_hd_dt,bce_dice,dice_cldice,unified_focal,dice,lovasz_hinge,mcc"
    found = segcli(f"conventions pred.npy gt.npy --kind probability -m dice --losses {losses} -f json").json
    rows = {row["call"].partition("(p,")[0].partition("(z,")[0]: row["prints"] for row in found["rows"]}
    libraries = {"monai": "monai.losses.", "smp": "segmentation_models_pytorch.losses."}
    for words, value in json.loads(Path("case.json").read_text())["expected"].items():
        library, _, call = words.partition(" ")
        # 5e-5: the soft skeleton of MONAI's clDice is of single precision.
        assert rows[libraries[library] + call] == pytest.approx(value, abs=5e-5), words


@check
def evaluate_hides_warnings(segcli: Segcli) -> None:
    found = segcli("evaluate pred gt -m dice -j 1 -o run.json -f json")
    assert {v["value"] for case in found.json["cases"] for v in case["values"]} == {0}
    assert found.json["notes"][0]["level"] == "warning"
    assert "warning: 2 cases: " in found.err
    gate = segcli("gate run.json --min dice=0.9")
    assert gate.code == 1
    assert "the prediction holds label 2 alone" in gate.out
    one = segcli("score pred/0.npy gt/0.npy -m dice --convention nnunet -f json")
    assert (one.value("dice", "1"), one.value("dice", "2")) == (0, 0)


@check
def gradient_no_background(segcli: Segcli) -> None:
    segcli("inspect pred.npy gt.npy --kind probability --loss dice --no-background --gradient g.npy")
    gradient = np.load("g.npy")
    assert gradient.shape == (4, 24, 20)
    assert not gradient[0].any()
    assert gradient[1:].any(axis=(1, 2)).all()


@check
def gradient_z_softmax(segcli: Segcli) -> None:
    found = segcli("compare logits.npy gt.npy --from-logits --losses bce,dice,boundary,categorical_ce -f json").json
    rows = {(r["label"], r["measure"]): r["gradient"]["z"]["l1"] for r in found["rows"] if r["gradient"]}
    assert rows["mean", "bce"] == pytest.approx(0.6264478502570477, rel=1e-9)
    assert rows["mean", "dice"] == pytest.approx(0.166849737097143, rel=1e-9)
    assert rows["mean", "boundary"] == pytest.approx(0.0637213594616642, rel=1e-9)


@check
def ignore_label_in_prediction(segcli: Segcli) -> None:
    for rest in ("", " --convention nnunet"):
        found = segcli(f"score pred.npy gt.npy -m dice --ignore-label 255 -f json{rest}")
        assert found.value("dice", "foreground") == pytest.approx(2 * 8 / (16 + 8))
    rows = segcli("conventions pred.npy gt.npy -m dice --ignore-label 255 -f json").json["rows"]
    assert [row["prints"] for row in rows if row["tool"] in ("nnU-Net", "MONAI")] == [pytest.approx(2 / 3)] * 2


@check
def ignore_label_void(segcli: Segcli) -> None:
    found = segcli("score ig_q.npy ig_g.npy --ignore-label 255 --labels fg=1 -m dice,iou -f json")
    assert (found.value("dice", "fg"), found.value("iou", "fg")) == (pytest.approx(0.75), pytest.approx(0.6))


@check
def inspect_least_it_can_be(segcli: Segcli) -> None:
    assert "the least" not in segcli("inspect pred_eq_gt.npy gt.npy --kind probability --loss active_contour").out
    for loss in ("dice", "iou", "tversky", "generalized_dice", "mcc"):
        out = segcli(f"inspect soft_gt.npy soft_gt.npy --kind probability --soft-gt --loss {loss}").out
        assert "the least" not in out
        assert "pred = gt" in out


@check
def keras_float32(segcli: Segcli) -> None:
    rows = segcli("conventions pred.npy gt.npy --kind probability -m dice --losses bce -f json").json["rows"]
    own = [r["prints"] for r in rows if r["call"] == "keras.losses.BinaryCrossentropy()(y, p)"]
    assert own == [pytest.approx(0.12399, abs=1e-5)]


@check
def more_than_8191_ids(segcli: Segcli) -> None:
    assert segcli("score ids.npz ids.npz -m pq:instances=values --labels n=any -f json").value(
        "pq:instances=values", "n"
    ) == pytest.approx(1)
    assert segcli("score ids.npz ids.npz -m dice --labels n=any -f json").value("dice", "n") == 1


@check
def nifti4d_stack(segcli: Segcli) -> None:
    refused = segcli("score pred_4d.nii.gz gt_4d.nii.gz -m dice")
    assert refused.code == 3
    assert "--stack-axis last" in refused.err
    cases = segcli("score pred_4d.nii.gz gt_4d.nii.gz -m dice --stack-axis last -f json").json["cases"]
    assert [case["values"][0]["value"] for case in cases] == [pytest.approx(5 / 6), 1, None]
    assert [case["spacing"] for case in cases] == [[1, 2, 3]] * 3


@check
def nnunet_summary_mean(segcli: Segcli) -> None:
    gate = segcli("gate summary.json --min mean/dice=0.6")
    assert gate.code == 1
    assert "0.500 < 0.6" in gate.out
    assert "foreground_mean" in gate.out
    assert "foreground_mean" in segcli("diff summary.json summary.json").out


@check
def numbers_depend_on_process(segcli: Segcli) -> None:
    asked = "-m dice,hd95 -l bce,focal,brier,mcc,mae,dice,topk --kind probability"
    texts = []
    for jobs in (1, 2):
        segcli(f"evaluate p g {asked} -o j.json -j {jobs}")
        texts.append(json.dumps(json.loads(Path("j.json").read_text()) | {"environment": 0}))
    assert texts[0] == texts[1]
    losses = "--losses bce,focal,brier,mcc,hd_dt"
    fresh = [sys.executable, "-m", "segcli", "--isolated", "compare", "p/c0.npy", "same.npy", "p/c1.npy", "g/c0.npy"]
    done = subprocess.run(
        [*fresh, "--kind", "probability", *losses.split(), "-f", "json"], capture_output=True, check=True
    )
    for ranking in json.loads(done.stdout)["rankings"]:
        assert any({"p/c0.npy", "same.npy"} <= set(place) for place in ranking["order"])


@check
def palette_png_with_colors(segcli: Segcli) -> None:
    for name in ("pred_rgb.png", "pred_quantized.png"):
        found = segcli(f"score {name} gt_labels.png -m dice --colors voc -f json")
        numbers = [round(v["value"], 3) for v in found.json["cases"][0]["values"]]
        assert numbers == [0.917, 0.857]


@check
def pixdim_against_sform(segcli: Segcli) -> None:
    assert "warning: " in segcli("score pred.nii.gz gt.nii.gz -m hd").err
    found = segcli("score pred.nii.gz gt.nii.gz -m hd --convention simpleitk -f json")
    assert found.value("hd:surface=set", "foreground") == pytest.approx(2)
    assert "disagree" in segcli("describe gt.nii.gz").out


@check
def pq_instance_map_ids(segcli: Segcli) -> None:
    asked = "pq:instances=values,aji:instances=values,ap:instances=values"
    for call in (f"-m {asked}", "-m pq,rq,sq --convention monai", "-m pq --convention torchmetrics"):
        found = segcli(f"score pred_ids.npy gt_ids.npy {call} -f json")
        assert all(v["value"] == pytest.approx(1) for v in found.json["cases"][0]["values"])
        assert found.json["cases"][0]["notes"]
    rows = segcli("conventions pred_ids.npy gt_ids.npy -m pq -f json").json["rows"]
    assert [r["prints"] for r in rows if r["tool"] in ("MONAI", "torchmetrics")] == [pytest.approx(1)] * 2


@check
def pq_void_segment(segcli: Segcli) -> None:
    found = segcli("score pred.npy gt.npy -m pq,rq,sq,false_positives,ap,object_f1 --ignore-label 255 -f json")
    values = {v["measure"].split(":")[0]: v["value"] for v in found.json["cases"][0]["values"]}
    assert values == {"pq": 1, "rq": 1, "sq": 1, "false_positives": 0, "ap": 1, "object_f1": 1}


@check
def rank_tiny_cohort(segcli: Segcli) -> None:
    out = segcli("rank o1.json o2.json").out
    assert "~ one case" in out
    assert "1 cases" not in out


@check
def scl_slope_labels(segcli: Segcli) -> None:
    for rest in ("", " --kind labels"):
        found = segcli(f"score labels_int16_scaled.nii.gz labels_plain.nii.gz -m dice -f json{rest}")
        assert {v["value"] for v in found.json["cases"][0]["values"]} == {1}
    found = segcli("score binary_plain.nii.gz binary_gt_uint8_scaled.nii.gz -m dice -f json")
    assert {v["value"] for v in found.json["cases"][0]["values"]} == {1}
    assert "3 labels" in segcli("describe labels_int16_scaled.nii.gz").out


@check
def sigmoid_region_channels(segcli: Segcli) -> None:
    asked = "pred_WT_TC_ET_channels.npy gt_124.npy -m dice --labels WT=1+2+4,TC=1+4,ET=4"
    refused = segcli(f"score {asked}")
    assert refused.code == 3
    assert "--channels WT,TC,ET" in refused.err
    assert "--normalize" not in refused.err
    found = segcli(f"score {asked} --channels WT,TC,ET -f json")
    assert [found.value("dice", name) for name in ("WT", "TC", "ET")] == [0.875, 0.75, 0.5]


@check
def torchmetrics_absent_class(segcli: Segcli) -> None:
    found = segcli("score pred.npy gt.npy -m iou --labels a=1,b=2 --convention torchmetrics -f json")
    assert found.value("iou", "b") == -1


@check
def wilcoxon_float_ties(segcli: Segcli) -> None:
    (row,) = [r for r in segcli("diff a.json b.json -f json").json["rows"] if r["label"] == "foreground"]
    assert row["p"] == pytest.approx(0.0449, abs=5e-5)


@check
def wilcoxon_rounding_ties(segcli: Segcli) -> None:
    for spacing in ("", " --spacing 0.7,0.7"):
        for side in ("before", "after"):
            segcli(f"evaluate {side} gt -m hd -j 1 -o {side}.json{spacing}")
        (row,) = [r for r in segcli("diff before.json after.json -f json").json["rows"] if r["label"] == "foreground"]
        assert row["p"] == pytest.approx(0.0546875)
        assert row["verdict"] == "no evidence"
