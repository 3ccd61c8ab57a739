#!/usr/bin/env python3
"""RFC 6455 points that the Autobahn suite has no case for, one by one, against an echo server.

It never uses a WebSocket library: every octet that it sends is written out here.

Invariants: each point has a connection of its own; the exit status is 0 only when all hold.
"""

import argparse
import base64
import hashlib
import os
import socket
import struct
import sys

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FIN, MASKED = 0x80, 0x80
TIMEOUT_S = 20
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
PIECES_MIN = 64  # in smaller pieces, the points at MESSAGE_BYTES_MAX would take minutes each
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Client:
    def __init__(self, address, pieces):
        self.socket = socket.create_connection(address, timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pieces = pieces
        self.held = b""

    def send(self, data):
        """The server may close while it is being written to: what it said is read afterwards."""
        step = self.pieces or len(data)
        try:
            for start in range(0, len(data), step):
                self.socket.sendall(data[start : start + step])
        except (BrokenPipeError, ConnectionResetError):
            pass

    def take(self, count):
        while len(self.held) < count:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError
            self.held += more
        taken, self.held = self.held[:count], self.held[count:]
        return taken

    def upgrade(self):
        key = base64.b64encode(os.urandom(16))
        self.send(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: " + key + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.take(1)
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        assert head.startswith(b"HTTP/1.1 101 ") and accept in head, head
        return self

    def frame(self):
        """The next frame: (opcode, payload). Servers never mask, use the shortest length, FIN."""
        first, second = self.take(2)
        assert not second & MASKED, "a masked frame from the server"
        count = second & 0x7F
        if count == 126:
            (count,) = struct.unpack(">H", self.take(2))
            assert count > 125, "not the shortest length"
        elif count == 127:
            (count,) = struct.unpack(">Q", self.take(8))
            assert count > 0xFFFF, "not the shortest length"
        assert first & 0xF0 == FIN, "a fragment or reserved bits from the server"
        return first & 0x0F, self.take(count)

    def closed_with(self):
        """The code of the close frame that comes next; then the connection has to end."""
        opcode, payload = self.frame()
        assert opcode == CLOSE, f"opcode {opcode} instead of a close"
        try:
            rest = self.take(1)
        except (EOFError, ConnectionResetError):
            return struct.unpack(">H", payload[:2])[0]
        raise AssertionError(f"{rest!r} after the close")


def mask(payload, key):
    whole = key * (len(payload) // 4 + 1)
    number = int.from_bytes(payload, "big") ^ int.from_bytes(whole[: len(payload)], "big")
    return number.to_bytes(len(payload), "big")


def frame(opcode, payload, fin=True, key=b"\x11\x22\x33\x44", length=None):
    """A frame as a client sends it; `key` None leaves it unmasked, `length` says how it is written."""
    bits = MASKED if key else 0
    written = length or (7 if len(payload) < 126 else 16 if len(payload) <= 0xFFFF else 64)
    head = bytes([(FIN if fin else 0) | opcode])
    if written == 7:
        head += bytes([bits | len(payload)])
    elif written == 16:
        head += bytes([bits | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([bits | 127]) + struct.pack(">Q", len(payload))
    return head + (key + mask(payload, key) if key else payload)


def echoes(data, expected):
    def check(client):
        client.send(data)
        for wanted in expected:
            got = client.frame()
            assert got == wanted, f"{got[0]}, {len(got[1])} bytes"

    return check


def closes(data, code):
    def check(client):
        client.send(data)
        got = client.closed_with()
        assert got == code, f"closed with {got}"

    return check


def points():
    """(section of RFC 6455, what holds, check)"""
    yield "5.1", "an unmasked text frame: 1002", closes(frame(TEXT, b"hello", key=None), 1002)
    yield "5.1", "an unmasked ping: 1002", closes(frame(PING, b"", key=None), 1002)
    yield "5.1", "an unmasked empty frame: 1002", closes(frame(BINARY, b"", key=None), 1002)
    yield (
        "5.3",
        "a mask of zeros is a mask",
        echoes(frame(TEXT, b"hello", key=bytes(4)), [(TEXT, b"hello")]),
    )
    for count in (0, 1, 125):
        body = b"x" * count
        yield "5.2", f"{count} bytes in a 16-bit length: 1002", closes(frame(TEXT, body, length=16), 1002)
    for count in (0, 126, 0xFFFF):
        body = b"x" * count
        yield "5.2", f"{count} bytes in a 64-bit length: 1002", closes(frame(TEXT, body, length=64), 1002)
    top = bytes([FIN | BINARY, MASKED | 127]) + struct.pack(">Q", 1 << 63) + bytes(4)
    yield "5.2", "a length of 2^63, whose top bit must be 0: 1002", closes(top, 1002)
    huge = bytes([FIN | BINARY, MASKED | 127]) + struct.pack(">Q", (1 << 63) - 1) + bytes(4)
    yield "7.4.1", "a length of 2^63-1, announced only: 1009", closes(huge, 1009)
    for count in (0, 1, 2, 3, 4, 5, 125, 126, 127, 128, 0xFFFE, 0xFFFF, 0x10000, 0x10001):
        body = bytes(i * 7 & 0xFF for i in range(count))
        yield "5.2", f"{count} bytes come back", echoes(frame(BINARY, body), [(BINARY, body)])
    for opcode, name in ((CLOSE, "close"), (PING, "ping"), (PONG, "pong")):
        body = struct.pack(">H", 1000) + b"x" * 124
        yield "5.5", f"a {name} of 126 bytes: 1002", closes(frame(opcode, body), 1002)
        yield "5.5", f"a {name} without FIN: 1002", closes(frame(opcode, b"", fin=False), 1002)
    whole = b"x" * MESSAGE_BYTES_MAX
    yield "10.4", "the largest message comes back", echoes(frame(BINARY, whole), [(BINARY, whole)])
    yield "10.4", "one byte more in a frame: 1009", closes(frame(BINARY, whole + b"x"), 1009)
    parts = frame(BINARY, whole, fin=False) + frame(0, b"x")
    yield "10.4", "one byte more in a second fragment: 1009", closes(parts, 1009)
    pinged = frame(TEXT, "gr\u00fc".encode()[:-1], fin=False) + frame(PING, b"p") + frame(0, b"\xbc")
    yield "5.4", "a ping within a code point", echoes(pinged, [(PONG, b"p"), (TEXT, "gr\u00fc".encode())])
    many = b"".join(frame(TEXT, b"%d" % i) for i in range(1000))
    yield "5.4", "1000 messages in one write, in order", echoes(many, [(TEXT, b"%d" % i) for i in range(1000)])
    after = frame(CLOSE, struct.pack(">H", 1000)) + frame(TEXT, b"too late")
    yield "5.5.1", "nothing is answered after a close", closes(after, 1000)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--target", required=True, help="the echo server, HOST:PORT")
    options.add_argument("--pieces", type=int, default=0, help="bytes a write; 0 writes all at once")
    given = options.parse_args()
    host, port = given.target.rsplit(":", 1)
    failed = 0
    for section, name, check in points():
        if section == "10.4" and 0 < given.pieces < PIECES_MIN:
            print(f"{section:6} {name}: left out", flush=True)
            continue
        client = Client((host, int(port)), given.pieces)
        try:
            check(client.upgrade())
            outcome = "OK"
        except (AssertionError, EOFError, OSError) as error:
            outcome, failed = f"FAIL {error!r}", failed + 1
        client.socket.close()
        print(f"{section:6} {name}: {outcome}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
