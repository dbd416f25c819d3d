"""A hostile memif client: each way to break the protocol that we thought of, then random ones. Arguments: socket, folder.

After each attack two well-behaved clients exchange frames through the same server. Input: {"frame", "back", "seed", "rounds"};
the last line out: {"results": {attack: the server's reason, "" where it closed without one, null where it did not close}, …}.
"""
import json
import os
import random
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "interop"))
from memif_client import (ACK, CONNECT, CONNECTED, HELLO, INIT, NEXT, NONE,  # noqa: E402
                          Client, Closed)

path, folder = sys.argv[1], sys.argv[2]
given = json.load(sys.stdin)
FRAME, BACK = bytes.fromhex(given["frame"]), bytes.fromhex(given["back"])
PORT = 5
U32, U64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


def ready(**options):
    c = Client(path, PORT, **options)
    c.hello()
    return c


def free(make):
    """The server may not have seen yet that the attacker before has gone."""
    until = time.monotonic() + 5
    while True:
        try:
            return make()
        except Closed as closed:
            if str(closed) != "already connected" or time.monotonic() > until:
                raise


def introduced(**options):
    def make():
        c = ready(**options)
        c.init()
        c.expect(ACK)
        return c
    return free(make)


def with_region(**options):
    c = introduced(**options)
    c.add_region()
    c.expect(ACK)
    return c


def with_rings(**options):
    c = with_region(**options)
    for ring in (c.c2s, c.s2c):
        c.add_ring(ring)
        c.expect(ACK)
    return c


def connected(**options):
    return free(lambda: Client(path, PORT, **options).connect())


def kicked(c):
    """The server is told that there is something, whatever it asked for."""
    os.eventfd_write(c.c2s.eventfd, 1)
    return c


def sent(make, *message, **options):
    c = make()
    c.send(*message, **options)
    return c


def octets(size):
    c = ready()
    c.send_octets(b"\3" * size)
    return c


def call(make, method, *args, **options):
    c = make()
    getattr(c, method)(*args, **options)
    return c


def ring(which="c2s", make=with_region, **options):
    c = make()
    c.add_ring(getattr(c, which), **options)
    return c


def on_disk():
    fd = os.open(os.path.join(folder, "file"), os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 1 << 20)
    return fd


def read_only(c):
    return os.open(f"/proc/self/fd/{c.fd}", os.O_RDONLY)


def head(ahead):
    c = connected()
    c.c2s.head(ahead)
    return kicked(c)


def descriptor(value, count=1, head=None):
    c = connected()
    for i in range(count):
        c.c2s.descriptor(i, value(c) if callable(value) else value)
    c.c2s.head(count if head is None else head)
    return kicked(c)


def receiving(change):
    """The server is to write to this client: the pod of port 3 sends to its address."""
    c = connected()
    c.s2c.head(0)
    change(c)
    good[0].put(BACK)
    good[0].kick()
    return c


def buffer_of(value):
    def change(c):
        for i in range(c.s2c.size):
            c.s2c.descriptor(i, value(c))
        c.s2c.head(c.s2c.size)
    return change


def truncated(size, seal=False):
    c = connected(seal=seal)
    c.c2s.descriptor(0, (0, 0, 64, 100000, 0))
    c.c2s.head(1)
    os.ftruncate(c.fd, size)  # mapped here too, and not touched any more
    return kicked(c)


def truncated_receiver():
    c = connected(seal=False)
    os.ftruncate(c.fd, 0)
    good[0].put(BACK)
    good[0].kick()
    return c



