"""What everything may use: options, files, progress, text; nothing of the method."""
