"""A pod and an underlay for the VXLAN test: carries frames between a veth (AF_PACKET) and the engine's Unix socket.

Arguments: socket path, interface, MAC of the pod, address of the pod, address of the kernel's side, pcap to write. It answers
the pings that the engine delivers to the pod, and pings the other side itself; prints one JSON object when done.
"""
import json
import select
import socket
import struct
import sys
import time

import msgpack

PATH, INTERFACE, POD_MAC, POD, PEER, PCAP = sys.argv[1:7]
TUNNEL, POD_PORT = 1, 3


def mac(text):
    return bytes(int(part, 16) for part in text.split(":"))


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo(kind, src, dst, identifier, sequence, payload, dst_mac):
    icmp = struct.pack("!BBHHH", kind, 0, 0, identifier, sequence) + payload
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 7, 0, 64, 1, 0, socket.inet_aton(src), socket.inet_aton(dst))
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return dst_mac + mac(POD_MAC) + b"\x08\x00" + header + icmp


class Engine:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.batch = 0
        self.hello = self.receive()

    def receive(self):
        size = struct.unpack("<I", self.exactly(4))[0]
        return msgpack.unpackb(self.exactly(size), raw=False)

    def exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError("the engine closed the connection")
            data += part
        return data

    def process(self, frame, port):
        """The verdict, out-port and frame as it leaves."""
        self.batch += 1
        message = msgpack.packb(
            {
                "type": "batch",
                "batchId": self.batch,
                "data": frame,
                "length": struct.pack("<I", len(frame)),
                "inPort": port,
                "returnPackets": True,
            }
        )
        self.socket.sendall(struct.pack("<I", len(message)) + message)
        answer = self.receive()
        assert answer["type"] == "verdicts" and answer["batchId"] == self.batch, answer
        verdict = self.hello["verdicts"][answer["verdict"][0]]
        reason = self.hello["reasons"][answer["reason"][0]]
        return verdict, reason, struct.unpack("<I", answer["outPort"])[0], answer["data"]


engine = Engine(PATH)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind((INTERFACE, 0))
pcap = open(PCAP, "wb")
pcap.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))


def record(frame):
    now = time.time()
    pcap.write(struct.pack("<IIII", int(now), int(now % 1 * 1e6), len(frame), len(frame)) + frame)


answered = replies = 0
drops = []
peer_mac = mac("02:00:00:00:00:aa")
sent = 0
next_ping = 0.0
print("ready", flush=True)
deadline = time.time() + 8
while time.time() < deadline and (answered < 3 or replies < 3):
    if time.time() >= next_ping and sent < 20:
        sent += 1
        next_ping = time.time() + 0.2
        request = echo(8, POD, PEER, 77, sent, b"from the pod" * (1 + sent * 20 % 90), peer_mac)
        verdict, reason, port, out = engine.process(request, POD_PORT)
        if verdict == "forward" and port == TUNNEL:
            record(out)
            wire.send(out)
        else:
            drops.append([verdict, reason])
    if not select.select([wire], [], [], 0.05)[0]:
        continue
    frame, source = wire.recvfrom(65536)
    if source[2] == socket.PACKET_OUTGOING or frame[12:14] != b"\x08\x00":
        continue
    record(frame)
    verdict, reason, port, inner = engine.process(frame, TUNNEL)
    if verdict != "forward":
        drops.append([verdict, reason])
        continue
    if port != POD_PORT or inner[23] != 1:
        continue
    if inner[34] == 8:
        identifier, sequence = struct.unpack("!HH", inner[38:42])
        reply = echo(0, POD, socket.inet_ntoa(inner[26:30]), identifier, sequence, inner[42:], inner[6:12])
        verdict, reason, port, out = engine.process(reply, POD_PORT)
        if verdict == "forward" and port == TUNNEL:
            answered += 1
            record(out)
            wire.send(out)
        else:
            drops.append([verdict, reason])
    elif inner[34] == 0:
        replies += 1
pcap.close()
print(json.dumps({"answered": answered, "replies": replies, "drops": drops}), flush=True)
