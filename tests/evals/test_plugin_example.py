"""The example plugin is installed with pip and then found and run as a user's would be."""

import subprocess
import sys


def python(environment, code):
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_its_suites_and_policies_are_found_by_name(plugin_environment):
    listing = "from evals.registry import *; print(*names(SUITES), *names(POLICIES))"
    found = python(plugin_environment, listing)
    assert {"example_slide", "example_chase", "reach", "noop"} <= set(found)


def test_an_option_of_its_policy_is_parsed_by_annotation(plugin_environment):
    code = """
from evals.registry import load_policy, load_suite
print(load_policy("example_chase", load_suite("example_slide"), {"speed": "0.5"})._speed)
"""
    assert python(plugin_environment, code) == ["0.5"]
