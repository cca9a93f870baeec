"""LMDeploy's two engines, TurboMind and PyTorch, behind the engine protocol, in their own Python environment."""
