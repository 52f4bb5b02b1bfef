"""An example plugin: `slide` is a suite, `chase` a policy, `broken` what must not get past the harness."""
