"""Takes one connection and closes its listener, without being asked to; then it stays."""

import os
import socket
import time

worker = f"{os.environ['OSTLER_POOL']}/{os.environ['OSTLER_WORKER']}"
listener = socket.socket(fileno=3)
copy = listener.dup()
connection, _ = listener.accept()
listener.close()
copy.close()
connection.recv(65536)
body = f"hello worker={worker} pid={os.getpid()}\n".encode()
connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
connection.close()
while True:
    time.sleep(3600)
