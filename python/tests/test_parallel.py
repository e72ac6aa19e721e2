"""Blocks made by several processes: pickled problems, chunks of Dask, shards of job arrays."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys

import hessblock as hb
import numpy as np
import pytest
from conftest import IMAGES, LABELS, MODEL, digits, extra
from hessblock import _parallel


def again(thing):
    return pickle.loads(pickle.dumps(thing))


def test_pickled_problem_gives_the_same_numbers(double, full):
    other = again(double)
    assert repr(other) == repr(double)
    np.testing.assert_array_equal(np.asarray(hb.ggn(other).full()), full)


def test_pickled_problem_has_the_weights_of_the_last_update(fresh):
    fresh.update(0.5 * fresh.values() + 1e-9)
    np.testing.assert_array_equal(again(fresh).values(), fresh.values())


@pytest.mark.parametrize(
    "loss",
    [
        hb.Loss.cross_entropy("sum", weight=[1.0, 2.0] * 5, ignore_index=3, label_smoothing=0.1),
        hb.Loss.cross_entropy(),
        hb.Loss.parse("cross-entropy"),
        hb.Loss.mse("sum"),
        hb.Loss.bce("mean", pos_weight=[2.0]),
    ],
)
def test_pickled_loss_has_its_options(loss):
    assert again(loss).name == loss.name


def test_pickled_block_and_matrix_are_those_of_the_same_problem(double, full):
    G = again(hb.fisher(double, samples=2, seed=3))
    np.testing.assert_array_equal(np.asarray(G.full()), np.asarray(hb.fisher(double, samples=2, seed=3).full()))
    block = hb.ggn(double).block("dense2", "head")
    np.asarray(block)
    copy = again(block)
    assert not copy.is_computed
    np.testing.assert_array_equal(np.asarray(copy), np.asarray(block))


def test_pickled_callable_loss_is_its_derivatives():
    class Quartic:
        name = "quartic"

        def derivatives(self, outputs, targets):
            off = outputs - np.eye(10)[targets]
            hessians = np.einsum("nc,cd->ncd", 12 * off**2, np.eye(10))
            return (off**4).sum(1), 4 * off**3, hessians

    p = digits(loss=Quartic(), dtype="float64")
    wanted = np.asarray(hb.hessian(p).block("head"))
    other = again(p)
    np.testing.assert_array_equal(np.asarray(hb.hessian(other).block("head")), wanted)
    other.update(0.5 * other.values())
    with pytest.raises(hb.RequestError, match="pickle it again"):
        hb.hessian(other)


def _trace(p):
    return hb.ggn(p).trace()


def test_spawned_process_computes_what_was_sent_to_it(double):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_trace, (double,)) == hb.ggn(double).trace()


def test_dask_array_has_the_chunks_that_were_asked_for(double, full):
    extra("dask.array")
    lazy = hb.ggn(double).full().to_dask((500, 700))
    assert lazy.chunks == ((500, 500, 374), (700, 674))
    assert lazy.dtype == np.float64 and lazy.shape == full.shape
    np.testing.assert_allclose(lazy[480:520, 690:710].compute(scheduler="sync"), full[480:520, 690:710], atol=1e-12)
    np.testing.assert_allclose(float(lazy.trace().compute(scheduler="threads")), np.trace(full), rtol=1e-12)


def test_dask_array_of_layers_that_lie_apart_is_their_block(double, full):
    extra("dask.array")
    block = hb.ggn(double).rectangle([(0, 10), (1000, 1010)], [(5, 9), (1300, 1374)])
    rows, columns = np.r_[0:10, 1000:1010], np.r_[5:9, 1300:1374]
    np.testing.assert_allclose(block.to_dask(7).compute(scheduler="sync"), full[np.ix_(rows, columns)], atol=1e-12)


def test_dask_array_of_the_diagonal_is_one_chunk(double, full):
    extra("dask.array")
    lazy = hb.ggn(double).diagonal().to_dask(100)
    assert lazy.numblocks == (1,)
    np.testing.assert_allclose(lazy.compute(scheduler="sync"), np.diag(full), atol=1e-12)


def test_dask_array_keeps_the_weights_that_it_was_made_with(fresh, full):
    extra("dask.array")
    block = hb.ggn(fresh).block("head")
    lazy, (rows,) = block.to_dask(), block.rows
    fresh.update(0.5 * fresh.values())
    np.testing.assert_allclose(lazy.compute(scheduler="sync"), full[slice(*rows), slice(*rows)], atol=1e-12)


def test_cluster_of_two_processes_makes_a_problem_once_in_each(double, full):
    distributed = extra("distributed")
    lazy = hb.ggn(double).full().to_dask(230)
    assert lazy.npartitions == 36
    options = {"n_workers": 2, "threads_per_worker": 2, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        np.testing.assert_allclose(lazy.compute(), full, atol=1e-12)
        np.testing.assert_allclose(lazy.T.dot(lazy).compute(), full @ full, atol=1e-9)
        made = client.run(lambda: (os.getpid(), len(_parallel._KEPT._operators)))
        assert len({process for process, _ in made.values()}) == 2
        # A worker that came late may have had no task.
        counts = [count for _, count in made.values()]
        assert max(counts) == 1, made
        assert os.getpid() not in {process for process, _ in made.values()}


def test_large_data_go_to_the_workers_of_a_cluster_past_its_scheduler(double, full, monkeypatch):
    distributed = extra("distributed")
    monkeypatch.setattr(_parallel, "LARGE", 0)
    block = hb.ggn(double).block("dense2")
    assert block.to_dask().dask.to_dict(), "there is no client yet"
    with distributed.LocalCluster(n_workers=2, dashboard_address=None) as cluster, distributed.Client(cluster):
        lazy = block.to_dask(100)
        assert not any(isinstance(task, _parallel.Matrix) for task in lazy.dask.to_dict().values())
        np.testing.assert_allclose(lazy.compute(), np.asarray(block), atol=1e-12)


def test_missing_dask_is_named_with_its_extra(double, monkeypatch):
    block = hb.ggn(double).block("head")
    monkeypatch.setitem(sys.modules, "dask", None)
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(ImportError, match=r"hessblock\[dask\]"):
        block.to_dask()


@pytest.mark.parametrize("name", ["b.zarr", "b.npy", "b"])
def test_shards_make_the_bytes_of_one_process(tmp_path, double, name):
    block, path = hb.ggn(double).block("dense1"), tmp_path / name
    shards = hb.shards(block, path, 3)
    assert len(shards) == 3 and [shard.number for shard in shards] == [1, 2, 3]
    for shard in reversed(shards):
        shard.write()
    assert not path.exists()
    shards.merge()
    found = hb.open(path)["layer=dense1"] if name != "b.npy" else np.load(path)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(block))


def test_shards_of_several_parts_with_options(tmp_path, double, full):
    parts = hb.ggn(double).parts(["layers", "diag"])
    shards = hb.shards(parts, tmp_path / "all.zarr", 2, compress=3)
    for shard in shards:
        shard.write()
    shards.merge()
    np.testing.assert_allclose(np.asarray(hb.open(tmp_path / "all.zarr")["diag"]), np.diag(full), atol=1e-12)


def test_a_missing_shard_is_named(tmp_path, double):
    shards = hb.shards(hb.ggn(double).full(), tmp_path / "h.zarr", 2)
    shards[1].write()
    with pytest.raises(hb.FileError, match="shard 1/2"):
        shards.merge()


def test_jobs_of_an_array_make_a_result_together(tmp_path, full):
    script = f"""
