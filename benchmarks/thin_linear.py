"""Time a linear layer for the few rows of a decoding step: PyTorch's own and the one in dragoman.torch.net.layers.

python benchmarks/thin_linear.py [THREADS]
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F  # noqa: N812

from dragoman.torch.net.layers import linear


def milliseconds(function: Callable[[], object], runs: int = 15) -> float:
    function()
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print("| out x in | matrices | rows | torch ms | dragoman ms |\n|---|---|---|---|---|")
    with torch.inference_mode():
        for size_out, size_in, count in ((768, 768, 48), (3072, 768, 12), (768, 3072, 12), (30522, 768, 1)):
            weights = [torch.randn(size_out, size_in) for _ in range(count)]
            bias = torch.randn(size_out)
            for rows in (1, 2, 3, 5, 6, 8, 16):
                x = torch.randn(rows, size_in)
                theirs = milliseconds(lambda x=x, ws=weights, b=bias: [F.linear(x, w, b) for w in ws])
                ours = milliseconds(lambda x=x, ws=weights, b=bias: [linear(x, w, b) for w in ws])
                print(f"| {size_out} x {size_in} | {count} | {rows} | {theirs:.1f} | {ours:.1f} |", flush=True)


if __name__ == "__main__":
    main()
