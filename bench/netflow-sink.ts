/** A collector of NetFlow v5 in a thread of its own: counts datagrams and the records that their headers announce. */
import { createSocket } from 'node:dgram';
import { parentPort, workerData } from 'node:worker_threads';

const counts = new Int32Array(workerData as SharedArrayBuffer);
const socket = createSocket({ type: 'udp4', recvBufferSize: 8 << 20 });
socket.on('message', (datagram) => {
  if (datagram.readUInt16BE(0) !== 5) throw new Error('a datagram is not of version 5');
  Atomics.add(counts, 0, 1);
  Atomics.add(counts, 1, datagram.readUInt16BE(2));
});
socket.bind(0, '127.0.0.1', () => parentPort!.postMessage(socket.address().port));
