"""What tests and benchmarks share: a daemon of their own, a CRI client, a registry, and a count of what is left behind.

Nothing here knows crid's insides but the names of its configuration keys: the tests that use it see the daemon as the
kubelet does, through its socket and through the kernel.
"""
