/** Rings and doorbells between threads: every message comes, in order, and wakes its reader whether it sleeps or not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { Doorbell, Ring, RING_ENTRIES, RING_SIZE } from '../../src/engine/ring.js';

const MESSAGES = 20_000;

test('ring: messages of another thread, sent in bursts and alone, all come in order and wake a sleeping reader', async (t) => {
  const rings = new SharedArrayBuffer(2 * RING_SIZE);
  const bells = new SharedArrayBuffer(8);
  const url = new URL('../../src/engine/ring.js', import.meta.url).href;
  // The writer waits for room on a ring of its own, which the reader fills: both sleep and wake all the time.
  const program = `import { workerData } from 'node:worker_threads';
     const { Doorbell, Ring } = await import(${JSON.stringify(url)});
     const { rings, bells, messages, entries, size } = workerData;
     const out = new Ring(rings, 0), back = new Ring(rings, size);
     const words = new Int32Array(bells);
     const theirs = new Doorbell(words, 0), own = new Doorbell(words, 1);
     const into = new Int32Array(4);
     let sent = 0, seed = 1, credit = entries;
     const alive = setInterval(() => {}, 1000); // sleeping at a doorbell keeps no thread alive
     await own.listen(() => {
       while (back.pop(into)) credit += into[0];
       seed = (seed * 1103515245 + 12345) & 0x7fffffff;
       for (let burst = seed % 7 === 0 ? 1 : seed % entries; burst >= 0 && credit > 0 && sent < messages; burst--, credit--) {
         out.push(sent, sent * 2, ~sent, seed);
         sent++;
         if (burst % 3 === 0) theirs.ring();
       }
       theirs.ring();
       if (sent === messages) own.stop();
       else if (credit > 0) setImmediate(() => own.ring());
     });
     clearInterval(alive);`;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(program)}`), {
    workerData: { rings, bells, messages: MESSAGES, entries: RING_ENTRIES, size: RING_SIZE },
  });
  worker.on('error', (error) => assert.fail(error));
  t.after(() => worker.terminate());
  const incoming = new Ring(rings, 0);
  const back = new Ring(rings, RING_SIZE);
  const words = new Int32Array(bells);
  const own = new Doorbell(words, 0);
  const theirs = new Doorbell(words, 1);
  const message = new Int32Array(4);
  let expected = 0;
  const late = setTimeout(() => own.stop(), 30_000);
  await own.listen(() => {
    let taken = 0;
    for (; incoming.pop(message); expected++, taken++) {
      assert.deepEqual([...message.subarray(0, 3)], [expected, expected * 2, ~expected]);
    }
    if (taken > 0) {
      back.push(taken, 0, 0, 0);
      theirs.ring();
    }
    if (expected === MESSAGES) own.stop();
  });
  clearTimeout(late);
  assert.equal(expected, MESSAGES);
});
