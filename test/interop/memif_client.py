"""A memif client of our own (protocol 2.0), for tests: in interrupt mode, with chains, and as hostile as a test asks for.

Written from the protocol's published headers (VPP's and DPDK's memif.h). Needs Python 3.10 and Linux.
"""
import array
import ctypes
import fcntl
import mmap
import os
import select
import socket
import struct
import time

COOKIE, VERSION = 0x3E31F20, 0x0200
NONE, ACK, HELLO, INIT, ADD_REGION, ADD_RING, CONNECT, CONNECTED, DISCONNECT = range(9)
MESSAGE_SIZE, HEADER_SIZE, DESCRIPTOR_SIZE, NEXT = 128, 128, 16, 1
F_ADD_SEALS, F_SEAL_SHRINK = 1033, 2


class Closed(Exception):
    """The server closed the connection; the text is its reason."""


class Ring:
    """One direction. `offset`: of its header in region 0."""

    def __init__(self, client, offset, log2):
        self.client, self.offset, self.log2, self.size = client, offset, log2, 1 << log2
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.at = 0

    def u16(self, at, value=None):
        word = ctypes.c_uint16.from_buffer(self.client.memory, self.offset + at)
        if value is None:
            return word.value
        word.value = value & 0xFFFF

    def flags(self, value=None):
        return self.u16(4, value)

    def head(self, value=None):
        return self.u16(6, value)

    def tail(self, value=None):
        return self.u16(64, value)

    def descriptor(self, index, value=None):
        at = self.offset + HEADER_SIZE + (index % self.size) * DESCRIPTOR_SIZE
        if value is None:
            return struct.unpack_from("<HHIII", self.client.memory, at)
        struct.pack_into("<HHIII", self.client.memory, at, *value)


class Client:
    def __init__(self, path, port, log2=6, buffer=2048, seal=True):
        self.port, self.log2, self.buffer = port, log2, buffer
        ring = HEADER_SIZE + (DESCRIPTOR_SIZE << log2)
        self.buffers_at = 2 * ring
        self.size = self.buffers_at + 2 * (buffer << log2)
        self.fd = os.memfd_create("memif-test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, self.size)
        if seal:
            fcntl.fcntl(self.fd, F_ADD_SEALS, F_SEAL_SHRINK)
        self.memory = mmap.mmap(self.fd, self.size)
        self.c2s, self.s2c = Ring(self, 0, log2), Ring(self, ring, log2)
        for r in (self.c2s, self.s2c):
            struct.pack_into("<I", self.memory, r.offset, COOKIE)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        self.socket.connect(path)

    # --- control ---

    def send(self, type, body=b"", fds=()):
        message = (struct.pack("<H", type) + body).ljust(MESSAGE_SIZE, b"\0")
        self.send_octets(message, fds)

    def send_octets(self, octets, fds=()):
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.socket.sendmsg([octets], ancillary)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the reason is read below

    def receive(self):
        try:
            message = self.socket.recv(MESSAGE_SIZE + 1)
        except ConnectionResetError:
            message = b""
        if not message:
            raise Closed("")
        type = struct.unpack_from("<H", message)[0]
        if type == DISCONNECT:
            raise Closed(message[6:102].split(b"\0")[0].decode())
        return type, message[2:]

    def expect(self, type):
        found, body = self.receive()
        assert found == type, f"message {found} instead of {type}"
        return body

    def hello(self):
        name, least, most, regions, s2c, c2s, log2 = struct.unpack_from("<32sHHHHHB", self.expect(HELLO))
        assert least <= VERSION <= most and log2 >= self.log2
        return name

    def init(self, version=VERSION, port=None, mode=0):
        port = self.port if port is None else port
        self.send(INIT, struct.pack("<HIB24s32s", version, port, mode, b"", b"test client"))

    def add_region(self, index=0, size=None, fds=None):
        self.send(ADD_REGION, struct.pack("<HQ", index, self.size if size is None else size), [self.fd] if fds is None else fds)

    def add_ring(self, ring, index=0, region=0, offset=None, log2=None, private=0, fds=None):
        flags = 1 if ring is self.c2s else 0
        body = struct.pack("<HHHIBH", flags, index, region, ring.offset if offset is None else offset,
                           self.log2 if log2 is None else log2, private)
        self.send(ADD_RING, body, [ring.eventfd] if fds is None else fds)

    def connect(self):
        """The whole handshake."""
        self.hello()
        self.init()
        self.expect(ACK)
        self.add_region()
        self.expect(ACK)
        for ring in (self.c2s, self.s2c):
            self.add_ring(ring)
            self.expect(ACK)
        self.send(CONNECT, b"if0".ljust(32, b"\0"))
        self.expect(CONNECTED)
        self.refill()
        return self

    def close(self):
        self.socket.close()
        os.close(self.fd)

    # --- frames ---

    def buffer_at(self, ring, index):
        return self.buffers_at + ((0 if ring is self.c2s else 1) * ring.size + index % ring.size) * self.buffer

    def refill(self):
        """Empty buffers for the server."""
        ring = self.s2c
        while (ring.head() - ring.at) & 0xFFFF < ring.size:
            ring.descriptor(ring.head(), (0, 0, self.buffer, self.buffer_at(ring, ring.head()), 0))
            ring.head(ring.head() + 1)

    def put(self, frame):
        """One frame on the ring, in as many buffers as it takes. The server is not told yet."""
        ring = self.c2s
        parts = [frame[i:i + self.buffer] for i in range(0, len(frame), self.buffer)] or [b""]
        head = ring.head()
        assert len(parts) <= ring.size - ((head - ring.tail()) & 0xFFFF), "the ring is full"
        for i, part in enumerate(parts):
            at = self.buffer_at(ring, head + i)
            self.memory[at:at + len(part)] = part
            ring.descriptor(head + i, (NEXT if i + 1 < len(parts) else 0, 0, len(part), at, 0))
        ring.head(head + len(parts))

    def kick(self):
        """An interrupt, where the server asked for one."""
        if self.c2s.flags() & 1 == 0:
            os.eventfd_write(self.c2s.eventfd, 1)

    def take(self):
        """Frames that have come."""
        ring, frames, frame = self.s2c, [], b""
        while ring.at != ring.tail():
            flags, region, length, offset, _ = ring.descriptor(ring.at)
            frame += self.memory[offset:offset + length]
            ring.at = (ring.at + 1) & 0xFFFF
            if flags & NEXT == 0:
                frames.append(frame)
                frame = b""
        assert frame == b""
        self.refill()
        return frames

    def wait(self, count, seconds=10):
        """`count` frames, waited for by interrupt."""
        frames = self.take()
        until = time.monotonic() + seconds
        while len(frames) < count and time.monotonic() < until:
            if select.select([self.s2c.eventfd], [], [], 0.1)[0]:
                os.eventfd_read(self.s2c.eventfd)
            frames += self.take()
        return frames
