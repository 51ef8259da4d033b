# shellcheck shell=bash
# Shared by the other scripts here, never run directly: `. scripts/_setup.sh`, then `setup NAME EXTRAS [GROUP…]`.
#
# Everything is installed in the repository's .venv. Each script has a stamp file with a hash of the files that determine
# its set-up, so that a second run starts at once and a changed pyproject.toml or constraints.txt triggers a reinstall.

set -eu

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
VENV="$ROOT/.venv"
BIN="$VENV/bin"

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

# Print the first Python >= 3.11 that can create a virtual environment.
find_python() {
    local candidate found=""
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3 python; do
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        found=$candidate
        "$candidate" -c 'import ensurepip, venv' 2>/dev/null || continue
        printf '%s\n' "$candidate"
        return
    done
    if [ -n "$found" ]; then
        die "$found cannot create virtual environments. On Debian and Ubuntu: apt install python3-venv"
    fi
    die "Python 3.11 or newer was not found. On Debian 12 and Ubuntu 24.04: apt install python3 python3-venv" \
        "(or set one: PYTHON=/path/to/python3.11 $0)"
}

# setup NAME EXTRAS [GROUP…]: create .venv and install the package (editable) with extras and dependency groups.
setup() {
    local name=$1 extras=$2 stamp wanted python group
    shift 2
    stamp="$VENV/.dragoman-$name"
    wanted=$(cd "$ROOT" && cat pyproject.toml constraints.txt scripts/_setup.sh | cksum)" $ROOT $extras $*"
    if [ -x "$BIN/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    # Recreate an incomplete environment, or one whose folder was moved.
    if ! "$BIN/pip" --version >/dev/null 2>&1; then
        python=$(find_python)
        say "Creating .venv with $("$python" --version)…"
        "$python" -m venv --clear "$VENV"
    fi
    say "Installing dragoman${extras:+[$extras]}${*:+ and its $* tools}: a few minutes the first time, skipped afterwards…"
    # `pip install --group` (PEP 735) needs pip 25.1.
    "$BIN/python" -m pip install -qq --disable-pip-version-check --upgrade 'pip>=25.1'
    for group in "$@"; do
        set -- "$@" --group "$ROOT/pyproject.toml:$group"
        shift
    done
    "$BIN/python" -m pip install -qq --disable-pip-version-check --constraint "$ROOT/constraints.txt" \
        --editable "$ROOT${extras:+[$extras]}" "$@"
    printf '%s' "$wanted" >"$stamp"
}
