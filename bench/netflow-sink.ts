/**
 * A collector of NetFlow v5 in a thread of its own: counts datagrams and the records that their headers announce; with room
 * for them (octet 8 on, two i64), the packets and octets of the records.
 */
import { createSocket } from 'node:dgram';
import { parentPort, workerData } from 'node:worker_threads';

const HEADER_SIZE = 24,
  RECORD_SIZE = 48;
const memory = workerData as SharedArrayBuffer;
const counts = new Int32Array(memory, 0, 2);
const sums = memory.byteLength >= 24 ? new BigInt64Array(memory, 8, 2) : null;
const socket = createSocket({ type: 'udp4', recvBufferSize: 8 << 20 });
socket.on('message', (datagram) => {
  if (datagram.readUInt16BE(0) !== 5) throw new Error('a datagram is not of version 5');
  const records = datagram.readUInt16BE(2);
  if (sums !== null) {
    let packets = 0;
    let octets = 0;
    for (let at = HEADER_SIZE; at < HEADER_SIZE + records * RECORD_SIZE; at += RECORD_SIZE) {
      packets += datagram.readUInt32BE(at + 16);
      octets += datagram.readUInt32BE(at + 20);
    }
    Atomics.add(sums, 0, BigInt(packets));
    Atomics.add(sums, 1, BigInt(octets));
  }
  Atomics.add(counts, 0, 1);
  Atomics.add(counts, 1, records);
});
socket.bind(0, '127.0.0.1', () => parentPort!.postMessage(socket.address().port));
