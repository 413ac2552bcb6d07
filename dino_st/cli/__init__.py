"""The command line, made from the option models."""
