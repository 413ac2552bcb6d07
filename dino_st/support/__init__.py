"""Options, files, progress and text; nothing of the method."""
