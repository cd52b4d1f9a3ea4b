#!/usr/bin/env python3
"""Calls through a running ternd, and WebSockets beside them, for as long as it takes.

    calls.py PAIRS WEBSOCKETS USERNAME PASSWORD

Each pair are two allocations over UDP that send to each other, 20 datagrams per second and direction. It prints "ready"
once all of that stands. A line on stdin asks for a figure: "count" prints how many datagrams arrived and how many were
lost since the last question; "end" releases everything. It fails as soon as a WebSocket is closed.
"""

import base64
import hashlib
import hmac
import os
import select
import socket
import ssl
import struct
import sys
import time

SERVER = ("127.0.0.1", 3478)
HTTPS = ("127.0.0.1", 8443)
COOKIE = 0x2112A442


def attribute(kind, value):
    return struct.pack("!HH", kind, len(value)) + value + b"\0" * (-len(value) % 4)


def xor_address(address, port):
    ip = struct.unpack("!I", socket.inet_aton(address))[0]
    return struct.pack("!BBHI", 0, 1, port ^ COOKIE >> 16, ip ^ COOKIE)


class Allocation:
    def __init__(self, username, password):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(SERVER)
        self.socket.settimeout(10)
        self.username, self.password = username, password
        self.key = None
        self.channel = struct.pack("!H", 0x4000)
        self.sent = self.got = 0
        wish = attribute(0x0019, b"\x11\0\0\0")
        answer = self.request(0x003, wish)
        assert answer["code"] == 401, answer
        self.realm, self.nonce = answer[0x0014], answer[0x0015]
        text = b":".join([username.encode(), self.realm, password.encode()])
        self.key = hashlib.md5(text).digest()
        answer = self.request(0x003, wish)
        assert answer["code"] == 0, f"Allocate: {answer}"
        _, _, port, ip = struct.unpack("!BBHI", answer[0x0016])
        self.relay = socket.inet_ntoa(struct.pack("!I", ip ^ COOKIE)), port ^ COOKIE >> 16

    def request(self, method, attributes):
        transaction = os.urandom(12)
        if self.key:
            attributes += attribute(0x0006, self.username.encode())
            attributes += attribute(0x0014, self.realm) + attribute(0x0015, self.nonce)
            head = struct.pack("!HHI", method, len(attributes) + 24, COOKIE) + transaction
            attributes += attribute(0x0008, hmac.new(self.key, head + attributes, "sha1").digest())
        self.socket.send(struct.pack("!HHI", method, len(attributes), COOKIE) + transaction + attributes)
        while True:
            data = self.socket.recv(2048)
            if data[0] < 0x40 and data[8:20] == transaction:
                return self.parse(data)

    @staticmethod
    def parse(data):
        found, at = {"code": 0}, 20
        while at < len(data):
            kind, length = struct.unpack_from("!HH", data, at)
            found[kind] = data[at + 4 : at + 4 + length]
            at += 4 + length + -length % 4
        if 0x0009 in found:
            found["code"] = found[0x0009][2] * 100 + found[0x0009][3]
        return found

    def bind(self, peer):
        peer = attribute(0x0012, xor_address(*peer))
        answer = self.request(0x009, attribute(0x000C, self.channel + b"\0\0") + peer)
        assert answer["code"] == 0, f"ChannelBind: {answer}"

    def release(self):
        answer = self.request(0x004, attribute(0x000D, struct.pack("!I", 0)))
        assert answer["code"] == 0, f"Refresh: {answer}"


def websocket():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    stream = context.wrap_socket(socket.create_connection(HTTPS, 10))
    key = base64.b64encode(os.urandom(16)).decode()
    stream.send(
        f"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: ternd.v1\r\n\r\n".encode()
    )
    answer = stream.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    send(stream, 1, b'{"type":"hello","id":1,"client":"calls/1"}')
    return stream


def send(stream, opcode, payload):
    mask = os.urandom(4)
    masked = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
    stream.send(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)


def read_websocket(stream):
    try:
        data = stream.recv(4096)
    except ssl.SSLWantReadError:
        return
    assert data and data[0] & 15 != 8, f"a WebSocket was closed: {data[:60]}"
    # Frames that come together are of no interest but for pings, which come alone.
    if data[0] & 15 == 9:
        send(stream, 10, b"")


def main():
    pairs, sockets, username, password = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    calls = [Allocation(username, password) for _ in range(2 * pairs)]
    for i, call in enumerate(calls):
        call.bind(calls[i ^ 1].relay)
    websockets = [websocket() for _ in range(sockets)]
    for stream in [call.socket for call in calls] + websockets:
        stream.setblocking(False)
    by_socket = {call.socket: call for call in calls}
    print("ready", flush=True)

    frame = calls[0].channel + struct.pack("!H", 160) + bytes(160)
    due = time.monotonic()
    while True:
        if time.monotonic() >= due:
            due += 0.05
            for call in calls:
                call.socket.send(frame)
                call.sent += 1
        ready, _, _ = select.select([*by_socket, *websockets, sys.stdin], [], [], max(0, due - time.monotonic()))
        for stream in ready:
            if stream is sys.stdin:
                word = sys.stdin.readline().strip()
                # What is under way arrives first.
                time.sleep(0.3)
                for call in calls:
                    count_arrived(call)
                got, sent = sum(c.got for c in calls), sum(c.sent for c in calls)
                print(got, sent - got, flush=True)
                for call in calls:
                    call.sent = call.got = 0
                if word != "count":
                    for call in calls:
                        call.socket.settimeout(10)
                        call.release()
                    return
                due = time.monotonic()
            elif stream in by_socket:
                count_arrived(by_socket[stream])
            else:
                read_websocket(stream)


def count_arrived(call):
    try:
        while True:
            if call.socket.recv(2048)[0] >= 0x40:
                call.got += 1
    except BlockingIOError:
        pass


main()
