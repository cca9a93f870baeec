"""LMDeploy's double: see tests/doubles/README.md."""
