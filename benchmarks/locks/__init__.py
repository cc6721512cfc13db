"""What a lock costs and how soon the next one has it, beside Redis, its locks, and flock."""
