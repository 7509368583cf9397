"""Accepts whoever comes and lets nobody go."""

import socket

listener = socket.socket(fileno=3)
held = []
while True:
    held.append(listener.accept()[0])