ATTACKS = {
    "127 octets": lambda: octets(127),
    "129 octets": lambda: octets(129),
    "1 octet": lambda: octets(1),
    "60,000 octets": lambda: octets(60000),
    "type 0": lambda: sent(introduced, NONE),
    "type 99": lambda: sent(introduced, 99),
    "an ACK": lambda: sent(introduced, ACK),
    "a HELLO": lambda: sent(introduced, HELLO),
    "a CONNECTED": lambda: sent(introduced, CONNECTED),
    "region before INIT": lambda: call(ready, "add_region"),
    "ring before INIT": lambda: ring(make=ready),
    "CONNECT before INIT": lambda: sent(ready, CONNECT),
    "INIT twice": lambda: call(introduced, "init"),
    "INIT with a descriptor": lambda: sent(ready, INIT, b"", fds=[0]),
    "version 1": lambda: call(ready, "init", version=0x0100),
    "IP mode": lambda: call(ready, "init", mode=1),
    "id 0": lambda: call(ready, "init", port=0),
    "id 65533": lambda: call(ready, "init", port=65533),
    "id 2^32 - 1": lambda: call(ready, "init", port=U32),
    "a taken id": lambda: call(ready, "init", port=3),
    "region without descriptor": lambda: call(introduced, "add_region", fds=[]),
    "region with two descriptors": lambda: call(introduced, "add_region", fds=[0, 1]),
    "region with 200 descriptors": lambda: call(introduced, "add_region", fds=[0] * 200),
    "region 1 first": lambda: call(introduced, "add_region", index=1),
    "region 0 twice": lambda: call(with_region, "add_region"),
    "region of size 0": lambda: call(introduced, "add_region", size=0),
    "region larger than its file": lambda: (lambda c: (c.add_region(size=c.size + 1), c)[1])(introduced()),
    "region of 2^64 - 1": lambda: call(introduced, "add_region", size=U64),
    "region of 2^63": lambda: call(introduced, "add_region", size=1 << 63),
    "region in a socket": lambda: (lambda c: (c.add_region(fds=[c.socket.fileno()]), c)[1])(introduced()),
    "region in an eventfd": lambda: (lambda c: (c.add_region(fds=[c.c2s.eventfd]), c)[1])(introduced()),
    "region in /dev/zero": lambda: call(introduced, "add_region", fds=[os.open("/dev/zero", os.O_RDWR)]),
    "region on a disk": lambda: call(introduced, "add_region", fds=[on_disk()]),
    "region read-only": lambda: (lambda c: (c.add_region(fds=[read_only(c)]), c)[1])(introduced()),
    "ring without descriptor": lambda: ring(fds=[]),
    "ring with two descriptors": lambda: ring(fds=[0, 1]),
    "ring in region 5": lambda: ring(region=5),
    "ring in region 65535": lambda: ring(region=65535),
    "ring behind its region": lambda: ring(offset=1 << 30),
    "ring at 2^32 - 8": lambda: ring(offset=U32 - 7),
    "ring at an odd offset": lambda: ring(offset=4),
    "ring across the end": lambda: (lambda c: (c.add_ring(c.c2s, offset=(c.size - 1024) & ~7), c)[1])(with_region()),
    "ring of 2^15": lambda: ring(log2=15),
    "ring of 2^255": lambda: ring(log2=255),
    "ring larger than its region": lambda: ring(log2=14, make=lambda: with_region(buffer=512)),
    "ring 1 first": lambda: ring(index=1),
    "ring 0 twice": lambda: ring(make=with_rings),
    "17 rings": lambda: seventeen(),
    "ring with private headers": lambda: ring(private=8),
    "ring with a pipe": lambda: ring(fds=[os.pipe()[1]]),
    "ring with a file": lambda: (lambda c: (c.add_ring(c.c2s, fds=[c.fd]), c)[1])(with_region()),
    "CONNECT without rings": lambda: sent(with_region, CONNECT),
    "a wrong cookie": lambda: (lambda c: (struct.pack_into("<I", c.memory, c.s2c.offset, 0), c.send(CONNECT), c)[2])(with_rings()),
    "region after CONNECT": lambda: call(connected, "add_region", index=1),
    "CONNECT twice": lambda: sent(connected, CONNECT),
    "head ahead by 65": lambda: head(65),
    "head ahead by 40,000": lambda: head(40000),
    "head behind": lambda: head(0xFFFF),
    "frame in region 7": lambda: descriptor((0, 7, 64, 0, 0)),
    "frame in region 65535": lambda: descriptor((0, 65535, 64, 0, 0)),
    "frame across the end": lambda: descriptor(lambda c: (0, 0, 64, c.size - 63, 0)),
    "frame behind its region": lambda: descriptor(lambda c: (0, 0, 64, c.size + 4096, 0)),
    "frame at 2^32 - 1": lambda: descriptor((0, 0, 64, U32, 0)),
    "frame of 2^32 - 1": lambda: descriptor((0, 0, U32, 0, 0)),
    "frame of 2^32 - 1 at 2^32 - 1": lambda: descriptor((0, 0, U32, U32, 0)),
    "frame across the end, chained": lambda: descriptor(lambda c: (NEXT, 0, 64, c.size - 63, 0), 64),
    "a chain without end": lambda: descriptor(lambda c: (NEXT, 0, 16, 4096, 0), 64),
    "buffer in region 7": lambda: receiving(buffer_of(lambda c: (0, 7, 2048, 0, 0))),
    "buffer across the end": lambda: receiving(buffer_of(lambda c: (0, 0, 2048, c.size - 100, 0))),
    "buffer of 2^32 - 1": lambda: receiving(buffer_of(lambda c: (0, 0, U32, 4096, 0))),
    "buffers ahead": lambda: receiving(lambda c: c.s2c.head(1000)),
    "frames taken away": lambda: truncated(8192),
    "all taken away": lambda: truncated(0),
    "all taken away from a receiver": truncated_receiver,
}
# What breaks nothing, and is not to end the connection.
HARMLESS = {
    "a frame of size 0": lambda: descriptor((0, 0, 0, 4096, 0)),
    "a frame of size 13": lambda: descriptor((0, 0, 13, 4096, 0)),
    "a chain whose end is missing": lambda: descriptor((NEXT, 0, 64, 4096, 0), 3),
    "a chain of 60 empty buffers": lambda: descriptor((NEXT, 0, 0, 4096, 0), 60),
    "empty buffers": lambda: receiving(buffer_of(lambda c: (0, 0, 0, 4096, 0))),
    "no buffers": lambda: receiving(lambda c: None),
    "cookies and tails overwritten": lambda: scribbled(),
    "an interrupt that blocks its writer": lambda: blocking(),
    "frames over its rings": lambda: descriptor((0, 0, 1000, 0, 0), 64),
    "a storm of interrupts": lambda: storm(),
}


