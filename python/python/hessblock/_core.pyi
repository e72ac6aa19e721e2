"""The compiled part of hessblock."""
# Written by python/stubs.py: the types are in the Rust code.

from collections.abc import Callable, Sequence
from numpy.typing import NDArray
from os import PathLike
from typing import Any, Final, TypeAlias, final

Source: TypeAlias = NDArray[Any] | str
PartRow: TypeAlias = tuple[str, list[tuple[int, int]], list[tuple[int, int]] | None]
Progress: TypeAlias = Callable[[int, int], object] | None

__all__ = ['__version__', 'Blocks', 'Device', 'Loss', 'Network', 'Operator', 'Output', 'Plan', 'Request', 'Session', 'Shown', 'Study', 'adapters', 'backends', 'bench', 'merge', 'outputs', 'selftest', 'show', 'show_array', 'verify', 'verify_against', 'verify_array']
__version__: Final[str]
'The version of the package.'

@final
class Blocks:
    """A result on disk. Nothing is loaded until it is read."""

    @staticmethod
    def open(path: str | PathLike[str]) -> Blocks:
        """Opens a result by the path that it was written to."""

    @property
    def parameters(self, /) -> list[tuple[str, str, list[int], int]]:
        """The parameters in the flat order: name, layer, shape, offset."""

    @property
    def parts(self, /) -> list[tuple[str, list[tuple[int, int]], list[tuple[int, int]] | None]]:
        """The parts, in the order of the request."""

    @property
    def provenance(self, /) -> str:
        """The provenance of the result, as JSON."""

    def read(self, /, part: int, rows: tuple[int, int], columns: tuple[int, int] | None, dtype: str) -> NDArray[Any]:
        """Rows and columns of a part, half-open, as an array of "f32" or "f64"; without columns, those of a vector."""

@final
class Device:
    """A device that is ready to work."""

    @property
    def count(self, /) -> int:
        """The number of devices that share the tiles of blocks."""

    @property
    def driver(self, /) -> str | None:
        """The driver and its version; None for the CPU."""

    @property
    def is_gpu(self, /) -> bool:
        """Whether it is a GPU."""

    @property
    def name(self, /) -> str:
        """The device's name."""

    @property
    def note(self, /) -> str | None:
        """A note on the choice, such as that no GPU was found."""

    @staticmethod
    def open(selector: str, precision: str) -> Device:
        """Opens "auto", "cpu", "gpu", an index, a part of a name, "all", or a list of indices and names with commas, in "f32" or "f64"."""

    @property
    def precision(self, /) -> str:
        """"f32" or "f64"."""

@final
class Loss:
    """A loss with its options. A session makes its own of it."""

    def __reduce__(self, /) -> tuple[Any, tuple[Any, ...]]:
        """Returns the call by which pickle makes it again."""

    @staticmethod
    def bce(reduction: str='mean', *, pos_weight: Sequence[float] | None=None, class_axis: int | None=None) -> Loss:
        """Binary cross-entropy of logits, as torch.nn.BCEWithLogitsLoss."""

    @staticmethod
    def cross_entropy(reduction: str='mean', *, weight: Sequence[float] | None=None, ignore_index: int | None=..., label_smoothing: float=0.0, class_axis: int | None=None) -> Loss:
        """Softmax cross-entropy of logits, with the options of torch.nn.CrossEntropyLoss."""

    @staticmethod
    def given(gradients: NDArray[Any] | None=None, values: NDArray[Any] | None=None, weight: float=1.0) -> Loss:
        """The derivatives of any loss at the network's outputs: gradients [N, C] and values [N], with the reduction's `weight` in them. The targets are its Hessians,
[N, C, C]."""

    @staticmethod
    def mse(reduction: str='mean') -> Loss:
        """Squared error, as torch.nn.MSELoss."""

    @property
    def name(self, /) -> str:
        """Its name with its options."""

    @staticmethod
    def parse(name: str) -> Loss:
        """A loss by its name, "cross-entropy", "mse" or "bce", with its default options."""

