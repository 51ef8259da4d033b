"""`dragoman doctor`: what is installed, what is missing for what, and what this machine can do."""

import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

from dragoman._install import install_command, origin
from dragoman._lazy import EXTRAS, require
from dragoman._version import __version__
from dragoman.cli.flags import MessageFlags
from dragoman.cli.generated import with_flags

_FOR = {
    "torch": "models in PyTorch",
    "jax": "models in JAX",
    "default-model": "transcribing without --model",
    "media": "m4a, mp4, webm and other formats that FFmpeg reads",
    "live": "the microphone",
    "evaluate": "error rates and BLEU",
    "datasets": "data sets of the hub",
    "train": "training from a configuration file",
    "plots": "plots of windows",
    "gguf": "models in .gguf files",
    "chat": "chat templates",
    "moses": "BioGPT's tokenizer",
    "server": "`dragoman serve`",
    "onnx": "exported models",
    "export": "exporting models, with torch and onnx",
}
_ABILITIES = ("avx", "avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "sve")


@with_flags
def doctor(*, messages: MessageFlags) -> int:
    """Print what is installed, what is missing for what, and what the processor can do."""
    for line in (*_itself(), "", *_packages(), "", *_machine(), "", *_backends()):
        print(line)  # noqa: T201
    return 0


def _itself() -> Iterator[str]:
    kind, place = origin()
    yield f"dragoman {__version__}, installed from: {kind} {place}".rstrip()
    yield f"Python {platform.python_version()}, {sys.executable}"
    yield f"{platform.platform()}"


def _packages() -> Iterator[str]:
    for extra, use in _FOR.items():
        modules = [module for module, name in EXTRAS.items() if name == extra]
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            yield f"missing    {extra:14}{use}. Install it with: {install_command(extra)}"
        else:
            yield f"installed  {extra:14}{use} ({', '.join(map(_with_version, modules))})"


def _with_version(module: str) -> str:
    names = packages_distributions().get(module, [module])
    try:
        return f"{names[0]} {version(names[0])}"
    except PackageNotFoundError:
        return module


def _machine() -> Iterator[str]:
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    yield f"processor: {_field('model name') or platform.processor() or platform.machine()}, {cores} cores"
    flags = set((_field("flags") or _field("Features") or "").split())
    if flags:
        yield f"abilities: {' '.join(one for one in _ABILITIES if one in flags) or 'none that matter here'}"
    if sys.platform != "win32":
        yield f"memory:    {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"


def _field(name: str) -> str | None:
    """Return a field of Linux's description of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), None)


def _backends() -> Iterator[str]:
    for backend, package in (("torch", "torch"), ("jax", "flax"), ("onnx", "onnxruntime")):
        if find_spec(package):
            runner = require(f"dragoman.{backend}.runner", f"`{backend}`").Runner
            yield f"{backend}: {runner.abilities()}"
    if not any(map(find_spec, ("torch", "flax", "onnxruntime"))):
        yield f"No backend is installed, so no model runs. Install one with: {install_command('torch')}"