def seventeen():
    c = with_region()
    for index in range(17):
        c.add_ring(c.c2s, index=index)
        if index < 16:
            c.expect(ACK)
    return c


def scribbled():
    c = connected()
    for r in (c.c2s, c.s2c):
        struct.pack_into("<I", c.memory, r.offset, 0xDEADBEEF)
        r.tail(12345)
    return kicked(c)


def blocking():
    """Our eventfd is full and blocks who writes to it: the server must not."""
    c = connected()
    os.eventfd_write(c.s2c.eventfd, U64 - 1)
    os.set_blocking(c.s2c.eventfd, True)
    c.s2c.flags(0)
    for _ in range(5):
        good[0].put(BACK)
    good[0].kick()
    return c


def storm():
    c = connected()
    for _ in range(20000):
        os.eventfd_write(c.c2s.eventfd, 1)
    return c


def reason_of(c, seconds):
    c.socket.settimeout(seconds)
    try:
        while True:
            c.receive()
    except Closed as closed:
        return str(closed)
    except (TimeoutError, BlockingIOError):
        return None


def exchange():
    """The well-behaved clients still get theirs, and nothing else."""
    a, b = good
    a.put(FRAME)
    a.kick()
    got = b.wait(1, 5)
    assert got == [given["expected"]], f"a frame did not arrive as it should: {[g.hex() for g in got]}"


def run(name, attack, seconds):
    c = attack()
    reason = reason_of(c, seconds)
    c.close()
    exchange()
    return reason


good = [Client(path, 3).connect(), Client(path, 4).connect()]
given["expected"] = bytes.fromhex(given["out"])
exchange()
results = {name: run(name, attack, 5) for name, attack in ATTACKS.items()}
harmless = {name: run(name, attack, 0.1) for name, attack in HARMLESS.items()}

# Random: control messages with flipped octets, then memory written to at random while the server reads and writes it.
rng = random.Random(given["seed"])
closed = 0
for _ in range(given["rounds"]):
    c = None
    try:
        c = Client(path, PORT, log2=rng.randrange(1, 7), seal=rng.random() < 0.5)
        if rng.random() < 0.5:
            plain = c.send

            def mutated(type, body=b"", fds=(), plain=plain):
                if rng.random() < 0.3:
                    body = bytearray(body)
                    for _ in range(rng.randrange(1, 4)):
                        if body:
                            body[rng.randrange(len(body))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
                    if rng.random() < 0.1:
                        type = rng.randrange(12)
                    if rng.random() < 0.1:
                        fds = [rng.choice([0, c.fd, c.c2s.eventfd]) for _ in range(rng.randrange(4))]
                plain(type, bytes(body), fds)

            c.send = mutated
        c.connect()
        for _ in range(rng.randrange(1, 60)):
            what = rng.randrange(10)
            if what < 3:
                r = rng.choice([c.c2s, c.s2c])
                r.descriptor(rng.randrange(r.size), (rng.randrange(4), rng.choice([0, 0, 0, 1, 65535]),
                                                      rng.choice([0, 14, 64, 2048, 70000, U32, rng.randrange(c.size)]),
                                                      rng.choice([0, 64, c.size - 64, c.size - 1, U32, rng.randrange(c.size)]), 0))
            elif what < 6:
                r = rng.choice([c.c2s, c.s2c])
                r.head(r.head() + rng.choice([1, 1, 2, 3, r.size, r.size + 1, 0xFFFF]))
            elif what == 6:
                at = rng.randrange(c.size - 8)
                c.memory[at:at + 8] = rng.randbytes(8)
            elif what == 7:
                good[0].put(BACK)
                good[0].kick()
            else:
                kicked(c)
            if rng.random() < 0.05:
                time.sleep(0.001)
        if rng.random() < 0.1:
            try:
                os.ftruncate(c.fd, rng.randrange(c.size))
                kicked(c)
                time.sleep(0.001)
            except PermissionError:
                pass  # sealed
    except (Closed, AssertionError, struct.error):
        closed += 1
    finally:
        if c is not None:
            c.close()
    until = time.monotonic() + 5
    while good[0].c2s.tail() != good[0].c2s.head() and time.monotonic() < until:
        time.sleep(0.001)
    exchange()

for client in good:
    client.close()
print(json.dumps({"results": results, "harmless": harmless, "closed": closed}))
