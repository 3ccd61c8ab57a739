#!/usr/bin/env python3
"""A relay that passes a client's bytes on in pieces of a given size, each in a segment of its own.

It never changes a byte and never touches what the server answers.

Invariants: loopback only; an end or a reset on one side ends the other in the same direction.
"""

import argparse
import socket
import threading

READ_BYTES = 65536


def relay(source, sink, piece_bytes):
    """Copies until the end of `source`, `piece_bytes` a send; 0 passes on what comes."""
    try:
        while read := source.recv(READ_BYTES):
            step = piece_bytes or len(read)
            for start in range(0, len(read), step):
                sink.sendall(read[start : start + step])
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # Either side is gone; the other has to see it, whatever it waits for.
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def serve(client, target, piece_bytes):
    with client, socket.create_connection(target) as server:
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = threading.Thread(target=relay, args=(server, client, 0))
        answers.start()
        relay(client, server, piece_bytes)
        answers.join()


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--to", required=True, help="the server, HOST:PORT")
    options.add_argument("--bytes", type=int, required=True, help="size of a piece")
    given = options.parse_args()
    host, port = given.to.rsplit(":", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print("listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            arguments = (client, (host, int(port)), given.bytes)
            threading.Thread(target=serve, args=arguments, daemon=True).start()


if __name__ == "__main__":
    main()
