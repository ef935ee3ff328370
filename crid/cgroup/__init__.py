"""cgroups v2 and v1 behind one interface: what pods' cgroups are called, how they are made, read and removed."""
