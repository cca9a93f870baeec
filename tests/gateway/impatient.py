"""``python -m tests.gateway.impatient CONFIG``: the gateway with seconds for half minutes, and room for two bodies."""

import typer

from gateway import __main__, arrival, http, service

http._BODY_PATIENCE_S = 9
http._HEAD_PATIENCE_S = http._LINGER_S = http._FLUSH_S = 1
arrival._ARRIVAL_S = 6
service._BODIES = 2

if __name__ == "__main__":
    typer.run(__main__.main)