@final
class Network:
    """A network with its weights. It does not change."""

    @staticmethod
    def from_bytes(data: Sequence[int], name: str, *, constant: Sequence[str]=..., trainable: Sequence[str]=..., untie: Sequence[str]=..., tie: Sequence[str]=..., weights: str | PathLike[str] | None=None, output: str | None=None, dimensions: dict[str, int]=...) -> Network:
        """Reads the bytes of an ONNX file. `name` names it in messages, and external data lie beside it."""

    @staticmethod
    def from_graph(graph: Sequence[int], arrays: list[tuple[str, NDArray[Any]]], parameters: list[str], *, name: str, aliases: dict[str, str]=..., constant: Sequence[str]=..., output: str | None=None, dimensions: dict[str, int]=...) -> Network:
        """Reads a graph whose initializers are listed as inputs only, with the arrays for them by name."""

    @property
    def inputs(self, /) -> list[dict[str, Any]]:
        """The inputs that data are given for: dictionaries with name, shape (of a sample), sample_axis, integer."""

    @property
    def layers(self, /) -> list[tuple[str, list[str], list[tuple[int, int]]]]:
        """The layers: name, names of the parameters, their flat ranges."""

    @staticmethod
    def load(path: str | PathLike[str], *, constant: Sequence[str]=..., trainable: Sequence[str]=..., untie: Sequence[str]=..., tie: Sequence[str]=..., weights: str | PathLike[str] | None=None, output: str | None=None, dimensions: dict[str, int]=...) -> Network:
        """Reads an ONNX file."""

    @property
    def output_shape(self, /) -> list[int]:
        """The shape of the outputs of a sample."""

    @property
    def parameter_count(self, /) -> int:
        """p, the number of all parameters' entries."""

    @property
    def parameters(self, /) -> list[tuple[str, str, list[int], int]]:
        """The parameters in the flat order: name, layer, shape, offset."""

    def values(self, /) -> NDArray[Any]:
        """All parameters, [p] in the flat order."""

    @property
    def warnings(self, /) -> list[str]:
        """The warnings about the model, such as parameters that do not enter the output."""

    def with_arrays(self, /, arrays: list[tuple[str, NDArray[Any]]]) -> Network:
        """The same graph with other arrays of the same names and shapes."""

    def with_values(self, /, values: NDArray[Any]) -> Network:
        """The same with other parameters, [p] in the flat order."""

@final
class Operator:
    """G, H, H − G or a Fisher matrix of a session."""

    def apply(self, /, v: NDArray[Any], *, progress: Progress=None) -> NDArray[Any]:
        """The product with vectors [p] or [p, k] of float32 or float64; the result has the same shape and type."""

    @property
    def curvature(self, /) -> str:
        """The kind of matrix."""

    def diagonal(self, /, *, progress: Progress=None) -> NDArray[Any]:
        """The diagonal, [p]."""

    def entries(self, /, pairs: Sequence[tuple[int, int]], *, progress: Progress=None) -> NDArray[Any]:
        """Entries straight from the definition, in CPU double precision."""

    def estimated_traces(self, /, probes: int, seed: int, *, progress: Progress=None) -> list[tuple[str, int, float, float | None]]:
        """The trace by layer and as a whole, estimated with random vectors of ±1 (Hutchinson 1990)."""

    def forms(self, /, v: NDArray[Any], *, progress: Progress=None) -> list[tuple[float, float]]:
        """vᵀGv and vᵀ(H − G)v of each vector."""

    def parts(self, /, parts: list[tuple[Any, ...]], *, tile_rows: int | None=None, way: str | None=None) -> Request:
        """A request for parts, each a tuple: ("full",), ("layers",), ("diagonal",), ("layer", rows, columns or None),
("param", rows, columns or None), ("range", row, row, column, column), ("rectangle", ranges of rows, of columns)."""

    def quadratic_form(self, /, v: NDArray[Any], *, progress: Progress=None) -> NDArray[Any]:
        """vᵀAv of each vector: [1] for one, [k] for several."""

    @property
    def rank(self, /) -> str | None:
        """The report of the cut of the loss factor, as JSON; None where it was not cut."""

    @property
    def session(self, /) -> Session:
        """The session of the operator."""

    @property
    def size(self, /) -> int:
        """p, the number of rows and of columns."""

    def traces(self, /, *, progress: Progress=None) -> list[tuple[str, int, float, float | None]]:
        """The trace by layer and, last, as a whole: exact, from the diagonal."""

    def with_rank_tolerance(self, /, tolerance: float, *, progress: Progress=None) -> Operator:
        """The same with every sample's loss factor cut to the columns that matter."""

