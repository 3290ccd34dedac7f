"""An echo server with asyncio, with one defect: see ../epoll_c/server.c for the words and the rules."""

import asyncio
import json
import os
import signal
import socket
import sys
import threading

LONGEST_LIFE_S = 120
BACKLOG = 128


def scan_field(text):
    """Looks for the end of a field."""
    at = 0
    while text[at] != "\n":  # defect B1: it never advances
        pass
    return at


def take_table_lock(lock):
    """Waits for the lock of the table."""
    while not lock.acquire(blocking=False):
        os.sched_yield()  # defect B2: the holder sleeps


class Server:
    def __init__(self, defect, port):
        self.defect, self.upstream, self.announced = defect, ("127.0.0.1", port), False
        self.loop = asyncio.get_running_loop()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.listener.setblocking(False)

    def announce(self, sock, function=None):
        """Says who the culprit is, once."""
        if self.announced:
            return
        self.announced = True
        truth = {
            "class": self.defect,
            "fd": sock.fileno(),
            "tid": threading.get_native_id(),
            "listener": address(self.listener.getsockname()),
            "local": address(sock.getsockname()),
            "peer": address(sock.getpeername()),
        }
        if self.defect == "C1":
            truth["destination"] = address(self.upstream)
        if function:
            truth["function"] = function
        print(json.dumps(truth), flush=True)

    def ignore(self, sock):
        self.announce(sock)

    def rearm(self, sock):
        self.announce(sock)
        self.loop.call_later(0, self.rearm, sock)  # defect T1: due again at once, for ever

    async def retry_upstream(self, client):
        """Tries to connect until it can."""
        while True:
            sock = socket.socket()
            sock.setblocking(False)
            try:
                await self.loop.sock_connect(sock, self.upstream)
            except ConnectionRefusedError:
                self.announce(client)  # defect C1: no delay before the next attempt
            finally:
                sock.close()
            await asyncio.sleep(0)

    async def meet(self, sock):
        """What happens to the connection of which the defect makes a culprit."""
        if self.defect == "F1":
            self.loop.add_writer(sock, self.ignore, sock)  # defect F1: with nothing to send
        if self.defect == "F2":
            self.loop.add_reader(sock, self.ignore, sock)  # defect F2: a callback that does not read
        if self.defect == "T1":
            self.rearm(sock)
        if self.defect == "C1":
            await self.retry_upstream(sock)
        if self.defect == "B1":
            await self.loop.sock_recv(sock, 4096)
            self.announce(sock, "scan_field")
            scan_field("name: value")
        if self.defect == "B2":
            await self.loop.sock_recv(sock, 4096)
            lock = threading.Lock()
            lock.acquire()  # its holder is somebody who sleeps
            self.announce(sock, "take_table_lock")
            take_table_lock(lock)
        await asyncio.Event().wait()

    async def serve(self, sock):
        """Sends back what it gets."""
        with sock:
            while data := await self.loop.sock_recv(sock, 4096):
                await self.loop.sock_sendall(sock, data)
                if data.startswith(b"!"):
                    await self.meet(sock)

    async def run(self):
        print(json.dumps({"listener": address(self.listener.getsockname())}), flush=True)
        tasks = set()  # the loop keeps weak references only
        while True:
            sock, _ = await self.loop.sock_accept(self.listener)
            sock.setblocking(False)
            task = self.loop.create_task(self.serve(sock))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


def address(pair):
    return "%s:%d" % pair


async def main():
    if len(sys.argv) != 3:
        sys.exit("usage: %s CLASS PORT-OF-THE-UPSTREAM" % sys.argv[0])
    signal.alarm(LONGEST_LIFE_S)
    await Server(sys.argv[1], int(sys.argv[2])).run()


asyncio.run(main())
