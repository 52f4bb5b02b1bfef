"""Numbers with bounds: intervals, tests, paired and sequential comparison."""