@final
class Output:
    """The place of a result on disk: by the ending of the path FILE.npy, NAME.zarr, FILE.safetensors, or a folder of .npy files."""

    def __new__(cls, /, path: str | PathLike[str], *, overwrite: bool=False, restart: bool=False, shard: tuple[int, int] | None=None, compress: int | None=None, chunks_per_file: int | None=None, upper_triangle: bool=False) -> Output:
        ...

    @property
    def path(self, /) -> str:
        """The path."""

@final
class Plan:
    """The plan of a request: its tiles, operations and memory."""

    def __str__(self, /) -> str:
        ...

    @property
    def device_bytes(self, /) -> int:
        """Bytes of device memory that it counts on at most."""

    def forecast(self, /, *, progress: Progress=None) -> dict[str, Any]:
        """Predicts time and memory. The first forecast on a device measures it for some seconds, once."""

    @property
    def host_bytes(self, /) -> int:
        """Bytes of host memory that it counts on at most, beside the network and the data."""

    def json(self, /) -> str:
        """The plan as JSON."""

@final
class Request:
    """Parts of a matrix that were asked for."""

    @property
    def bytes(self, /) -> int:
        """The size of all parts in the device's precision."""

    @property
    def parts(self, /) -> list[tuple[str, list[tuple[int, int]], list[tuple[int, int]] | None]]:
        """The parts, in order."""

    def plan(self, /, output: Output | None=None) -> Plan:
        """The plan of a result in memory, or of one that is written."""

    def to_arrays(self, /, dtype: str | None=None, *, progress: Progress=None) -> list[NDArray[Any]]:
        """The parts as arrays in "f32", "f64" or, by default, the device's precision. The arrays are the library's memory: nothing
is copied."""

    def without_larger(self, /, limit: int) -> tuple[Request, list[tuple[str, int]]]:
        """Returns the request without the parts of more than `limit` bytes, and the names and sizes of these."""

    def write(self, /, output: Output, *, progress: Progress=None) -> dict[str, Any]:
        """Computes the parts into files. Returns the report of the run."""

@final
class Session:
    """A network, its data, a loss and a device, checked against each other. It does not change."""

    def __new__(cls, /, network: Network, inputs: list[tuple[str | None, Source]], targets: Source | None, loss: Loss, device: Device, *, samples: tuple[int, int] | None=None, batch: int | None=None, host_memory: int | None=None, memory: int | None=None, allow_non_finite: bool=False) -> Session:
        ...

    @property
    def device(self, /) -> Device:
        """The device."""

    def gradient(self, /, *, progress: Progress=None) -> tuple[NDArray[Any], float, float | None]:
        """The gradient, [p], the loss, and the accuracy of a loss with classes."""

    def jvp(self, /, v: NDArray[Any], *, progress: Progress=None) -> NDArray[Any]:
        """J·v per sample, [N, k, C], of vectors [p, k]."""

    @property
    def loss(self, /) -> str:
        """The loss with its options."""

    @property
    def network(self, /) -> Network:
        """The network with its weights."""

    def operator(self, /, curvature: str, *, samples: int=1, seed: int=0) -> Operator:
        """A matrix: "ggn", "exact", "residual", "empirical-fisher", or "mc-ggn" with its draws (samples) and seed."""

    def outputs(self, /, *, progress: Progress=None) -> NDArray[Any]:
        """The network's outputs, [N, C], each sample's flattened."""

    @property
    def samples(self, /) -> int:
        """The number of samples."""

    def study(self, /, *, layers: Sequence[str]=..., initialiser: str='glorot', draws: int | None=None, seed: int=0, pairs: bool=False, exact_entries: int | None=None, probes: int | None=None, spectral: bool=True, progress: Progress=None) -> Study:
        """Measures how far G is from H ([`Study`])."""

    def vjp(self, /, u: NDArray[Any], *, progress: Progress=None) -> NDArray[Any]:
        """Σ_n J_nᵀ·u_n, [p, k], of cotangents [N, k, C]."""

    def with_device(self, /, device: Device) -> Session:
        """The same on another device."""

    def with_given(self, /, loss: Loss, targets: Any | None) -> Session:
        """The same with another loss and other targets."""

    def with_network(self, /, network: Network) -> Session:
        """The same with other weights and constants."""

