"""Identifiers and reserved names, in the forms that the kubelet, crictl and log collectors expect."""

import re
import secrets

ID_LENGTH = 64
SHORT_LENGTH = 13
"""As many digits as crictl prints."""
_ID = re.compile(r"[0-9a-f]{64}")


def new_id() -> str:
    """Return 64 random hexadecimal digits."""
    return secrets.token_hex(ID_LENGTH // 2)


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id."""
    return _ID.fullmatch(text) is not None


def short(identifier: str) -> str:
    """Return the part of an id that people read."""
    return identifier[:SHORT_LENGTH]


def sandbox_name(name: str, namespace: str, uid: str, attempt: int) -> str:
    """Return the name that a pod sandbox reserves: `k8s_POD_<name>_<namespace>_<uid>_<attempt>`."""
    return container_name("POD", name, namespace, uid, attempt)


def container_name(container: str, pod: str, namespace: str, uid: str, attempt: int) -> str:
    """Return the name that a container reserves: `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`."""
    return f"k8s_{container}_{pod}_{namespace}_{uid}_{attempt}"
