"""Encoders scored on mteb tasks, side by side."""
