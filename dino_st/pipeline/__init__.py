"""From sentences to scores: stages, recipes, the quick start."""
