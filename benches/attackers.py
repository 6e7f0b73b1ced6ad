#!/usr/bin/env python3
"""Troubles a server from outside until its standard input ends: attackers.py TROUBLE, arguments as JSON in the environment.

Each trouble writes one line of JSON at its end: what it asked for, and how that was answered. Standard library only.
"""

import contextlib
import http.client
import itertools
import json
import os
import selectors
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter

TARGET = json.loads(os.environ["TARGET"])
OVER = threading.Event()
# Sources in different /24 networks, as different strangers have.
SOURCES = [f"127.{network}.0.1" for network in range(1, 31)]


def address(door: str) -> tuple[str, int]:
    host, port = TARGET[door].rsplit(":", 1)
    return host, int(port)


def connect(door: str, source: str, receive_bytes: int = 0) -> socket.socket:
    made = socket.socket()
    if receive_bytes:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.bind((source, 0))
    made.settimeout(5)
    made.connect(address(door))
    return made


def strangers() -> dict:
    """Three thousand connections that say nothing, to both doors; one that the server closed comes again."""
    answers: Counter = Counter()
    selector = selectors.DefaultSelector()
    spots = [(door, source) for source in SOURCES for door in ("http", "rtsp") for _ in range(50)]
    waiting = list(spots)
    held = 0
    while not OVER.is_set():
        for door, source in waiting[:200]:
            try:
                made = connect(door, source)
                selector.register(made, selectors.EVENT_READ, (door, source))
                held += 1
                answers["connected"] += 1
            except OSError as error:
                answers[type(error).__name__] += 1
                waiting.append((door, source))
        del waiting[:200]
        for key, _ in selector.select(0.2):
            with contextlib.suppress(OSError):
                if key.fileobj.recv(4096):
                    continue
            selector.unregister(key.fileobj)
            key.fileobj.close()
            answers["closed by the server"] += 1
            waiting.append(key.data)
    return {"held_at_the_end": len(selector.get_map()), **answers}


def http1_readers() -> dict:
    """Five hundred clients with a credential that ask for a segment and never read."""
    answers: Counter = Counter()
    held: list[socket.socket] = []
    for number in range(500):
        if OVER.is_set():
            break
        try:
            made = connect("http", SOURCES[number % len(SOURCES)], 2048)
            path = TARGET["segments"][number % len(TARGET["segments"])]
            made.sendall(f"GET {path} HTTP/1.1\r\nHost: kinora\r\n\r\n".encode())
            held.append(made)
            answers["asked"] += 1
        except OSError as error:
            answers[type(error).__name__] += 1
    OVER.wait()
    return dict(answers)


def http2_readers() -> dict:
    """Fifty HTTP/2 connections whose window is 0, each with ten requests under way; they answer pings."""
    answers: Counter = Counter()
    selector = selectors.DefaultSelector()
    for number in range(50):
        try:
            made = connect("http", SOURCES[number % len(SOURCES)])
            made.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, bytes([0, 4, 0, 0, 0, 0])))
            for stream in range(10):
                path = TARGET["segments"][stream % len(TARGET["segments"])].encode()
                made.sendall(frame(1, 0x5, 2 * stream + 1, request_head(path)))
                answers["asked"] += 1
            selector.register(made, selectors.EVENT_READ)
        except OSError as error:
            answers[type(error).__name__] += 1
    while not OVER.is_set():
        for key, _ in selector.select(0.5):
            try:
                read = key.fileobj.recv(1 << 16)
            except OSError:
                read = b""
            if not read:
                selector.unregister(key.fileobj)
                answers["connections closed by the server"] += 1
            else:
                with contextlib.suppress(OSError):
                    answer_pings(key.fileobj, read)
    return dict(answers)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def request_head(path: bytes) -> bytes:
    """GET over http: two fields of the static table, and two literals (RFC 7541 6.2.2)."""

    def literal(index: int, value: bytes) -> bytes:
        assert len(value) < 127 + 128
        length = bytes([len(value)]) if len(value) < 127 else bytes([127, len(value) - 127])
        return bytes([index]) + length + value

    return b"\x82\x86" + literal(1, b"kinora") + literal(4, path)


def answer_pings(connection: socket.socket, read: bytes) -> None:
    """Answers what looks whole in these bytes; settings are acknowledged too."""
    while len(read) >= 9:
        length, kind, flags = int.from_bytes(read[:3], "big"), read[3], read[4]
        payload, read = read[9 : 9 + length], read[9 + length :]
        if kind == 6 and not flags & 1:
            connection.sendall(frame(6, 1, 0, payload))
        elif kind == 4 and not flags & 1:
            connection.sendall(frame(4, 1, 0, b""))


def frame_flood() -> dict:
    """Two hundred requests at a time, by one token, for the frames of ten seconds."""
    answers: Counter = Counter()

    def ask(number: int) -> None:
        while not OVER.is_set():
            path = f"/v1/streams/camera-{number % 8 + 1}/frames?from={TARGET['from']}&to={TARGET['to']}&width={64 + number}"
            answers[get(path, TARGET["flood_token"])] += 1

    together(ask, 200)
    return dict(answers)


def offers() -> dict:
    """Offers of viewers that never connect, as fast as two addresses' worth of threads can."""
    answers: Counter = Counter()
    offer = TARGET["offer"].encode()
    asked = itertools.count()

    def ask(number: int) -> None:
        while not OVER.is_set() and next(asked) < 20_000:
            url = f"http://{TARGET['http']}/whep/camera-1"
            headers = {"Authorization": f"Bearer {TARGET['view_token']}", "Content-Type": "application/sdp"}
            try:
                with urllib.request.urlopen(urllib.request.Request(url, offer, headers), timeout=20) as answer:
                    answers[str(answer.status)] += 1
            except urllib.error.HTTPError as error:
                answers[str(error.code)] += 1
                OVER.wait(0.2)
            except OSError as error:
                answers[type(error).__name__] += 1

    together(ask, 16)
    return dict(answers)


def together(ask, count: int) -> None:
    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    OVER.wait()
    for thread in threads:
        thread.join(20)


def get(path: str, token: str) -> str:
    request = urllib.request.Request(f"http://{TARGET['http']}{path}", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            while answer.read(1 << 16) and not OVER.is_set():
                pass
            return str(answer.status)
    except urllib.error.HTTPError as error:
        # A client that is told to wait does, a little.
        OVER.wait(0.2)
        return str(error.code)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__


TROUBLES = {each.__name__: each for each in (strangers, http1_readers, http2_readers, frame_flood, offers)}


def main() -> None:
    # An attacker is on a machine of its own: here it must not take the processor from the server.
    os.nice(10)
    threading.Thread(target=lambda: (sys.stdin.read(), OVER.set()), daemon=True).start()
    started = time.monotonic()
    found = TROUBLES[sys.argv[1]]()
    print(json.dumps({**found, "seconds": round(time.monotonic() - started, 1)}), flush=True)
    # Threads that still wait for an answer are not waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
