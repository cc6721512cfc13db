"""Several beats, of which the active one is killed again and again."""
