"""The transports: each sends one ask and fills one row, with gevent's sockets and no thread."""
