"""``python -m tests.gateway.impatient CONFIG``: the gateway, with seconds where it has half minutes."""

import typer

from gateway import __main__, arrival, http

http._BODY_PATIENCE_S = 5
http._HEAD_PATIENCE_S = http._LINGER_S = http._FLUSH_S = 1
arrival._ARRIVAL_S = 3

if __name__ == "__main__":
    typer.run(__main__.main)
