"""How fast crid is, as a ratio to the OCI runtime alone. `scripts/bench` runs it; nothing here is a test of correctness."""
