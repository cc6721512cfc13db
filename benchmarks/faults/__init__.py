"""Does every confirmed job run? Workers, producers, sessions and the server are killed by turns."""
