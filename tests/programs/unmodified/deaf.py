"""Waits for its listener with epoll and never leaves by itself: what it sees is written to the file that it is given."""

import os
import select
import signal
import socket
import sys

notes = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(text):
    # By the system call: a buffered file must not be written by a handler that interrupts its writer.
    os.write(notes, f"{text}\n".encode())


signal.signal(signal.SIGTERM, lambda *_: note("TERM"))
listener = socket.socket(fileno=3)
listener.setblocking(False)
epoll = select.epoll()
epoll.register(listener.fileno(), select.EPOLLIN)
while True:
    events = epoll.poll(0.25)
    note("event" if events else "quiet")
    for _ in events:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            note("nobody")
            continue
        connection.recv(1024)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.close()
