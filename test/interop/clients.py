"""Clients in another language: the gRPC service and the MessagePack socket, with the same frames; prints one JSON object.

Arguments: gRPC address, socket path, folder of the generated stubs. Frames come on standard input, one JSON list of
[in-port, hex] pairs.
"""
import json
import socket
import struct
import sys

GRPC, PATH, STUBS = sys.argv[1:4]
sys.path.insert(0, STUBS)

import grpc  # noqa: E402
import msgpack  # noqa: E402
import seine_pb2  # noqa: E402
import seine_pb2_grpc  # noqa: E402

rows = json.load(sys.stdin)
frames = [bytes.fromhex(text) for _, text in rows]
ports = [port for port, _ in rows]

channel = grpc.insecure_channel(GRPC)
datapath = seine_pb2_grpc.DatapathStub(channel)
control = seine_pb2_grpc.ControlStub(channel)


def batch(identifier):
    return seine_pb2.PacketBatch(
        batch_id=identifier, data=b"".join(frames), length=[len(f) for f in frames], in_port=ports, return_packets=True
    )


unary = datapath.Process(batch(1))
streamed = list(datapath.ProcessStream(batch(i) for i in range(2, 12)))


def status(call):
    try:
        call()
        return "OK"
    except grpc.RpcError as error:
        return error.code().name + ": " + error.details()


refused = {
    "apply": status(lambda: control.Apply(seine_pb2.ApplyRequest(manifest="{}"))),
    "short": status(lambda: datapath.Process(seine_pb2.PacketBatch(data=b"12", length=[2], in_port=[3]))),
    "trace": status(lambda: control.Trace(seine_pb2.TraceRequest())),
}

connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(PATH)


def exactly(size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def receive():
    return msgpack.unpackb(exactly(struct.unpack("<I", exactly(4))[0]), raw=False)


def send(message):
    packed = msgpack.packb(message)
    connection.sendall(struct.pack("<I", len(packed)) + packed)


hello = receive()
request = {
    "inPort": struct.pack("<%dI" % len(ports), *ports),
    "returnPackets": True,
    "length": struct.pack("<%dI" % len(frames), *map(len, frames)),
    "batchId": 2**40,
    "data": b"".join(frames),
    "type": "batch",
}
send(request)
answer = receive()
errors = []
for bad in (
    {"type": "batch", "batchId": 5, "data": b"123", "length": struct.pack("<I", 3), "inPort": 3},
    {"type": "batch", "batchId": 6, "data": b"1" * 60, "length": struct.pack("<I", 61), "inPort": 3},
    {"type": "nonsense", "batchId": 7},
    [1, 2, 3],
    {"type": "batch", "batchId": 8, "data": "text", "length": b"", "inPort": 1},
):
    send(bad)
    errors.append(receive())
send(request)
again = receive()


def words(data):
    return list(struct.unpack("<%dI" % (len(data) // 4), data))


print(
    json.dumps(
        {
            "unary": {
                "verdict": list(unary.verdict), "outPort": list(unary.out_port), "reason": list(unary.reason), "ct": list(unary.ct),
                "rule": list(unary.rule), "length": list(unary.length), "octets": len(unary.data), "emit": list(unary.emit.out_port),
            },
            "order": [reply.batch_id for reply in streamed],
            "refused": refused,
            "hello": {key: hello[key] for key in ("version", "limits", "verdicts", "ctBits")} | {"reasons": hello["reasons"]},
            "unix": {
                "batchId": answer["batchId"], "verdict": list(answer["verdict"]), "outPort": words(answer["outPort"]),
                "reason": list(answer["reason"]), "rule": words(answer["rule"]), "length": words(answer["dataLength"]), "octets": len(answer["data"]),
            },
            "errors": [[error["type"], error["batchId"], error["code"], error["message"]] for error in errors],
            "again": list(again["verdict"]),
            "ports": [[port.port, port.name] for port in control.ListPorts(seine_pb2.ListRequest()).ports],
        }
    )
)
