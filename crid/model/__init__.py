"""The domain's nouns: pods, containers, images, mounts, statistics. Pure data, no I/O.

What never changes after creation (metadata) is a frozen dataclass holding the CRI message as it was received; what does
change (status) is another frozen dataclass, replaced as a whole by `crid.store.state`, the only place that may.
"""
