"""Where the pods of an estate are: on loopback with an address for each, or in network namespaces, as in a cluster.

Root makes namespaces. Nothing leads out of them, and they end with the estate.
"""

import ctypes
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import threading

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


class Loopback:
    """Each pod has an address of its own in 127.0.0.0/8, so that all may have the same ports, as in a cluster."""

    def __init__(self):
        # Estates of several runs may stand beside each other.
        self.net = f"127.{secrets.randbelow(200) + 50}.{secrets.randbelow(256)}"
        self.count = 0

    def add(self, _name: str) -> str:
        """A place for one more pod: its address."""
        self.count += 1
        return f"{self.net}.{self.count}"

    def wrapper(self, _pod: str, _user: int | None = None) -> tuple:
        """What starts a command at a place."""
        return ()

    def reach(self, _pod: str, address: str) -> str:
        """Where a listener of a pod is met from here."""
        return address

    def close(self):
        pass


class Namespaces:
    """Each pod is a network namespace with a cable to a node, which knows the addresses of Services, as kube-proxy makes
    them known: a connection to one is turned to the pod behind it when it passes the node."""

    def __init__(self):
        self.mark = f"sidetrack-{os.getpid()}-{secrets.token_hex(2)}"
        self.pods: dict[str, str] = {}
        self.services: dict[str, str] = {}
        self.relays: list[Relay] = []
        self.node = f"{self.mark}-node"
        ip("netns", "add", self.node)
        try:
            self.within(self.node, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
            self.within(self.node, "ip", "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def within(self, name: str, *command: str):
        checked("ip", "netns", "exec", name, *command)

    def add(self, pod: str) -> str:
        number = len(self.pods) + 1
        name, cable, net = f"{self.mark}-{pod}", f"pod{number}", f"10.88.{number}"
        ip("netns", "add", name)
        self.pods[pod] = name
        ip("link", "add", cable, "netns", self.node, "type", "veth", "peer", "name", "eth0", "netns", name)
        for where, device, address in ((self.node, cable, f"{net}.1/24"), (name, "eth0", f"{net}.2/24")):
            self.within(where, "ip", "address", "add", address, "dev", device)
            self.within(where, "ip", "link", "set", device, "up")
        self.within(name, "ip", "link", "set", "lo", "up")
        self.within(name, "ip", "route", "add", "default", "via", f"{net}.1")
        # An app asks for names where each asks first; `ip netns exec` puts these files there.
        names = "".join(f"{address} {service}\n" for service, address in self.services.items())
        folder = pathlib.Path("/etc/netns") / name
        folder.mkdir(parents=True)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        # Who asks for more than that is told at once that nobody answers, and does not wait for it.
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        return f"{net}.2"

    def name_services(self, names):
        """Gives Services their addresses; before the pods, which are to know them."""
        self.services = {service: f"10.96.0.{number + 10}" for number, service in enumerate(names)}

    def serve(self, ends: dict[str, str]):
        """Lets the node turn connections to port 80 of each Service to the `IP:PORT` of its pod."""
        turns = "".join(
            f"ip daddr {self.services[service]} tcp dport 80 dnat to {address}; " for service, address in ends.items()
        )
        # A pod that meets itself behind a Service would else answer past the node.
        back = "".join(f"ip saddr {ip} ip daddr {ip} masquerade; " for ip in self.addresses())
        rules = (
            f"table ip services {{ chain to {{ type nat hook prerouting priority -100; {turns}}}; "
            f"chain back {{ type nat hook postrouting priority 100; {back}}}; }}"
        )
        self.within(self.node, "nft", rules)

    def addresses(self):
        return [f"10.88.{number}.2" for number in range(1, len(self.pods) + 1)]

    def wrapper(self, pod: str, user: int | None = None) -> tuple:
        become = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups") if user else ()
        return ("ip", "netns", "exec", self.pods[pod], *become)

    def reach(self, pod: str, address: str) -> str:
        self.relays.append(Relay(self.pods[pod], address))
        return self.relays[-1].address

    def close(self):
        for relay in self.relays:
            relay.close()
        for name in [self.node, *self.pods.values()]:
            subprocess.run(["ip", "netns", "delete", name], check=False)
            shutil.rmtree(pathlib.Path("/etc/netns") / name, ignore_errors=True)


def ip(*arguments: str):
    checked("ip", *arguments)


def checked(*command: str):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} (this test wants root): {done.stderr}")


class Relay:
    """A port here whose connections are those to an address in a namespace: clients know nothing of namespaces."""

    def __init__(self, netns: str, address: str):
        self.netns, self.to = netns, address
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        # A thread is in one namespace; sockets stay where they were made.
        enter(self.netns)
        host, port = self.to.rsplit(":", 1)
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((host, int(port)))
            except OSError:
                client.close()
                continue
            for ends in ((client, server), (server, client)):
                ends[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=pour, args=ends, daemon=True).start()

    def close(self):
        # Wakes the thread that waits, which `close` alone does not.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def pour(source: socket.socket, sink: socket.socket):
    """Carries bytes one way until there are no more."""
    try:
        while part := source.recv(65536):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        sink.close()


def enter(netns: str):
    """Moves this thread into a namespace."""
    with open(f"/run/netns/{netns}") as door:
        if libc.setns(door.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {netns}")
