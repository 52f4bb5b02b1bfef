"""Who imports whom, read from the sources, and what a short command loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("evals", "envs", "vla", "analysis")
# What `analysis` may know of the harness: what it recorded and how it is summed up, never how it is run.
PRINTING = {"evals.terminal.text", "evals.terminal.tables"}
RECORDED = {
    "evals.errors",
    "evals.provenance",
    "evals.record",
    "evals.spaces",
    "evals.summary",
    "evals.summary_format",
    "evals.types",
    *PRINTING,
}
HEAVY = {
    *("libero", "robosuite", "mujoco", "mani_skill", "sapien", "gymnasium", "numba"),
    *(
        "torch",
        "transformers",
        "ray",
        "pandas",
        "scipy",
        "sklearn",
        "matplotlib",
        "statsmodels",
        "pyarrow",
        "av",
        "PIL",
    ),
}


def module_name(path):
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py"))}


def imports(module):
    """Return our modules that a module imports anywhere in it; `from package import submodule` names the submodule."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & SOURCES.keys()
            if names - SOURCES.keys():
                found.add(node.module)
    return found & SOURCES.keys()


IMPORTS = {module: imports(module) for module in SOURCES}


def crossings(package):
    """Return (module, imported module) for every import that leaves a package."""
    return {
        (module, other)
        for module, others in IMPORTS.items()
        for other in others
        if module.split(".")[0] == package != other.split(".")[0]
    }


def test_the_harness_imports_none_of_ours():
    assert crossings("evals") == set()


def test_environments_import_the_harness_and_the_motion_language_that_their_experts_speak():
    language = "vla.motion.language"
    assert {pair for pair in crossings("envs") if not pair[1].startswith("evals") and pair[1] != language} == set()


def test_only_the_policy_of_the_model_knows_the_harness_and_what_prints_its_way_of_printing():
    assert {
        pair for pair in crossings("vla") if pair[0] not in ("vla.policy", "vla.told") and pair[1] not in PRINTING
    } == set()
    assert {pair for pair in crossings("vla") if not pair[1].startswith("evals")} == set()


def test_analysis_reads_records_and_the_model():
    allowed = {pair for pair in crossings("analysis") if pair[1] in RECORDED or pair[1].startswith("vla")}
    assert crossings("analysis") == allowed


def test_no_module_imports_itself_through_others():
    done = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in IMPORTS[module]:
                visit(other, [*path, module])
            done.add(module)

    for module in IMPORTS:
        visit(module, [])


@pytest.mark.parametrize("arguments", [["--help"], ["list"]])
def test_short_commands_load_no_simulator_and_no_torch(arguments):
    code = f"""
import sys
from evals.cli import main
try:
    main({arguments!r})
except SystemExit as end:
    assert end.code == 0, end.code
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stderr.split()
    assert HEAVY & {name.split(".")[0] for name in loaded} == set()
    assert len(loaded) < 600
