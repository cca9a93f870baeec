"""LMDeploy: what a deployment may tell it."""
