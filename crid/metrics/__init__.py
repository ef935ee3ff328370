"""The daemon's own metrics, for Prometheus: what is counted, what is looked up, and where they are served."""
