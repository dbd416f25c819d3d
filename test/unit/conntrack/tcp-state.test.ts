/** TCP tracking by its facts (RFC 9293; window tracking after van Rooij). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { E, ENTRY_WORDS, Status } from '../../../src/conntrack/entry.js';
import { mayBegin, tcpStateName, tcpTimeout, Track, trackTcp } from '../../../src/conntrack/tcp-state.js';
import { Timeout } from '../../../src/conntrack/timeouts.js';

const FIN = 1,
  SYN = 2,
  RST = 4,
  ACK = 16;

class Connection {
  readonly words = new Uint32Array(ENTRY_WORDS);
  send(
    side: 0 | 1,
    flags: number,
    seq: number,
    ack = 0,
    length = 0,
    { window = 1000, wscale = 0xff, liberal = false } = {},
  ): number {
    return trackTcp(this.words, 0, side, flags, seq >>> 0, ack >>> 0, window, length, wscale, liberal);
  }
  get state(): string {
    return tcpStateName(this.words[E.status]!);
  }
  get timeout(): number {
    return tcpTimeout(this.words[E.status]!);
  }
  static open(isn = 1000, peerIsn = 5000): Connection {
    const c = new Connection();
    c.send(0, SYN, isn);
    c.send(1, SYN | ACK, peerIsn, isn + 1);
    c.send(0, ACK, isn + 1, peerIsn + 1);
    return c;
  }
}

test('tcp-state: a handshake passes SYN_SENT, SYN_RECEIVED, ESTABLISHED, each with its timeout', () => {
  const c = new Connection();
  assert.equal(c.send(0, SYN, 1000), Track.Valid);
  assert.deepEqual([c.state, c.timeout], ['SYN_SENT', Timeout.tcpSynSent]);
  assert.equal(c.send(1, SYN | ACK, 5000, 1001), Track.Valid);
  assert.deepEqual([c.state, c.timeout], ['SYN_RECEIVED', Timeout.tcpSynRecv]);
  assert.equal(c.send(0, ACK, 1001, 5001), Track.Valid);
  assert.deepEqual([c.state, c.timeout], ['ESTABLISHED', Timeout.tcpEstablished]);
});

test('tcp-state: a SYN+ACK that acknowledges another SYN is invalid and changes nothing', () => {
  const c = new Connection();
  c.send(0, SYN, 1000);
  const before = c.words.slice();
  assert.equal(c.send(1, SYN | ACK, 5000, 99_000_000), Track.Invalid);
  assert.deepEqual(c.words, before);
});

test('tcp-state: a RST out of window is ignored (RFC 9293 3.10.7)', () => {
  const c = Connection.open();
  const before = c.words.slice();
  assert.equal(c.send(0, RST, 1001 + 5_000_000), Track.Invalid);
  assert.deepEqual(c.words, before);
  assert.equal(c.state, 'ESTABLISHED');
});

test('tcp-state: a RST in window closes', () => {
  const c = Connection.open();
  assert.equal(c.send(1, RST, 5001), Track.Closes);
  assert.deepEqual([c.state, c.timeout], ['CLOSED', Timeout.tcpClose]);
});

test('tcp-state: RST+ACK answers a SYN when it acknowledges it (RFC 9293 3.10.7.3)', () => {
  const c = new Connection();
  c.send(0, SYN, 1000);
  assert.equal(c.send(1, RST | ACK, 0, 4242), Track.Invalid);
  assert.equal(c.send(1, RST | ACK, 0, 1001), Track.Closes);
});

test('tcp-state: both FINs acknowledged close, and not before', () => {
  const c = Connection.open();
  assert.equal(c.send(0, FIN | ACK, 1001, 5001), Track.Valid);
  assert.deepEqual([c.state, c.timeout], ['FIN_WAIT', Timeout.tcpFinWait]);
  assert.equal(c.send(1, ACK, 5001, 1002), Track.Valid);
  assert.equal(c.state, 'CLOSE_WAIT');
  assert.equal(c.send(1, ACK, 5001, 1002, 100), Track.Valid, 'the other side may still send');
  assert.equal(c.send(1, FIN | ACK, 5101, 1002), Track.Valid);
  assert.deepEqual([c.state, c.timeout], ['LAST_ACK', Timeout.tcpTimeWait]);
  assert.equal(c.send(0, ACK, 1002, 5102), Track.Closes);
  assert.equal(c.send(0, ACK, 1002, 5102), Track.Valid, 'a retransmission closes nothing again');
});

test('tcp-state: a SYN on a closed connection begins another one', () => {
  const c = Connection.open();
  c.send(0, RST, 1001);
  assert.equal(c.send(0, SYN, 700_000), Track.Reopen);
});

test('tcp-state: a SYN inside an open connection is valid in window and changes nothing (RFC 9293 3.10.7.4)', () => {
  const c = Connection.open();
  const before = c.words.slice();
  assert.equal(c.send(0, SYN, 1001), Track.Valid);
  assert.deepEqual(c.words, before);
});

test('tcp-state: data beyond what the peer allowed is invalid, unless the tracker is liberal', () => {
  const c = Connection.open();
  assert.equal(c.send(0, ACK, 1001, 5001, 1000), Track.Valid, 'exactly the window');
  assert.equal(c.send(0, ACK, 2001, 5001, 1), Track.Invalid, 'one octet more');
  assert.equal(c.send(0, ACK, 2001, 5001, 1, { liberal: true }), Track.Valid);
  c.send(1, ACK, 5001, 2001);
  assert.equal(c.send(0, ACK, 2001, 5001, 500), Track.Valid, 'the acknowledgement opened it');
});

test('tcp-state: an acknowledgement of what was never sent is invalid', () => {
  const c = Connection.open();
  assert.equal(c.send(0, ACK, 1001, 5002), Track.Invalid);
});

test('tcp-state: windows scale only when both SYNs offer it (RFC 7323 2.2)', () => {
  for (const both of [true, false]) {
    const c = new Connection();
    c.send(0, SYN, 1000, 0, 0, { wscale: 7 });
    c.send(1, SYN | ACK, 5000, 1001, 0, { wscale: both ? 7 : 0xff });
    c.send(0, ACK, 1001, 5001);
    c.send(1, ACK, 5001, 1001); // 1000 << 7 where both offered
    assert.equal(c.send(0, ACK, 1001, 5001, 60_000), both ? Track.Valid : Track.Invalid);
  }
});

test('tcp-state: sequence numbers wrap (RFC 9293 3.4)', () => {
  const c = Connection.open(0xfffffff0, 0xffffff00);
  assert.equal(c.send(0, ACK, 0xfffffff1, 0xffffff01, 500), Track.Valid);
  assert.equal(c.send(1, ACK, 0xffffff01, 0xfffffff1 + 500, 900), Track.Valid);
  assert.equal(c.send(0, ACK, 0xfffffff1 + 500, 0xffffff01 + 900), Track.Valid);
  assert.equal(c.send(0, ACK, 0xfffffff1 + 500, 0xffffff01 + 901), Track.Invalid);
});

test('tcp-state: a running connection is picked up from either side, with the largest scale', () => {
  const c = new Connection();
  assert.equal(c.send(0, ACK, 70_000, 90_000, 100, { window: 500 }), Track.Valid);
  assert.equal(c.send(1, ACK, 90_000, 70_100, 100, { window: 500 }), Track.Valid);
  assert.equal(c.state, 'ESTABLISHED');
  assert.equal(c.send(0, ACK, 70_100, 90_100, 60_000, { window: 500 }), Track.Valid, '500 may mean 500 << 14');
});

test('tcp-state: what may begin a connection: SYN, or with tcpLoose anything but SYN+ACK and RST', () => {
  assert.ok(mayBegin(SYN, false));
  assert.ok(!mayBegin(SYN | ACK, true));
  assert.ok(mayBegin(ACK, true));
  assert.ok(!mayBegin(ACK, false));
  assert.ok(!mayBegin(RST, true));
  assert.ok((Status.Closed & 0xff) === 0, 'flags leave the states alone');
});
