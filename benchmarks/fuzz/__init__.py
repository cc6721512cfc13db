"""Rows of all kinds against living workers: none dies, none goes deaf, and each row is answered."""
