"""A WSGI application that says which worker answers."""

import os

WORKER = f"{os.environ['OSTLER_POOL']}/{os.environ['OSTLER_WORKER']}"


def app(environ, start_response):
    body = f"hello worker={WORKER} pid={os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
