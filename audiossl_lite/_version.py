"""The one place that states the version of the library and of the book."""

__version__ = "0.1.0"
