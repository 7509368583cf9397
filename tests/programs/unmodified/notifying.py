"""Serves, and says of itself what it finds as lines at the end of a file: assignments of sd_notify(3), one message each."""

import os
import select
import socket
import sys
import time

WORKER = f"{os.environ['OSTLER_POOL']}/{os.environ['OSTLER_WORKER']}"
address = os.environ["NOTIFY_SOCKET"]
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect("\0" + address[1:] if address[0] == "@" else address)
words = open(sys.argv[1])
listener = socket.socket(fileno=3)
listener.setblocking(False)
waits = select.poll()
while True:
    for line in words:
        if line.startswith("FLOOD"):
            for number in range(int(line.split()[1])):
                notify.send(f"STATUS=flood {number}".encode())
        elif line.startswith("WAIT"):
            waits.register(listener, select.POLLIN)
        else:
            notify.send(line.strip().encode())
    if not waits.poll(10):
        time.sleep(0.01)
        continue
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        continue
    connection.setblocking(True)
    connection.recv(65536)
    body = f"hello worker={WORKER} pid={os.getpid()}\n".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    connection.sendall(head + body)
    connection.close()
