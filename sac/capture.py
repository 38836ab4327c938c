"""Records updates once as a GPU graph, and launches it whole from then on: small networks are slow to launch.

Graphs are recorded by hand. CUDA and ROCm show the same interface.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Arrays = tuple[Tensor, ...]
Function = Callable[..., dict[str, Tensor]]
Recorder = Callable[[Callable[[], dict[str, Tensor]]], tuple[dict[str, Tensor], Callable[[], None]]]


def record_gpu_graph(function: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], Callable[[], None]]:
    """Records `function`, without running it. Returns its results' memory, and what computes them anew."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return results, graph.replay


class Captured:
    """Launches `function` of arrays as one graph for each combination of their shapes.

    Args:
        function: takes tensors, changes others in place, and returns tensors by name. What it changes must stay where
            it is in memory.
        snapshot: returns what undoes the runs of the warm-up.
        record: records a function without running it. Another than a GPU's is for tests.
    """

    def __init__(
        self, function: Function, snapshot: Callable[[], Callable[[], None]], record: Recorder = record_gpu_graph
    ):
        self._function = function
        self._snapshot = snapshot
        self._record = record
        self._graphs: dict[tuple[torch.Size, ...], tuple[Arrays, dict[str, Tensor], Callable[[], None]]] = {}

    def __call__(self, *arrays: Tensor) -> dict[str, Tensor]:
        shapes = tuple(array.shape for array in arrays)
        if shapes not in self._graphs:
            self._graphs[shapes] = self._capture(arrays)
        inputs, results, replay = self._graphs[shapes]
        for own, given in zip(inputs, arrays, strict=True):
            own.copy_(given)
        replay()
        # The next launch writes into the same memory.
        return {name: value.clone() for name, value in results.items()}

    def _capture(self, arrays: Arrays) -> tuple[Arrays, dict[str, Tensor], Callable[[], None]]:
        inputs = tuple(array.clone() for array in arrays)
        undo = self._snapshot()
        for _ in range(3):  # at first use, libraries choose their kernels and ask for their memory
            self._function(*inputs)
        undo()
        return inputs, *self._record(lambda: self._function(*inputs))
