"""Serves one connection at a time on a real listener, and says what its argument tells it to say where NOTIFY_SOCKET leads.

"ready": READY=1 after a moment in which it waits for clients already. "once": WATCHDOG=1 a single time. "often": again and again.
"""

import os
import socket
import sys
import threading
import time


def say(text):
    address = os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.sendto(text.encode(), address)


def speak(mode):
    if mode == "ready":
        time.sleep(0.5)
        say("READY=1\nSTATUS=serves")
    while mode in ("once", "often"):
        say("WATCHDOG=1")
        if mode == "once":
            return
        time.sleep(int(os.environ["WATCHDOG_USEC"]) / 2e6)


threading.Thread(target=speak, args=(sys.argv[1],), daemon=True).start()
worker = f"{os.environ['OSTLER_POOL']}/{os.environ['OSTLER_WORKER']}"
listener = socket.socket(fileno=3)
while True:
    client, _ = listener.accept()
    with client:
        client.recv(4096)
        body = f"hello worker={worker} pid={os.getpid()}\n"
        client.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
