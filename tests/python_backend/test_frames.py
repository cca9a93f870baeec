"""Messages over a socket: whole, in order, however they were cut up on their way."""

import socket
import threading

from hypothesis import given
from hypothesis import strategies as st

from python_backend.frames import Frames


@given(messages=st.lists(st.binary(max_size=300), max_size=20), cut=st.integers(1, 50))
def test_they_arrive_as_they_were_sent(messages: list[bytes], cut: int) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            for message in messages:
                Frames(ours).send(message)
        sent = b""
        while came := theirs.recv(1 << 16):
            sent += came
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            for at in range(0, len(sent), cut):
                ours.sendall(sent[at : at + cut])
        assert list(Frames(theirs)) == messages


def test_half_a_message_is_none() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            Frames(ours).send(b"whole")
            ours.sendall(b"\0\0\0\7half")
        assert list(Frames(theirs)) == [b"whole"]


def test_threads_do_not_mix_theirs() -> None:
    ours, theirs = socket.socketpair()
    sent = [bytes([number]) * 100_000 for number in range(8)]
    heard: list[bytes] = []
    with theirs:
        reader = threading.Thread(target=lambda: heard.extend(Frames(theirs)))
        reader.start()
        with ours:
            frames = Frames(ours)
            writers = [threading.Thread(target=frames.send, args=(message,)) for message in sent]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
        reader.join()
    assert sorted(heard) == sent
