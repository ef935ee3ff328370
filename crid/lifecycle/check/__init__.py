"""Whether what is on the host is what the records say: facts, and what follows from them.

`facts` says what can be known, `gather` finds it out and changes nothing, `compare` is a pure function from facts to
findings. `crid check` prints them; a daemon's start removes those that are leftovers (crid.lifecycle.leftovers). What is a
leftover is decided in one place, `compare.leftovers`, for both.
"""
