"""Kernel settings of a host that follow containers: set before one starts, and set back after it has ended."""
