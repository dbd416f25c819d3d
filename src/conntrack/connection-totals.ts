/** How many connections are in the tables, by protocol and state; and the names of states (contract §6, listings). */
import { E, LOOSE_KEY, Status } from './entry.js';
import { SCTP_STATE_NAMES } from './sctp-state.js';
import { type ConnectionTable, H } from './table.js';
import { tcpStateName } from './tcp-state.js';

export const protocolName = (protocol: number): string =>
  protocol === 6
    ? 'tcp'
    : protocol === 17
      ? 'udp'
      : protocol === 1 || protocol === 58
        ? 'icmp'
        : protocol === 132
          ? 'sctp'
          : 'other';

export function stateName(protocol: number, status: number): string {
  if ((status & Status.Denied) !== 0) return 'denied';
  if (protocol === 6 && (status & 0xff) !== 0) return tcpStateName(status);
  if (protocol === 132 && (status & 0xff) !== 0) return SCTP_STATE_NAMES[status & 0xff] ?? 'CLOSED';
  return (status & Status.SeenReply) !== 0 ? 'established' : 'new';
}

/** Protocols that are told apart, by the number that stands for each. */
const CLASSES = [0, 1, 6, 17, 132] as const;
/** Class of each protocol number. */
const CLASS_OF = Uint8Array.from({ length: 256 }, (_, protocol) =>
  Math.max(
    0,
    CLASSES.findIndex((of) => of !== 0 && protocolName(of) === protocolName(protocol)),
  ),
);
/** Of an entry's status, what its state's name comes of: the low octet, and these. */
const MARKS = [Status.Denied, Status.Closed, Status.SeenReply] as const;
const CODES = 256 << MARKS.length;

/** Another thread may change the tables meanwhile. */
export function connectionTotals(
  tables: readonly ConnectionTable[],
): { protocol: string; state: string; count: number }[] {
  const counts = new Uint32Array(CLASSES.length * CODES);
  for (const table of tables) {
    const { words } = table;
    const end = words[H.fresh]!;
    for (let entry = 0; entry < end; entry++) {
      const at = table.at(entry);
      const status = words[at + E.status]!;
      const key = words[at + E.key]!;
      if ((status & Status.Used) === 0 || (key & LOOSE_KEY) !== 0) continue;
      let code = CLASS_OF[key & 0xff]! * CODES + (status & 0xff);
      if ((status & MARKS[0]) !== 0) code += 256;
      if ((status & MARKS[1]) !== 0) code += 512;
      if ((status & MARKS[2]) !== 0) code += 1024;
      counts[code] = counts[code]! + 1;
    }
  }
  const totals = new Map<string, { protocol: string; state: string; count: number }>();
  counts.forEach((count, code) => {
    if (count === 0) return;
    const number = CLASSES[Math.floor(code / CODES)]!;
    let status = code & 0xff;
    MARKS.forEach((mark, i) => {
      if ((code & (256 << i)) !== 0) status |= mark;
    });
    const protocol = protocolName(number);
    const state = stateName(number, status);
    const total = totals.get(`${protocol} ${state}`);
    if (total === undefined) totals.set(`${protocol} ${state}`, { protocol, state, count });
    else total.count += count;
  });
  return [...totals.values()];
}
