"""policy.json: which images may be pulled and run (containers-policy.json(5)). Pure; crid.image.policy_file reads it.

A scope is a reference, a repository, a path above it, a host, or `*.DOMAIN`; the most specific one that the file has for
transport `docker` counts, then that transport's "", then `default`. All requirements of a scope must be met.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from crid.errors import PermissionDeniedError
from crid.image.references import Reference, scopes
from crid.image.signatures import Identity, Signature, Trust, verify


@dataclass(frozen=True, slots=True)
class Requirement:
    """One element of a scope's list. With `refusal` nothing meets it; with neither `refusal` nor `trust` everything does."""

    refusal: str = ""
    trust: Trust | None = None
    """Whose signature it wants."""
    identity: Identity = field(default_factory=Identity)


ACCEPT = Requirement()


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole file; without one everything is accepted."""

    default: tuple[Requirement, ...] = (ACCEPT,)
    scopes: Mapping[str, tuple[Requirement, ...]] = field(default_factory=dict)
    source: str = ""

    def requirements(self, reference: Reference | None) -> tuple[Requirement, ...]:
        """Return what an image called `reference` must meet; None is an image without a name."""
        if reference is not None:
            for scope in (*scopes(reference), ""):
                if scope in self.scopes:
                    return self.scopes[scope]
        return self.default

    def wanted_forms(self, reference: Reference) -> Set[str]:
        """Return the forms of signatures that `check` will need."""
        return {requirement.trust.form for requirement in self.requirements(reference) if requirement.trust is not None}

    def check(self, reference: Reference | None, digests: tuple[str, ...], signatures: tuple[Signature, ...]) -> None:
        """Check an image known by the manifest `digests`. Raises PermissionDeniedError saying what is not met."""
        what = f"image {reference or digests[0]}: {self.source}"
        for requirement in self.requirements(reference):
            if requirement.refusal:
                raise PermissionDeniedError(f"{what}: {requirement.refusal}")
            if requirement.trust is not None:
                if reference is None:
                    raise PermissionDeniedError(
                        f"{what}: a signature is required, and the image has no name that could be signed"
                    )
                verify(what, requirement.trust, requirement.identity, reference, digests, signatures)
