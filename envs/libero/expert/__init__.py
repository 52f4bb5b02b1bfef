"""The scripted expert of the LIBERO suites, one file a family of skills."""
