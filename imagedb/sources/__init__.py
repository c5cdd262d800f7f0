"""The sources of images: one module per kind of source; source.py defines the interface."""