import hessblock as hb
p = hb.Problem({MODEL!r}, "cross-entropy", ({IMAGES!r}, {LABELS!r}), samples=64, dtype="float64", device="cpu")
print(hb.shards(hb.ggn(p).full(), "h.zarr", 2).from_env().write())
"""
    jobs = []
    for variables in ({"SLURM_ARRAY_TASK_ID": "1"}, {"SLURM_ARRAY_TASK_ID": "2"}):
        jobs.append(subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, **variables}))
    assert [job.wait() for job in jobs] == [0, 0]
    hb.merge(tmp_path / "h.zarr")
    np.testing.assert_allclose(np.asarray(hb.open(tmp_path / "h.zarr")["full"]), full, atol=1e-12)


def test_number_of_a_job_is_that_of_its_scheduler(tmp_path, double):
    shards = hb.shards(hb.ggn(double).full(), tmp_path / "h.zarr", 8)
    for variable, value, number in [
        ("SLURM_ARRAY_TASK_ID", "8", 8),
        ("PBS_ARRAY_INDEX", "2", 2),
        ("SGE_TASK_ID", "1", 1),
        ("LSB_JOBINDEX", "3", 3),
        ("JOB_COMPLETION_INDEX", "0", 1),
    ]:
        assert shards.from_env({variable: value}).number == number
    with pytest.raises(hb.RequestError, match="tasks 1 to 8"):
        shards.from_env({"SLURM_ARRAY_TASK_ID": "0"})
    with pytest.raises(hb.RequestError, match="SLURM_ARRAY_TASK_ID"):
        shards.from_env({"SGE_TASK_ID": "undefined", "LSB_JOBINDEX": "0"})


def test_a_share_of_nothing_or_of_one_file_in_memory_is_refused(tmp_path, double):
    block = hb.ggn(double).block("head")
    with pytest.raises(hb.RequestError, match="at least 1"):
        hb.shards(block, tmp_path / "h.zarr", 0)
    with pytest.raises(hb.RequestError, match="memory of one process"):
        hb.shards(block, tmp_path / "h.safetensors", 2)
    with pytest.raises(IndexError):
        hb.shards(block, tmp_path / "h.zarr", 2)[2]
