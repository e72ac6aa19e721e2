"""hessblock in a process: memory, interruptions, threads, progress, logging, exceptions."""

from __future__ import annotations

import gc
import inspect
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import hessblock as hb
import numpy as np
import pytest
from conftest import IMAGES, LABELS, MODEL, digits, extra
from hessblock._progress import reporting


def resident() -> int:
    """Bytes of this process's resident memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def assert_settles(work: Callable[[int], None], bound: int) -> None:
    """Asserts that a thousand rounds of the work grow the memory by less than the bound.

    Heaps of threads grow once to their size, at a time of their own: one window of three without growth is enough. A leak
    shows in all of them.
    """
    work(300)
    grown = []
    for _ in range(3):
        before = resident()
        work(1000)
        grown.append(resident() - before)
        if grown[-1] < bound:
            return
    raise AssertionError(f"a thousand rounds grew the memory by {grown} bytes, in each of three windows")


from_proc = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="resident memory is read from /proc")


@from_proc
def test_a_thousand_products_updates_and_blocks_end_with_the_memory_they_began_with():
    problem = digits()
    g, values = hb.ggn(problem), problem.values()
    v = np.random.default_rng(0).standard_normal((problem.size, 4))
    block = g.block("dense2")

    def work(count: int) -> None:
        for k in range(count):
            g @ v
            problem.update(values * (1 + 1e-3 * (k % 7)))
            np.asarray(block)
            block.operator.block("dense1", "head")[:10, 3]
            problem.loss_value()
        block.free()
        gc.collect()

    # A leak in every round would be 166 MiB of blocks, 43 MiB of products, or 5 MiB of weights.
    assert_settles(work, 4 << 20)


@from_proc
def test_a_thousand_updates_from_a_module_end_with_the_memory_they_began_with(arrays):
    torch = extra("torch")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10)).eval()
    data = torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1]).long()
    problem = hb.Problem(model, torch.nn.CrossEntropyLoss(), data, device="cpu")
    g, v = hb.ggn(problem), torch.ones(problem.size, 2)
    block = g.block("3")

    def work(count: int) -> None:
        for k in range(count):
            with torch.no_grad():
                model[1].weight.mul_(1 + 1e-3 * (-1) ** k)
            problem.update()
            g @ v
            np.asarray(block)
        block.free()
        gc.collect()

    # A leak in every round would be 415 MiB of blocks, 18 MiB of products, or 9 MiB of weights.
    assert_settles(work, 4 << 20)


class Interruption:
    """An interruption of this process after some seconds, as Ctrl-C makes it."""

    def __init__(self, seconds: float) -> None:
        self.timer = threading.Timer(seconds, self.interrupt)

    def interrupt(self) -> None:
        self.sent = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    def __enter__(self) -> Interruption:
        self.timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()
        self.timer.join()


def long_work(problem):
    """Computations of minutes, by name."""
    h = hb.hessian(problem)
    many = np.random.default_rng(0).standard_normal((problem.size, 20_000)).astype(np.float32)
    return {
        "product": lambda: h @ many,
        "entries": lambda: h.entries([(k % problem.size, 0) for k in range(20_000)]),
        "trace": lambda: h.estimated_trace(100_000),
        "error": lambda: hb.error(problem, draws=100_000),
        "array": lambda: np.asarray(hb.hessian(digits(data=repeated(100), samples=None)).full()),
    }


def repeated(times: int) -> tuple[np.ndarray, np.ndarray]:
    """All digits several times over: images and labels."""
    return np.repeat(np.load(IMAGES), times, 0), np.repeat(np.load(LABELS), times)


@pytest.mark.parametrize("kind", ["product", "entries", "trace", "error", "array"])
def test_ctrl_c_stops_long_work_soon_and_the_process_works_on(kind):
    problem = digits(samples=None)
    before = np.asarray(hb.ggn(problem).block("head")).copy()
    work = long_work(problem)[kind]
    waited = []
    for _ in range(3):  # other work on the machine may take the processor meanwhile
        with Interruption(0.4) as interruption, pytest.raises(KeyboardInterrupt):
            work()
        waited.append(time.perf_counter() - interruption.sent)
        if waited[-1] < 1.0:
            break
    assert min(waited) < 1.0
    np.testing.assert_array_equal(hb.ggn(problem).block("head"), before)


@pytest.mark.parametrize("method, name", [("to_zarr", "h.zarr"), ("to_folder", "h")])
def test_a_write_that_ctrl_c_stopped_goes_on_from_its_tiles(tmp_path, method, name):
    problem = digits(data=repeated(5), samples=None)
    parts = hb.ggn(problem).parts(["full", "range=0..1000,0..1374", "range=0..1000,5..1374"])

    def interrupt(done: int, total: int) -> None:
        if done > 0.8 * total:  # the first part is whole by then
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        getattr(parts, method)(tmp_path / name, progress=interrupt)
    assert not (tmp_path / name).exists()
    report = getattr(parts, method)(tmp_path / name)
    assert report.found_tiles >= 1 and report.tiles >= 1
    found = parts.compute()
    for part, stored in hb.open(tmp_path / name).items():
        np.testing.assert_array_equal(stored, found[part])


def test_an_interrupted_block_is_computed_anew(fresh, full):
    block = hb.ggn(fresh).full()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        block.compute(progress=stop)
    assert not block.is_computed
    np.testing.assert_array_equal(block, full)


def test_other_threads_run_while_a_product_is_computed():
    problem = digits(samples=None)
    many = np.ones((problem.size, 600), np.float32)
    counted, running = 0, threading.Event()

    def count() -> None:
        nonlocal counted
        while not running.is_set():
            counted += 1
            time.sleep(1e-3)

    thread = threading.Thread(target=count)
    thread.start()
    start = time.perf_counter()
    hb.hessian(problem) @ many
    seconds = time.perf_counter() - start
    running.set()
    thread.join()
    assert seconds > 0.05, "too short to see anything"
    assert counted > 20 * seconds


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_forked_after_a_computation_is_refused_and_does_not_hang():
    script = f"""
