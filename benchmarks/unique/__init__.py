"""Whether a key has one job, however many processes send it at once."""
