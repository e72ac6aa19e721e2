"""The error of G, and what is said of this machine."""

from __future__ import annotations

import pickle

import hessblock as hb
import numpy as np
import pytest
from conftest import digits, extra


@pytest.fixture(scope="module")
def study(single):
    return hb.error(single, draws=4, seed=1)


def test_a_study_has_what_the_command_line_writes(study, single):
    assert study.gradient.initialiser == "glorot" and study.gradient.draws == 4 and study.gradient.samples == 64
    assert [layer.layer for layer in study.gradient.layers] == [layer.name for layer in single.layers]
    assert study.gradient.layers[2].error.high == 0
    assert study.gradient.layers[0].error.low <= study.gradient.layers[0].error.median
    assert len(study.pairs.pairs) == 6 and 0 < study.pairs.whole
    assert study.to_dict()["gradient"]["seed"] == 1
    assert study.csv().splitlines()[0].startswith("layer,parameters,draws")
    assert "largest:" in repr(study) and "dense2" in repr(study)


def test_a_study_is_shown_and_written(study, tmp_path):
    assert study._repr_png_()[1:4] == b"PNG" and study._repr_html_().count("<img") == 2
    study.write(tmp_path / "error")
    names = {path.name for path in (tmp_path / "error").iterdir()}
    assert names == {"error.json", "error.csv", "error.png", "error.svg", "pairs.png", "pairs.svg"}
    with pytest.raises(hb.FileError):
        study.write(tmp_path / "error")
    study.write(tmp_path / "error", overwrite=True)


def test_a_study_is_plotted(study, tmp_path):
    matplotlib = extra("matplotlib")
    matplotlib.use("Agg")
    axes = study.plot(path=tmp_path / "error.pdf")
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["dense1", "dense2", "head"]
    assert (tmp_path / "error.pdf").stat().st_size > 1000
    assert study.plot(axes) is axes


def test_a_study_takes_the_first_64_samples_unless_others_are_asked_for():
    problem = digits(samples=(100, 200))
    options = {"draws": 1, "pairs": False, "layers": "head"}
    assert hb.error(problem, **options).gradient.samples == 64
    assert hb.error(problem, samples=None, **options).gradient.samples == 100
    own = hb.error(problem, samples=None, initialiser="file", **options)
    assert own.gradient.draws == 1
    assert own.gradient.losses[0] == pytest.approx(problem.loss_value(), rel=1e-5)
    assert own.provenance.samples == [100, 200] and own.pairs is None
    assert hb.error(problem, **options).provenance.samples == [100, 164]


def test_the_own_weights_stay_as_they_are(single):
    before = single.values()
    hb.error(single, draws=2, pairs=False)
    np.testing.assert_array_equal(single.values(), before)


def test_a_study_of_an_unknown_layer_or_initialiser_is_refused(single):
    with pytest.raises(hb.RequestError, match="glorot"):
        hb.error(single, initialiser="none")
    with pytest.raises(hb.RequestError, match="tail"):
        hb.error(single, layers=["tail"], draws=1)


def test_values_of_a_record_are_read_by_attribute_and_key(study):
    gradient = study.gradient
    assert gradient["draws"] == gradient.draws and "draws" in gradient and "draws" in dir(gradient)
    assert pickle.loads(pickle.dumps(gradient)) == gradient
    with pytest.raises(AttributeError, match="initialiser"):
        gradient.drawn


def test_the_devices_of_this_machine_are_listed():
    devices = hb.devices()
    assert any(device.selector == "cpu" for device in devices)
    assert repr(devices).startswith("selector") and devices.to_dict()[0]["name"]
    assert all(isinstance(name, str) for name in hb.backends())


def test_a_self_test_of_the_cpu_passes():
    report = hb.selftest("cpu", "network/mlp")
    assert report and report.failed == 0 and report.passed > 0
    assert "passed" in repr(report) and report.to_dict()["device"]


def test_a_benchmark_times_a_case():
    report = hb.bench("cpu", "lenet5/ggn-product", seconds=0.05)
    (case,) = report.devices[0].cases
    assert case.outcome == "passed" and case.timing.median_seconds > 0
    assert "lenet5/ggn-product" in repr(report)
    with pytest.raises(hb.RequestError):
        hb.bench("cpu", "no such case")
