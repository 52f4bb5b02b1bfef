"""Our adapters and their experts pass the test that every plugin has to pass, on the real simulators."""

import pytest

from evals.conformance import check_policy, check_suite
from evals.engine.isolated import in_fresh_process
from evals.errors import MissingAssetsError
from evals.registry import load_policy, load_suite


def keep_the_contract(suite_name):
    suite = load_suite(suite_name)
    check_suite(suite)
    check_policy(load_policy("expert", suite, {}), suite)


@pytest.mark.parametrize("suite_name", ["libero_spatial", "simpler_bridge"])
def test_suite_and_expert_keep_the_contract(suite_name):
    try:
        in_fresh_process(keep_the_contract, suite_name, seconds=300)
    except MissingAssetsError as error:
        pytest.skip(str(error))
