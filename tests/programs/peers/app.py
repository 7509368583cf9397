"""The WSGI application that bench_peers puts under each server: `/` answers at once, `/sleep/MS` waits first."""

import os
import time


def app(environ, start_response):
    words = environ["PATH_INFO"].split("/")
    if words[1] == "sleep":
        time.sleep(int(words[2]) / 1000)
    body = f"hello pid={os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
