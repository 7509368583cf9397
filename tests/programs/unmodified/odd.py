"""Does to its listener what programs do to listeners, one way after the other, and serves all the same."""

import os
import select
import socket
import sys

WORKER = f"{os.environ['OSTLER_POOL']}/{os.environ['OSTLER_WORKER']}"
first = socket.socket(fileno=3)
facts = {
    "name": os.path.basename(first.getsockname()) == "app.sock",
    "stream": first.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM,
    "listens": first.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1,
    "family": first.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == socket.AF_UNIX,
    "told": os.environ["LISTEN_PID"] == str(os.getpid()) and os.environ["LISTEN_FDS"] == "1",
    "preloaded": os.environ["LD_PRELOAD"].endswith(":/no/such/library.so"),
}
first.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
try:
    first.getpeername()
    facts["nobody"] = False
except OSError as error:
    facts["nobody"] = error.errno == 107
wrong = [fact for fact, holds in facts.items() if not holds]
if wrong:
    sys.exit(f"not as a listener: {wrong}")
first.listen(10)
first.shutdown(socket.SHUT_RDWR)
os.unlink("app.sock")
os.rename("app.sock", "elsewhere.sock")
os.closerange(4, 64)
for number in range(4, 8):
    os.dup2(os.open("/dev/null", os.O_RDWR), number)
    os.close(number)


def serve(connection):
    connection.recv(65536)
    body = f"hello worker={WORKER} pid={os.getpid()}\n".encode()
    copy = os.dup(connection.fileno())
    connection.close()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    os.write(copy, head + body)
    os.close(copy)


while True:
    second = first.dup()
    first.close()
    second.setblocking(True)
    serve(second.accept()[0])
    second.setblocking(False)
    while not select.select([second], [], [])[0]:
        pass
    try:
        serve(second.accept()[0])
    except BlockingIOError:
        pass
    poll = select.poll()
    poll.register(second, select.POLLIN)
    poll.poll()
    first = second
