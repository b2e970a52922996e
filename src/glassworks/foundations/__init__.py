"""What every system stands on: models and their parts, gates, log-probabilities, data, runs and evidence."""
