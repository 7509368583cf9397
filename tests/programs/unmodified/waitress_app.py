"""waitress on an inherited listener: it has no option for that, but takes sockets."""

import socket

import waitress
from wsgi import app

waitress.serve(app, sockets=[socket.socket(fileno=3)], threads=4)
