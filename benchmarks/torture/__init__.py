"""Are critical sections ever two at a time? Holders, sessions and the server are hit by turns."""
