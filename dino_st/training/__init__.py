"""An encoder trained on pairs, triplets or both; `model.fit` with our loaders."""
