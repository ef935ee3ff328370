"""The kernel, one call a function: a wrapper encodes its arguments, calls, and raises OSError that names the call and the
path. This is the only package that may use ctypes. `crid.linux.fake` records calls instead of making them."""