import os, warnings
import numpy as np, hessblock as hb
warnings.simplefilter("ignore")
problem = hb.Problem({MODEL!r}, "cross-entropy", ({IMAGES!r}, {LABELS!r}), samples=8, device="cpu")
G, v = hb.ggn(problem), np.ones(problem.size)
G @ v
child = os.fork()
if child == 0:
    try:
        G @ v
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("parent", np.isfinite(G @ v).all())
"""
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120).stdout
    assert "spawn" in printed and "parent True" in printed


def test_threads_share_a_problem(single):
    g, v = hb.ggn(single), np.ones(single.size)
    right, found = g @ v, []
    threads = [threading.Thread(target=lambda: found.append(g @ v)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for product in found:
        np.testing.assert_array_equal(product, right)


def test_progress_is_told_to_a_callable_and_ends_with_everything():
    problem, told = digits(samples=None), []
    hb.hessian(problem).apply(np.ones((problem.size, 50)), progress=lambda done, total: told.append((done, total)))
    assert told and told[-1][0] == told[-1][1]
    assert all(0 <= done <= total for done, total in told)


def test_an_exception_of_the_callable_stops_the_work(single):
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        hb.hessian(single).apply(np.ones((single.size, 500)), progress=stop)
    with pytest.raises(TypeError, match="progress="):
        hb.ggn(single).apply(np.ones(single.size), progress="yes")


def test_progress_of_a_problem_is_that_of_all_its_work():
    told = []
    problem = digits(progress=lambda done, total: told.append(total))
    hb.ggn(problem) @ np.ones(problem.size)
    assert told
    del told[:]
    hb.ggn(problem).apply(np.ones(problem.size), progress=False)
    assert not told


def test_true_shows_a_bar_of_tqdm_or_a_line(capsys, monkeypatch):
    extra("tqdm")
    with reporting(True, "product") as report:
        for done in (1, 3, 3, 10):
            report(done, 10)
    assert "product" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with reporting(True, "product") as report:
        report(4, 10)
    assert "product:  40 %" in capsys.readouterr().err


def test_events_of_the_library_reach_logging(caplog):
    with caplog.at_level(logging.DEBUG, "hessblock"):
        digits(device="auto", dtype="float64")
    assert any("double precision runs on the CPU" in record.message for record in caplog.records)


def test_events_of_the_compiled_library_reach_logging():
    script = (
        "import logging, sys; logging.basicConfig(level=logging.INFO, stream=sys.stdout)\n"
        f"import hessblock as hb; hb.Problem({MODEL!r}, 'cross-entropy', ({IMAGES!r}, {LABELS!r}), device='cpu')"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "hessblock.session" in printed and "1374" in printed


def test_a_level_that_is_set_later_holds_from_then_on(caplog):
    for level, heard in ((logging.WARNING, False), (logging.INFO, True), (logging.WARNING, False)):
        caplog.clear()
        with caplog.at_level(level, "hessblock"):
            digits()
        assert any(record.name.startswith("hessblock.session") for record in caplog.records) == heard


def test_exceptions_are_a_small_hierarchy_and_pythons_own():
    for kind, python in (
        (hb.ShapeError, ValueError),
        (hb.RequestError, ValueError),
        (hb.BudgetError, MemoryError),
        (hb.FileError, OSError),
        (hb.UnsupportedError, NotImplementedError),
        (hb.NotFiniteError, ArithmeticError),
    ):
        assert issubclass(kind, hb.Error) and issubclass(kind, python)


def test_numbers_that_are_not_finite_are_refused_unless_they_are_allowed():
    values = np.full(1374, 0.1)
    values[1244:] = 3e38  # The head's: outputs overflow.
    problem = digits()
    problem.update(values)
    with pytest.raises(hb.NotFiniteError) as caught:
        hb.ggn(problem) @ np.ones(1374)
    assert caught.value.remedy is not None
    allowed = digits(allow_non_finite=True)
    allowed.update(values)
    assert not np.all(np.isfinite(hb.ggn(allowed) @ np.ones(1374, np.float32)))


def test_every_public_name_is_documented():
    for name in hb.__all__:
        thing = getattr(hb, name)
        if not callable(thing):
            continue
        assert thing.__doc__, name
        if inspect.isclass(thing) and thing.__module__.startswith("hessblock._") and not issubclass(thing, Exception):
            for member, value in vars(thing).items():
                if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                    assert value.__doc__, f"{name}.{member}"


def test_a_repr_says_model_shape_and_type(single):
    g = hb.ggn(single)
    for thing, said in (
        (single, ("digits/model.onnx", "1,374 parameters", "float32")),
        (g, ("GGN of digits/model.onnx", "1,374 × 1,374", "float32")),
        (g.block("head"), ("layer=head", "GGN of digits/model.onnx", "130 × 130", "float32")),
        (g.diagonal(), ("GGN of digits/model.onnx", "1,374", "float32")),
        (g.layers(), ("GGN of digits/model.onnx", "layer=dense2  204 × 204")),
        (g.block("head").plan(), ("66.0 KiB of results",)),
        (g.estimated_trace(2), ("value=", "error=")),
    ):
        for part in said:
            assert part in repr(thing)


def test_contiguous_inputs_are_borrowed(arrays):
    images, labels = arrays[0].copy(), arrays[1]
    problem = hb.Problem(MODEL, "cross-entropy", (images, labels), device="cpu")
    before = problem.outputs()
    images *= 0.5
    halved = hb.Problem(MODEL, "cross-entropy", (images.copy(), labels), device="cpu").outputs()
    assert not np.allclose(before, halved)
    np.testing.assert_array_equal(problem.outputs(), halved)


def test_records_survive_pickling(single):
    verdict = hb.ggn(single).block("head").verify(4)
    assert pickle.loads(pickle.dumps(verdict)) == verdict
