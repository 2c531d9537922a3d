"""The book: what chapters show with, how they are run, and how the pages are built from them."""
