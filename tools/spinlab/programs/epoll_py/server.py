"""An echo server with select.epoll by hand, with one defect: see ../epoll_c/server.c, of which it is the
sister, for the words and the rules. select.epoll passes the descriptor as epoll data."""

import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import time

LONGEST_LIFE_S = 120
FEW_FILES = 24  # F5: the limit that is soon reached
TIMER_S = 0.02
READ_PAUSE_S = 0.02  # F7: the thread that may act takes its time
READ = select.EPOLLIN | select.EPOLLRDHUP


class Connection:
    def __init__(self, sock, interest):
        self.sock, self.fd, self.interest = sock, sock.fileno(), interest
        self.local = address(sock.getsockname())
        self.peer = None
        self.client = None  # for whom we try to connect
        self.culprit = False  # met the defect
        self.paused = False  # nobody reads from it now
        self.ready = False  # cached: a read may find something
        self.eof = False  # the peer has ended
        self.deadline = None
        self.output = b""


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
        self.shared, self.table_lock = threading.Lock(), threading.Lock()
        self.defect, self.upstream = defect, ("127.0.0.1", port)
        self.epoll, self.table, self.announced = select.epoll(), {}, False
        sock = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.listener = self.add(sock, select.EPOLLIN)

    def announce(self, c, function=None):
        """Says who the culprit is, once."""
        if self.announced:
            return
        self.announced = True
        truth = {"class": self.defect, "fd": c.fd, "listener": self.listener.local}
        truth["tid"] = threading.get_native_id()
        if c is not self.listener:
            truth["local"], truth["peer"] = c.local, c.peer
        if self.defect == "C1":
            truth["destination"] = address(self.upstream)
        if function:
            truth["function"] = function
        print(json.dumps(truth), flush=True)

    def add(self, sock, interest):
        sock.setblocking(False)
        c = Connection(sock, interest)
        self.table[c.fd] = c
        self.epoll.register(c.fd, interest)
        return c

    def want(self, c, interest):
        if interest != c.interest:
            c.interest = interest
            self.epoll.modify(c.fd, interest)

    def shut(self, c):
        self.epoll.unregister(c.fd)
        c.sock.close()
        del self.table[c.fd]
        self.want(self.listener, select.EPOLLIN)

    def accept_all(self):
        while True:
            try:
                sock, peer = self.listener.sock.accept()
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno != errno.EMFILE:
                    raise
                if self.defect == "F5":
                    self.announce(self.listener)  # defect F5: the listener stays armed
                else:
                    self.want(self.listener, 0)
                return
            self.add(sock, READ).peer = address(peer)

    def flush(self, c):
        """Sends what waits to be sent."""
        if c.output:
            try:
                c.output = c.output[c.sock.send(c.output) :]
            except BlockingIOError:
                return
        if c.output:
            return
        if self.defect == "F1" and c.culprit:
            self.announce(c)  # defect F1: nothing is left to send, the interest stays
            return
        self.want(c, c.interest & ~select.EPOLLOUT)

    def connect_upstream(self, client):
        client.deadline = None
        sock = socket.socket()
        sock.setblocking(False)
        error = sock.connect_ex(self.upstream)
        if error == errno.EINPROGRESS:
            self.add(sock, select.EPOLLOUT).client = client
            return
        sock.close()
        self.upstream_failed(client, error)

    def upstream_answers(self, c):
        """An event on a connection that was being made."""
        error = c.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.shut(c)
        self.upstream_failed(c.client, error)

    def upstream_failed(self, client, error):
        """Tries again."""
        if error != errno.ECONNREFUSED:
            sys.exit("the upstream should refuse, error %d" % error)
        self.announce(client)
        client.deadline = time.monotonic()  # defect C1: no delay before the next attempt

    def meet(self, c):
        """What happens to the connection of which the defect makes a culprit."""
        c.culprit = True
        if self.defect in ("T1", "C1"):
            c.deadline = time.monotonic() + TIMER_S
        if self.defect in ("F2", "F4", "F8"):
            c.paused = True
        if self.defect == "F2":
            self.announce(c)  # defect F2: the interest in reading stays
        if self.defect == "F4":
            self.want(c, 0)  # defect F4: an empty mask does not keep ERR and HUP away
        if self.defect == "F8":
            self.want(c, select.EPOLLIN | select.EPOLLONESHOT)
        if self.defect == "F6":
            self.announce(c)
            fcntl.fcntl(c.fd, fcntl.F_DUPFD_CLOEXEC, 0)  # somebody keeps a copy
            del self.table[c.fd]
            c.sock.close()  # defect F6: without EPOLL_CTL_DEL

    def receive(self, c):
        """Reads once and sends back what it got."""
        stale = self.defect == "T6" and c.culprit
        try:
            data = c.sock.recv(1 if self.defect == "F7" and c.culprit else 4096)
        except BlockingIOError:
            if stale:
                self.announce(c)  # defect T6: the cached flag stays
            c.ready = stale
            return
        except ConnectionError:
            self.shut(c)
            return
        if not data and self.defect == "F3" and c.culprit:
            if c.eof:
                self.announce(c)
            c.ready, c.eof = False, True  # defect F3: noted, and the interest stays
            return
        if not data:
            self.shut(c)
            return
        c.ready = stale or len(data) == 4096
        if c.culprit and self.defect == "B1":
            self.announce(c, "scan_field")
            scan_field("name: value")
        if c.culprit and self.defect == "B2":
            self.announce(c, "take_table_lock")
            take_table_lock(self.table_lock)
        if c.culprit and self.defect == "F7":
            return
        c.output += data
        self.want(c, c.interest | select.EPOLLOUT)
        meets = data.startswith(b"!") and not c.culprit
        c.culprit = c.culprit or meets and self.defect == "F1"
        self.flush(c)
        if meets:
            self.meet(c)

    def handle(self, fd, events):
        c = self.table.get(fd)
        if c is None:
            return  # nothing known of it any more
        if c is self.listener:
            self.accept_all()
        elif c.client:
            self.upstream_answers(c)
        elif c.paused:
            if self.defect == "F4" and events & (select.EPOLLERR | select.EPOLLHUP):
                self.announce(c)
            if self.defect == "F8":
                self.announce(c)
                self.epoll.modify(fd, c.interest)  # defect F8: nothing was consumed
        elif events & (select.EPOLLERR | select.EPOLLHUP):
            self.shut(c)
        else:
            if events & select.EPOLLOUT:
                self.flush(c)
            if events & READ:
                c.ready = True

    def run_due(self):
        """Runs what is due and returns for how many seconds the loop may sleep."""
        timeout = -1
        for c in list(self.table.values()):
            if c.ready:
                self.receive(c)
            if c.deadline is not None:
                wait = c.deadline - time.monotonic()
                if wait > 0 and timeout < 0:
                    timeout = wait
                elif wait <= 0:
                    if self.defect == "C1":
                        self.connect_upstream(c)
                    else:
                        self.announce(c)  # defect T1: the deadline stays
                    timeout = 0
            if c.ready:
                timeout = 0
        return timeout

    def share(self, first):
        """Waits on the set that another thread waits on, too. Both may serve any connection, but the culprit
        belongs to the first one, which takes its time."""
        while True:
            for fd, events in self.epoll.poll():
                c = self.table.get(fd)
                if c and c.culprit and not first:
                    self.announce(c)  # defect F7: nothing keeps the event from coming again
                    continue
                if c and c.culprit:
                    time.sleep(READ_PAUSE_S)
                with self.shared:
                    self.handle(fd, events)
                    if c and c.ready:
                        self.receive(c)

    def run(self):
        if self.defect == "B2":
            self.table_lock.acquire()  # and never gives it back
        if self.defect == "F7":
            threading.Thread(target=self.share, args=(False,), daemon=True).start()
            self.share(True)
        while True:
            for fd, events in self.epoll.poll(self.run_due()):
                self.handle(fd, events)


def address(pair):
    return "%s:%d" % pair


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: %s CLASS PORT-OF-THE-UPSTREAM" % sys.argv[0])
    signal.alarm(LONGEST_LIFE_S)
    server = Server(sys.argv[1], int(sys.argv[2]))
    if server.defect == "F5":
        resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES))
    print(json.dumps({"listener": server.listener.local}), flush=True)
    server.run()


main()
