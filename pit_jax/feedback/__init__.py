"""Who says which response is better: the gold score, reward models, language models."""
