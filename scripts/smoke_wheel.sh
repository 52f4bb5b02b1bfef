#!/usr/bin/env bash
# Builds the wheel, installs it into a clean environment as a user would, with no extra, and uses it outside the clone: about a
# minute. Then once more with the extra `analysis`. Prints one line a step and stops at the first that fails.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH
say "wheel: building"
quietly "$work/build.log" "building the wheel" .venv/bin/python -m hatchling build -t wheel -d "$work"
wheel=$(echo "$work"/motion_vla-*.whl)
make_venv "$work/venv"
install "$work/venv" "$(basename "$wheel")" "$wheel"

cd "$work" # not the clone: `evals` must come from the wheel
PATH="$work/venv/bin:$PATH"
step() { # WHAT PATTERN COMMAND...: the command must succeed, and its output hold the pattern
    local what=$1 pattern=$2
    shift 2
    "$@" >"$work/step.log" 2>&1 || { cat "$work/step.log" && fail "$what: it failed, with the words above"; }
    grep -q -- "$pattern" "$work/step.log" || { cat "$work/step.log" && fail "$what: no line above has '$pattern'"; }
    ! grep -E 'Warning|Traceback' "$work/step.log" || fail "$what: a warning is shown"
    say "wheel: $what"
}
step "vla-eval --help" "usage: vla-eval" vla-eval --help
step "vla-eval list" "libero_spatial" vla-eval list
step "vla-train --help" "usage: vla-train" vla-train --help
step "noop fails on reach" " 0.0" vla-eval --suite reach --policy noop --trials 2 --out noop
step "expert solves reach" "100.0" vla-eval --suite reach --policy expert --trials 2 --out expert
install "$work/venv" "$(basename "$wheel") with the extra analysis" "$wheel[analysis]"
step "vla-eval compare" "expert" vla-eval compare noop expert
step "vla-eval tables, with the paper's numbers" "Table 3" vla-eval tables expert
step "vla-eval report" "" vla-eval report expert --out report.html
