"""A camera for the benchmark `webrtc`: pushes H.264 over RTSP and TCP, and notes when each picture was sent.

    camera.py FILE RTSP_URL LOG

FILE is any file with H.264 at 30 pictures a second; it is pushed over and over. LOG gets a line for each picture: its number in the
file, the time of day in nanoseconds just before all of it was given to the kernel in one call, its last eight bytes, by which it is
known again at the other end, and whether it is a key picture. Standard library only, and FFmpeg to take the pictures out of the file.
"""

import base64
import hashlib
import os
import re
import socket
import struct
import subprocess
import sys
import time
import urllib.parse

PICTURES_A_SECOND = 30
CLOCK = 90_000
PAYLOAD = 1_400
KEY, SEI, SPS, PPS, DELIMITER = 5, 6, 7, 8, 9


def pictures(file: str) -> list[list[bytes]]:
    """The NAL units of each picture, without delimiters and SEI messages."""
    command = ["ffmpeg", "-v", "error", "-i", file, "-map", "0:v:0", "-c", "copy"]
    command += ["-bsf:v", "h264_mp4toannexb,h264_metadata=aud=insert", "-f", "h264", "-"]
    out: list[list[bytes]] = []
    for unit in re.split(b"\0*\0\0\x01", subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout):
        kind = unit[0] & 31 if unit else 0
        if kind == DELIMITER:
            out.append([])
        elif kind and kind != SEI:
            out[-1].append(unit)
    return out


def payloads(unit: bytes):
    """A NAL unit as RTP payloads (RFC 6184 section 5)."""
    if len(unit) <= PAYLOAD:
        yield unit
        return
    head, kind, at = unit[0] & 0xE0 | 28, unit[0] & 31, 1
    while at < len(unit):
        part = unit[at : at + PAYLOAD - 2]
        flags = (0x80 if at == 1 else 0) | (0x40 if at + len(part) == len(unit) else 0)
        yield bytes((head, flags | kind)) + part
        at += len(part)


class Rtsp:
    """As much of RTSP as publishing takes."""

    def __init__(self, url: str):
        parts = urllib.parse.urlsplit(url)
        self.user, self.password = parts.username, parts.password
        self.url = f"rtsp://{parts.hostname}:{parts.port}{parts.path}"
        self.socket = socket.create_connection((parts.hostname, parts.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = self.socket.makefile("rb")
        self.count, self.challenge, self.session = 0, "", ""

    def ask(self, method: str, url: str, body: str = "", **headers: str) -> None:
        for _ in range(2):
            self.count += 1
            lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self.count}"]
            lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
            if self.session:
                lines.append(f"Session: {self.session}")
            if self.challenge:
                lines.append(f"Authorization: {self.authorization(method, url)}")
            if body:
                lines.append(f"Content-Length: {len(body)}")
            self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
            status = self.read()
            if status == 200:
                return
            if status != 401:
                break
        raise SystemExit(f"{method}: the server answers {status}")

    def read(self) -> int:
        status = int(self.answers.readline().split()[1])
        length = 0
        while line := self.answers.readline().decode().strip():
            name, _, value = line.partition(": ")
            if name.lower() == "www-authenticate" and value.startswith("Digest") and "SHA-256" not in value:
                self.challenge = value
            if name.lower() == "session":
                self.session = value.partition(";")[0]
            if name.lower() == "content-length":
                length = int(value)
        self.answers.read(length)
        return status

    def authorization(self, method: str, url: str) -> str:
        said = dict(re.findall(r'(\w+)="([^"]*)"', self.challenge))
        digest = lambda text: hashlib.md5(text.encode()).hexdigest()
        first, second = digest(f"{self.user}:{said['realm']}:{self.password}"), digest(f"{method}:{url}")
        values = {"username": self.user, "realm": said["realm"], "nonce": said["nonce"], "uri": url}
        if "qop" in said:
            count, own = f"{self.count:08x}", os.urandom(8).hex()
            values["response"] = digest(f"{first}:{said['nonce']}:{count}:{own}:auth:{second}")
            text = ", ".join(f'{name}="{value}"' for name, value in values.items())
            return f'Digest {text}, qop=auth, nc={count}, cnonce="{own}"'
        values["response"] = digest(f"{first}:{said['nonce']}:{second}")
        return "Digest " + ", ".join(f'{name}="{value}"' for name, value in values.items())

    def record(self, sets: list[bytes]) -> None:
        in_text = ",".join(base64.b64encode(one).decode() for one in sets)
        lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=-", "t=0 0", "m=video 0 RTP/AVP 96", "c=IN IP4 0.0.0.0"]
        lines += ["a=rtpmap:96 H264/90000", f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={in_text}"]
        body = "\r\n".join([*lines, "a=control:trackID=0"]) + "\r\n"
        self.ask("ANNOUNCE", self.url, body, Content_Type="application/sdp")
        self.ask("SETUP", f"{self.url}/trackID=0", Transport="RTP/AVP/TCP;unicast;interleaved=0-1;mode=record")
        self.ask("RECORD", self.url, Range="npt=0.000-")


def main() -> None:
    file, url, log = sys.argv[1:]
    # Who reads it wants each line at once.
    with open(log, "w", buffering=1) as log:
        push(pictures(file), url, log)


def push(all_pictures: list[list[bytes]], url: str, log) -> None:
    sets = {unit[0] & 31: unit for unit in all_pictures[0] if unit[0] & 31 in (SPS, PPS)}
    ready = [[payload for unit in picture for payload in payloads(unit)] for picture in all_pictures]
    rtsp = Rtsp(url)
    rtsp.record([sets[SPS], sets[PPS]])
    sequence, number, start = 0, 0, time.monotonic()
    while True:
        time.sleep(max(0, start + number / PICTURES_A_SECOND - time.monotonic()))
        packets = ready[number % len(ready)]
        timestamp = number * CLOCK // PICTURES_A_SECOND & 0xFFFFFFFF
        out = bytearray()
        for at, payload in enumerate(packets, 1):
            marker = 0x80 if at == len(packets) else 0
            head = struct.pack(">BBHII", 0x80, marker | 96, sequence & 0xFFFF, timestamp, 0x6B696E6F)
            out += struct.pack(">BBH", 0x24, 0, len(head) + len(payload)) + head + payload
            sequence += 1
        sent = time.time_ns()
        rtsp.socket.sendall(out)
        last = all_pictures[number % len(ready)][-1]
        log.write(f"{number % len(ready)} {sent} {last[-8:].hex()} {'key' if last[0] & 31 == KEY else '-'}\n")
        number += 1


if __name__ == "__main__":
    main()
