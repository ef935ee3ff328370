"""End-to-end tests: a whole daemon through its socket. A package, so that its fixtures end with it."""
