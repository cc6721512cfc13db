"""The demonstration: locks, jobs and a killed worker, on a private server, with a verdict."""
