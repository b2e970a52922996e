"""glassworks takes an open language model from training to a trustworthy deployment, and shows the evidence."""

__version__ = "0.1.0"
