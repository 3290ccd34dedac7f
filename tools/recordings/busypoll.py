# A receiver of datagrams whose epoll set busy polls in the kernel (EPIOCSPARAMS, since Linux 6.9): a wait that
# has nothing to return asks the network device again and again instead of sleeping. It runs in a network
# namespace of its own, with a sender in another one behind a veth device, for loopback has nothing to ask.
import array
import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
SIOCETHTOOL = 0x8946
ETHTOOL_SGRO, ETHTOOL_STSO = 0x2C, 0x1F
EPIOCSPARAMS = 0x40088A01  # _IOW(0x8A, 0x01, struct epoll_params)
BUSY_POLL_US, PAUSE_S, PORT = 100_000, 0.005, 9000
libc = ctypes.CDLL(None, use_errno=True)


def namespace():
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def offload(device, command, value):
    """Sets an offload as ethtool does: a veth device has a queue to ask only with GRO and without TSO."""
    setting = array.array("B", struct.pack("II", command, value))
    request = struct.pack("16sP", device.encode(), setting.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCETHTOOL, request)


def send(begin):
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    namespace()
    print("ready", file=begin, flush=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        while True:
            try:
                s.sendto(b"a datagram", ("10.0.0.1", PORT))
            except OSError:
                pass  # the device is not there yet
            time.sleep(PAUSE_S)


def main():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    namespace()
    heard, said = os.pipe()
    sender = os.fork()
    if sender == 0:
        send(os.fdopen(said, "w"))
    os.fdopen(heard).readline()
    ip("link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(sender))
    offload("near", ETHTOOL_SGRO, 1)
    ip("address", "add", "10.0.0.1/24", "dev", "near")
    ip("link", "set", "near", "up")
    other = ["nsenter", "--net", "--target", str(sender)]
    for words in (["address", "add", "10.0.0.2/24", "dev", "far"], ["link", "set", "far", "up"]):
        subprocess.run(other + ["ip", *words], check=True)
    subprocess.run(other + [sys.executable, __file__, "no-tso"], check=True)
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("10.0.0.1", PORT))
    events = select.epoll()
    events.register(receiver, select.EPOLLIN)
    fcntl.ioctl(events, EPIOCSPARAMS, struct.pack("IHBB", BUSY_POLL_US, 8, 0, 0))
    for n in range(10_000):
        events.poll(1)
        receiver.recv(100)
        if n == 10:
            print(f"process {os.getpid()} busy polls", flush=True)


if len(sys.argv) > 1:
    offload("far", ETHTOOL_STSO, 0)
else:
    main()
