"""Preference optimisation: data, losses, training and win rates (Meng et al. 2024, SimPO, and its baselines)."""
