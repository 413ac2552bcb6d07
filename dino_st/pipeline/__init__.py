"""From sentences to scores: stages from file to file, recipes, the quick start."""
