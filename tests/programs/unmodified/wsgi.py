"""A WSGI application that says which worker answers; /sleep/MS waits first."""

import os
import time

WORKER = f"{os.environ['OSTLER_POOL']}/{os.environ['OSTLER_WORKER']}"


def app(environ, start_response):
    path = environ["PATH_INFO"].split("/")
    if path[1] == "sleep":
        time.sleep(int(path[2]) / 1000)
    body = f"hello worker={WORKER} pid={os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
