"""Forward passes of a causal model in which each prompt is read once; torch, transformers and NumPy alone."""
