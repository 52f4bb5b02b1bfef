"""The scripted expert of the LIBERO suites, with one file for each family of skills."""
