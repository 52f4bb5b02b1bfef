"""`POST /act` as OpenVLA's deploy.py answers it, with json-numpy itself; arguments: numbers of calls that fail."""

import itertools
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import json_numpy
import toy

FAILING = frozenset(map(int, sys.argv[1:]))
COUNTED = itertools.count(1)


class Handler(BaseHTTPRequestHandler):
    """Answers a list of arrays, as OpenVLA-OFT; "error" and nothing else where the model raises."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """Answer an observation."""
        call = next(COUNTED)  # one number a request, whichever threads answer at the same time
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])), object_hook=json_numpy.object_hook)
        try:
            if self.path != "/act" or call in FAILING:
                raise RuntimeError(self.path)
            answer = list(toy.actions(body["state"], body["instruction"], body["full_image"]))
        except (RuntimeError, KeyError):
            answer = "error"
        text = json.dumps(answer, default=json_numpy.default).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments):
        """Say nothing."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
toy.ready(server.server_port)
server.serve_forever()
