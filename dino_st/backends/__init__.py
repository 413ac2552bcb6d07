"""Who writes: a causal language model on this machine, or a chat server."""
