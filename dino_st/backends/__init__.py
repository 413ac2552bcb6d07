"""Who writes text: `local` runs the decoding engine on a transformers model."""
