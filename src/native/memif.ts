/**
 * memif, the shared-memory packet interface of VPP, libmemif and DPDK, as the addon serves it (native/memif*.{h,cc}): there is
 * no TypeScript form of it, since it maps a client's memory. Used in both modes, like any system call.
 */

/** What a connection came to. */
export interface MemifEvent {
  handle: number;
  /** Else: connected. */
  closed: boolean;
  /** Closed since the client broke the protocol, `reason` says how. */
  violation: boolean;
  /** The interface id, which is the port number; 0 before the client told it. */
  port: number;
  /** The client's name for itself, printable ASCII. */
  client: string;
  reason: string;
}

/** Events as `service` and `close` tell them: fields ended by unit separators, events by record separators. */
export function memifEvents(text: string): MemifEvent[] {
  return text
    .split('\x1e')
    .slice(0, -1)
    .map((event) => {
      const [handle, closed, violation, port, client, reason] = event.split('\x1f');
      return {
        handle: Number(handle),
        closed: closed === '1',
        violation: violation === '1',
        port: Number(port),
        client: client!,
        reason: reason!,
      };
    });
}

/** Indices of the totals that receive and send add to. */
export const MemifTotal = { BadSize: 0, Sent: 1, NoInterface: 2, RingFull: 3, TooLong: 4 } as const;
export const MEMIF_TOTALS = 5;

/** The connections of one thread. Rings of other threads' connections are reached through the hub that all were made with. */
export interface MemifPoller {
  /** Readable (DescriptorWatch) when `service` should be called. */
  readonly descriptor: number;
  /** Takes an accepted socket's descriptor over; `service` tells what becomes of it. */
  adopt(fd: number): number;
  /** Handles control messages; what came of them, for `memifEvents`. */
  service(): string;
  /**
   * Copies frames of all connections' rings to rows 0 … of a batch: `block`'s columns offset, length, wireLength, frameOctets
   * and inPort, and `data`. Returns the rows. Connections whose client breaks the protocol are closed: `service` tells.
   */
  receive(block: Uint8Array, data: Uint8Array, rowsMax: number, totals: Uint32Array): number;
  /** Asks clients to signal new frames, or not to, while they are polled. False: frames wait already. */
  interrupts(wanted: boolean): boolean;
  /** Writes each forwarded row, composed as `composeRows` does, to a ring of the interface of its out-port. */
  sendRows(block: Uint8Array, data: Uint8Array, table: Uint8Array, count: number, totals: Uint32Array): void;
  /** Writes `count` frames that lie back to back, each to a ring of its port's interface. */
  sendFrames(frames: Uint8Array, lengths: Uint32Array, ports: Uint32Array, count: number, totals: Uint32Array): void;
  /** Tells the client why, and closes. */
  close(handle: number, reason: string): string;
}

/** A SOCK_SEQPACKET socket that listens, and the hub of its connections. Throws where it can't be bound. */
export interface MemifListener {
  readonly descriptor: number;
  /** What pollers of other threads name to meet this listener's connections. */
  readonly hub: number;
  /** The next client's descriptor, null when none waits. Throws where descriptors have run out. */
  accept(): number | null;
  close(): void;
}

/** A client of the server above, for `seine load`: it polls. */
export interface MemifClient {
  /** Puts frames first … on the ring until it is full; returns how many. */
  send(frames: Uint8Array, offsets: Uint32Array, lengths: Uint32Array, first: number): number;
  /** Frames that the server has taken from the ring since the last call. */
  taken(): number;
  /** Frames that have come back since the last call. */
  receive(): number;
  /** The server has closed the connection, or said something. */
  closed(): boolean;
  close(): void;
}

/** Calls back in the thread's event loop while a descriptor is readable; does not keep the loop alive. */
export interface DescriptorWatch {
  close(): void;
}

export interface MemifAddon {
  MemifListener: new (path: string) => MemifListener;
  MemifPoller: new (hub: number) => MemifPoller;
  /** 2^log2 buffers of `buffer` octets in each direction. Throws with the reason where the server refuses. */
  MemifClient: new (
    path: string,
    port: number,
    log2: number,
    buffer: number,
  ) => MemifClient;
  DescriptorWatch: new (fd: number, readable: () => void) => DescriptorWatch;
}
