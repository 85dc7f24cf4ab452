"""Names of picture files that are read, for folders and for paths that people type."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")
UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".jp2", ".svg", ".pdf")
"""Reading these states how to convert them."""
