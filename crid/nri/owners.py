"""Which plugin has set which part of a container, so that two that contradict each other are found out."""

from dataclasses import dataclass

from crid.cri import nri_pb2 as nri
from crid.errors import FailedPreconditionError


class Owners:
    """Of one container: a part is a number of nri.Field and, for parts that are maps, a key."""

    def __init__(self, container_id: str) -> None:
        self._container_id = container_id
        self._owners: dict[tuple[nri.Field.ValueType, str], str] = {}

    def __repr__(self) -> str:
        return f"<Owners {self._container_id[:13]} parts={len(self._owners)}>"

    def claims_of(self, plugin: str) -> "Claim":
        """Return what `plugin` makes its claims with."""
        return Claim(self._owners, plugin)

    def message(self) -> nri.OwningPlugins:
        """Return all owners as validating plugins are told them."""
        made = nri.OwningPlugins()
        fields = made.owners[self._container_id]
        for (field, key), plugin in self._owners.items():
            if key:
                fields.compound[field].owners[key] = plugin
            else:
                fields.simple[field] = plugin
        return made


@dataclass(frozen=True, slots=True)
class Claim:
    """One plugin's claims."""

    owners: dict[tuple[nri.Field.ValueType, str], str]
    plugin: str

    def __call__(self, field: nri.Field.ValueType, key: str = "") -> None:
        """Note that the plugin sets this. Raises FailedPreconditionError if another one has."""
        owner = self.owners.setdefault((field, key), self.plugin)
        if owner != self.plugin:
            part = f"{nri.Field.Name(field)} {key}".strip()
            raise FailedPreconditionError(f"NRI plugins {owner} and {self.plugin} both set {part}")

    def release(self, field: nri.Field.ValueType, key: str = "") -> None:
        """Note that the plugin has taken this away, so that it may be set again."""
        self.owners.pop((field, key), None)
