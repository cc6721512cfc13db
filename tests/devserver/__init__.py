"""The private server: what it promises to demo, tests and benchmarks."""