@final
class Shown:
    """Pictures and tables of a result."""

    def html(self, /) -> str:
        """A page that needs no other file."""

    def json(self, /) -> str:
        """Everything that was found, as JSON."""

    def png(self, /) -> bytes:
        """The pictures as PNG."""

    def svg(self, /) -> str:
        """The pictures as SVG."""

    def table(self, /) -> str:
        """The table: of every part, the blocks between its layers."""

    @property
    def title(self, /) -> str:
        """The matrix and the network."""

@final
class Study:
    """The findings of a study."""

    def csv(self, /) -> str:
        """A row per layer."""

    def files(self, /, name: str) -> list[tuple[str, bytes]]:
        """Every file by its name: JSON, the table, the figures. `name` says in the figures what was studied."""

    def json(self, /) -> str:
        """Everything, as JSON."""

    def write(self, /, folder: str | PathLike[str], name: str, overwrite: bool) -> None:
        """Writes all files into a folder."""

def adapters() -> list[dict[str, Any]]:
    """The devices of this machine: dictionaries with selector, name, kind, backend and driver."""

def backends() -> list[str]:
    """The backends of this build, whether or not this machine has them."""

def bench(devices: Sequence[Device], cases: Sequence[str]=..., *, seconds: float=0.5, progress: Progress=None) -> tuple[str, str]:
    """Measures devices: the tables, and everything as JSON."""

def merge(path: str | PathLike[str], *, overwrite: bool=False, progress: Progress=None) -> dict[str, Any]:
    """Puts the shares of several processes together."""

def outputs(network: Network, inputs: list[tuple[str | None, Source]], device: Device, *, progress: Progress=None) -> NDArray[Any]:
    """The outputs of a network, [N, C], each sample's flattened. No loss and no targets are needed."""

def selftest(device: Device, cases: Sequence[str]=..., *, progress: Progress=None) -> tuple[str, str]:
    """Tests a device: the table, and everything as JSON."""

def show(path: str | PathLike[str], *, parts: Sequence[str]=..., layer: tuple[str, str | None] | None=None, range: tuple[int, int, int, int] | None=None, size: int=800) -> Shown:
    """Reads a result once, for its tables and pictures. `zoom` is a layer, two layers with a comma between, or flat ranges such as
0..10,5..9."""

def show_array(operator: Operator, part: PartRow, array: NDArray[Any], *, name: str, size: int=800) -> Shown:
    """Tables and a picture of a part that is in memory."""

def verify(path: str | PathLike[str], *, entries: int=64, seed: int=0, progress: Progress=None) -> str:
    """Checks a result on disk against the definition, as JSON."""

def verify_against(operator: Operator, path: str | PathLike[str], *, entries: int=64, seed: int=0, progress: Progress=None) -> str:
    """Checks a result on disk against the matrix that it was made of, as JSON."""

def verify_array(operator: Operator, part: PartRow, array: NDArray[Any], *, entries: int=64, seed: int=0, progress: Progress=None) -> str:
    """Checks a part that is in memory against the definition, as JSON."""
