"""Hooks that the host's administrator gives to containers: documents of schema 1.0.0, as Podman and CRI-O read them.

    {"version": "1.0.0",
     "hook": {"path": "/usr/libexec/x", "args": ["x"], "env": ["A=b"], "timeout": 5},
     "when": {"always": true, "annotations": {"^name$": "^value$"}, "commands": ["^/usr/bin/sh$"], "hasBindMounts": true},
     "stages": ["createRuntime"]}

A container gets the hook if every condition under `when` holds, and there is one. Annotations are those of the pod, with the
container's own on top; one of them must match both expressions, and so for each pair. `commands` are tried on the first
argument, and any may match. Expressions match anywhere. Rules: oci-hooks(5). Pure: `crid.oci.hooks` reads the files.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from crid.errors import InvalidArgumentError
from crid.oci.spec import document
from crid.oci.spec.edits import STAGES, Edits, Hook

Expression = re.Pattern[str]


@dataclass(frozen=True, slots=True)
class ConditionalHook:
    """One document."""

    hook: Hook
    stages: tuple[str, ...]
    always: bool | None = None
    annotations: tuple[tuple[Expression, Expression], ...] = ()
    commands: tuple[Expression, ...] = ()
    has_bind_mounts: bool | None = None

    def applies(self, annotations: Mapping[str, str], command: str, *, bind_mounts: bool) -> bool:
        """Whether a container gets the hook."""
        conditions = [
            *([self.always] if self.always is not None else []),
            *([self.has_bind_mounts and bind_mounts] if self.has_bind_mounts is not None else []),
            *(
                any(name.search(key) and value.search(found) for key, found in annotations.items())
                for name, value in self.annotations
            ),
            *([any(each.search(command) for each in self.commands)] if self.commands else []),
        ]
        return bool(conditions) and all(conditions)


def parse(content: object) -> ConditionalHook:
    """Return what the parsed JSON `content` says. Raises InvalidArgumentError."""
    top = document.table(content, "the document", ("version", "hook", "when", "stages"))
    if top.get("version") != "1.0.0":
        raise InvalidArgumentError("version: must be 1.0.0")
    hook = document.table(top.get("hook"), "hook", ("path", "args", "env", "timeout"))
    when = document.table(top.get("when"), "when", ("always", "annotations", "commands", "hasBindMounts"))
    stages = tuple(document.text(entry, place) for entry, place in document.entries(top, "stages", "the document"))
    if not stages or not set(stages) <= set(STAGES):
        raise InvalidArgumentError(f"stages: wants some of {', '.join(STAGES)}")
    pairs = document.table(when.get("annotations") or {}, "when.annotations")
    return ConditionalHook(
        hook=document.hook(hook, "hook"),
        stages=stages,
        always=_flag(when.get("always"), "when.always"),
        annotations=tuple(
            (_expression(name, "when.annotations"), _expression(value, f"when.annotations[{name[:64]!r}]"))
            for name, value in pairs.items()
        ),
        commands=tuple(_expression(entry, place) for entry, place in document.entries(when, "commands", "when")),
        has_bind_mounts=_flag(when.get("hasBindMounts"), "when.hasBindMounts"),
    )


def edits(hooks: Iterable[ConditionalHook], annotations: Mapping[str, str], command: str, *, bind_mounts: bool) -> Edits:
    """Return the hooks that a container gets, in their order."""
    chosen = [each for each in hooks if each.applies(annotations, command, bind_mounts=bind_mounts)]
    return Edits(hooks=tuple((stage, each.hook) for each in chosen for stage in each.stages))


def _flag(value: object, where: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise InvalidArgumentError(f"{where}: must be true or false")
    return value


def _expression(value: object, where: str) -> Expression:
    try:
        return re.compile(document.text(value, where))
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidArgumentError(f"{where}: {error}") from error
