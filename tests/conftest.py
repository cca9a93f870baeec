"""What every test counts on, however the run was started."""

import signal

# A run that a shell started in the background ignores Ctrl-C, and so would every program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
