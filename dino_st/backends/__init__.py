"""The language model that writes: on this machine, or behind a chat server."""
