"""The vocabulary of failure: few classes, each one meaning, none knowing gRPC.

A message names the object and the cause, since the kubelet shows it to a person who has nothing else. `crid.server`
maps each class to one gRPC status code, in one place. Foreign exceptions (OSError, aiohttp's, pyroute2's) are turned
into these where they enter, with the cause chained.
"""


class CridError(Exception):
    """Something could not be done; the message names the object and the cause. By itself: a fault of crid (INTERNAL)."""


class InvalidArgumentError(CridError):
    """The request contradicts itself or the API; sending it again unchanged cannot succeed."""


class NotFoundError(CridError):
    """The named pod, container, image or file is not there."""


class AlreadyExistsError(CridError):
    """A name that must be unique is taken; the message says by whom."""


class FailedPreconditionError(CridError):
    """The object is in a state that does not allow this verb."""


class PermissionDeniedError(CridError):
    """A policy, a registry or the kernel forbids it; retrying with the same rights cannot succeed."""


class ResourceExhaustedError(CridError):
    """Out of addresses, disk space, or a configured limit."""


class UnavailableError(CridError):
    """A part that crid depends on (registry, network, runtime) did not serve; a retry may succeed."""


class DeadlineExceededError(CridError):
    """A bounded step did not end within its bound; the message says which step and which bound."""


class UnimplementedError(CridError):
    """The API knows it, this version of crid does not."""


class DataLossError(CridError):
    """Stored data is damaged: a blob, a record or a layer is not what was written."""
