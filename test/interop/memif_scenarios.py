"""What test/interop/memif.test.ts has a client of our own do. Arguments: socket, scenario; frames in and out as JSON of hex."""
import json
import sys
import time

from memif_client import Client, Closed

path, scenario = sys.argv[1], sys.argv[2]
given = json.load(sys.stdin)


def interrupt():
    """Frames from port 3 to port 4 and back, one at a time, both sides waiting by interrupt; then all at once."""
    a, b = Client(path, 3).connect(), Client(path, 4).connect()
    out, latency = [], []
    for i, frame in enumerate(bytes.fromhex(f) for f in given["single"]):
        sender, receiver = (a, b) if i % 2 == 0 else (b, a)
        time.sleep(0.01)  # the server is back to waiting
        started = time.perf_counter()
        sender.put(frame)
        sender.kick()
        got = receiver.wait(1)
        latency.append((time.perf_counter() - started) * 1e6)
        out.append([f.hex() for f in got])
    for frame in given["burst"]:
        a.put(bytes.fromhex(frame))
    a.kick()
    burst = [f.hex() for f in b.wait(len(given["burst"]))]
    a.close()
    b.close()
    return {"single": out, "burst": burst, "latencyUs": sorted(latency)}


def emitted():
    """Frames that the engine makes come back by the port that they are meant for."""
    a = Client(path, 3).connect()
    out = []
    for frame in given["frames"]:
        a.put(bytes.fromhex(frame))
        a.kick()
        out.append([f.hex() for f in a.wait(1)])
    a.close()
    return {"frames": out}


def crowd():
    """A client that does not read, one that is not there, frames of a wrong size: nothing else suffers."""
    a, b = Client(path, 3).connect(), Client(path, 4).connect()
    for frame in given["frames"]:
        while True:
            try:
                a.put(bytes.fromhex(frame))
                break
            except AssertionError:
                a.kick()
                time.sleep(0.001)
        a.kick()
    until = time.monotonic() + 10
    while a.c2s.tail() != a.c2s.head() and time.monotonic() < until:
        time.sleep(0.001)
    while (b.s2c.tail() - b.s2c.at) & 0xFFFF < b.s2c.size and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(0.5)  # the last batch is judged with us here
    kept = len(b.take())
    a.close()
    b.close()
    return {"kept": kept}


def alone():
    """Frames for a port whose client has gone."""
    a = Client(path, 3).connect()
    for frame in given["frames"]:
        a.put(bytes.fromhex(frame))
    a.kick()
    while a.c2s.tail() != a.c2s.head():
        time.sleep(0.001)
    a.close()
    return {}


def lost():
    """Frames until a worker is lost; then again, connected anew."""
    frame, reasons, sent = bytes.fromhex(given["frame"]), [], 0
    a, b = Client(path, 3).connect(), Client(path, 4).connect()
    a.socket.settimeout(0.005)
    until = time.monotonic() + 20
    while not reasons and time.monotonic() < until:
        try:
            a.put(frame)
            a.kick()
            sent += 1
            b.take()
            a.receive()
        except AssertionError:
            pass  # the ring is full
        except TimeoutError:
            pass
        except Closed as closed:
            reasons.append(str(closed))
    arrived = 0
    while arrived == 0 and time.monotonic() < until:
        for client in (a, b):
            client.close()
        try:
            a, b = Client(path, 3).connect(), Client(path, 4).connect()
            a.put(frame)
            a.kick()
            arrived = len(b.wait(1, 1))
        except Closed:
            time.sleep(0.05)
    return {"reasons": reasons, "sent": sent, "arrived": arrived}


def idle():
    """Connected and silent, for as long as asked."""
    a, b = Client(path, 3).connect(), Client(path, 4).connect()
    print("ready", flush=True)
    time.sleep(given["seconds"])
    a.close()
    b.close()
    return {}


print(json.dumps({"interrupt": interrupt, "emitted": emitted, "crowd": crowd, "alone": alone, "lost": lost, "idle": idle}[scenario]()))
