"""Servers and clients in network namespaces: who reaches whom, and with which address."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import TypeVar

from crid.linux.namespaces import in_network_namespace
from crid.net import rtnetlink
from crid.net.addresses import mac_address
from crid.net.plugin import PodNetwork
from crid.net.rtnetlink import RouteSocket
from tests.harness.network import run, run_in
from tests.harness.tools import PATIENCE

T = TypeVar("T")

WORLD, HOST = "198.51.100.1", "198.51.100.2"
WORLD6, HOST6 = "2001:db8::1", "2001:db8::2"
IMPATIENCE = 2.0
"""Seconds for an answer that is not to come."""


def connect_to_the_world(world: PodNetwork) -> None:
    """Make `world` a machine next to this host, which knows no route to the pods."""
    with open(world.namespace_path) as file, RouteSocket() as route:
        mac = mac_address(ip_address(WORLD))
        route.send(rtnetlink.create_veth("uplink", master=0, peer="eth0", peer_mac=mac, namespace=file.fileno()))
    for address in (f"{HOST}/24", f"{HOST6}/64"):
        run("ip", "address", "add", address, "dev", "uplink", *(["nodad"] if ":" in address else []))
    for address in (f"{WORLD}/24", f"{WORLD6}/64"):
        run_in(world, "ip", "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
    run_in(world, "ip", "link", "set", "eth0", "up")


def within(pod: PodNetwork | None, action: Callable[[], T]) -> T:
    """Do something in the pod's network namespace, or in the test's own."""
    return action() if pod is None else in_network_namespace(pod.namespace_path, action)


@contextlib.contextmanager
def serving(pod: PodNetwork, port: int, name: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[None]:
    """Have the pod answer everyone, on all its addresses, with `name` and the address that it sees of the client."""

    def listen() -> socket.socket:
        made = socket.socket(socket.AF_INET6, kind)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            made.listen()
        return made

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                if kind == socket.SOCK_STREAM:
                    connection, peer = server.accept()
                    with connection:
                        connection.sendall(f"{name} {peer[0].removeprefix('::ffff:')}".encode())
                else:
                    _, peer = server.recvfrom(100)
                    if peer is None:  # shut down
                        return
                    server.sendto(f"{name} {peer[0].removeprefix('::ffff:')}".encode(), peer)

    server = within(pod, listen)
    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a datagram socket wakes all the same, but says that nothing is connected
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def ask(client: PodNetwork | None, address: str, port: int, *, patience: float = PATIENCE) -> str:
    """Return what the server at `address` says to a TCP client in the pod's (or the host's) network; raises OSError."""

    def connect() -> str:
        with socket.create_connection((address, port), timeout=patience) as connection:
            return connection.recv(100).decode()

    return within(client, connect)


def datagram_client(client: PodNetwork | None, address: str, port: int, *, patience: float = PATIENCE) -> socket.socket:
    """Return a connected UDP socket; `exchange` asks by it."""

    def connect() -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        made.settimeout(patience)
        made.connect((address, port))
        return made

    return within(client, connect)


def exchange(client: socket.socket) -> str:
    """Ask once and return the answer; raises OSError."""
    client.send(b"who?")
    return client.recv(100).decode()
