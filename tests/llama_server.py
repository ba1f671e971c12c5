"""llama.cpp's own server, as a process: run by tests/providers/conftest.py.

Prints its URL, and serves until its standard input is closed.
"""

from __future__ import annotations

import sys

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx = 2048
parameters.n_parallel = 1
parameters.port = 0  # any that is free
parameters.use_jinja = True
parameters.chat_template = sys.argv[2]
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
