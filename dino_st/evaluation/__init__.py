"""Encoders scored on mteb tasks, side by side, with floors that need no model."""
