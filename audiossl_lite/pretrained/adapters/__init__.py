"""Our encoders in the suites that others evaluate with, and theirs in our tables; a module for each direction."""
