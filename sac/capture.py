"""Records updates once as GPU graphs, and launches them whole from then on: small networks are slow to launch.

Graphs are recorded by hand. CUDA and ROCm show the same interface. What was reported of ROCm's is in docs/rocm.md, and
is why a graph is small there, and checked.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Results = dict[str, Tensor]
Piece = Callable[[], Results]
Replay = Callable[[], Any]
Recorder = Callable[[Callable[[], list[Results]]], tuple[list[Results], Replay]]

CHECKED_EVERY = 1_000
"""Launches from one comparison with eager PyTorch to the next. The first launch is compared, too."""
TOLERANCE = 0.01
"""Largest distance of what a graph changed from where eager PyTorch puts it, as a share of how far that moved it (in
the Euclidean norm). Inputs of another batch make a difference of about 1."""
MOST_OPERATIONS = 160
"""In one graph on ROCm. An operation is a kernel or two, and graphs of 200 kernels were reported to compute with old
values."""


class Limits(NamedTuple):
    """Tells what a device's graphs are trusted with."""

    operations: int | None = None
    """In one graph. None: any number."""
    wait: Callable[[], Any] | None = None
    """Waits for the device between the inputs' copy and the launch that reads them. None: no need to."""

    @classmethod
    def of_this_build(cls) -> "Limits":
        """Returns ROCm's limits where PyTorch was built for it, none elsewhere."""
        return cls(MOST_OPERATIONS, torch.cuda.synchronize) if torch.version.hip else cls()


def record_gpu_graph(function: Callable[[], list[Results]]) -> tuple[list[Results], Replay]:
    """Records `function`, without running it. Returns its results' memory, and what computes them anew."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return results, graph.replay


class Captured:
    """Runs pieces of work one after the other as graphs, recorded once for each combination of the inputs' shapes.

    The first launch, and one in CHECKED_EVERY, is compared with eager PyTorch. Where they differ it says so, and is
    eager from then on.

    Args:
        pieces: takes tensors, and returns functions that change `state` in place and return tensors by name.
        state: what the pieces change. It stays where it is in memory.
        record: records a function without running it. Another than a GPU's is for tests.
        limits: of the device's graphs.
    """

    def __init__(
        self,
        pieces: Callable[..., Iterable[Piece]],
        state: Sequence[Tensor],
        record: Recorder = record_gpu_graph,
        limits: Limits | None = None,
    ):
        self._pieces = pieces
        self._state = list(state)
        self._record = record
        self._limits = limits or Limits.of_this_build()
        self._recorded: dict[tuple[torch.Size, ...], tuple[list[Tensor], list[list[Results]], list[Replay]]] = {}
        self._launches = 0
        self.trusted = True

    def __call__(self, *inputs: Tensor) -> list[Results]:
        """Returns what each piece returned. The next launch writes into the same memory."""
        shapes = tuple(each.shape for each in inputs)
        if self.trusted and shapes not in self._recorded:
            self._capture(shapes, inputs)
        if not self.trusted:
            return self._eager(*inputs)
        self._launches += 1
        return self._checked(*inputs) if self._launches % CHECKED_EVERY == 1 else self._launch(*inputs)

    def _eager(self, *inputs: Tensor) -> list[Results]:
        return _run(self._pieces(*inputs))

    def _launch(self, *inputs: Tensor) -> list[Results]:
        own, results, replays = self._recorded[tuple(each.shape for each in inputs)]
        torch._foreach_copy_(own, list(inputs))
        if self._limits.wait:
            self._limits.wait()
        for replay in replays:
            replay()
        return [each for recorded in results for each in recorded]

    def _checked(self, *inputs: Tensor) -> list[Results]:
        before = [each.clone() for each in self._state]
        self._launch(*inputs)
        by_graph = [each.clone() for each in self._state]
        torch._foreach_copy_(self._state, before)
        results = self._eager(*inputs)
        for graph, eager, old in zip(by_graph, self._state, before, strict=True):
            if not (graph - eager).norm() <= TOLERANCE * (eager - old).norm():  # also where it is no number
                self._distrust("computed something else than eager PyTorch")
                break
        return results

    def _capture(self, shapes: tuple[torch.Size, ...], inputs: Sequence[Tensor]) -> None:
        own = [each.clone() for each in inputs]
        before = [each.clone() for each in self._state]
        for _ in range(3):  # at first use, libraries choose their kernels and ask for their memory
            most = max(_operations(piece) for piece in self._pieces(*own))
        torch._foreach_copy_(self._state, before)
        pieces = list(self._pieces(*own))
        if self._limits.operations is None:
            recorded = [self._record(partial(_run, pieces))]
        elif most <= self._limits.operations:
            recorded = [self._record(partial(_run, [piece])) for piece in pieces]
        else:
            return self._distrust(f"would hold {most} operations, more than {self._limits.operations}")
        self._recorded[shapes] = own, [results for results, _ in recorded], [replay for _, replay in recorded]

    def _distrust(self, what: str) -> None:
        self.trusted = False
        self._recorded.clear()
        warnings.warn(f"a GPU graph {what}: updates go on without graphs (docs/rocm.md)", RuntimeWarning, stacklevel=1)


def _run(pieces: Iterable[Piece]) -> list[Results]:
    return [piece() for piece in pieces]


class _Operations(TorchDispatchMode):
    """Counts operations that compute something."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))


def _operations(piece: Piece) -> int:
    """Returns how many operations `piece` takes, and runs it."""
    with _Operations() as operations:
        piece()
    return operations.count
