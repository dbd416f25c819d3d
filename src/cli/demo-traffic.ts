/**
 * Traffic of the demo: connections between the pods that the engine serves, at a modest rate, through the Unix socket as an
 * agent would send them. Some are allowed and run their course, some are denied, some are spoofed or malformed.
 */
import { connect, type Client } from '../client/index.js';
import type { Engine } from '../engine/engine.js';
import type { PortInfo } from '../engine/engine-view.js';
import { arpRequest, parseMacOrZero, udpFrame, tcpFrame, icmpEcho } from '../flow/build-frame.js';

/** Rounds a second, and conversations begun in each. */
const ROUND_MS = 250;
const PER_ROUND = 6;
const SYN = 2,
  ACK = 16,
  PSH = 8,
  FIN = 1;
/** Destination ports that the conversations try. */
const TCP_PORTS = [80, 8080, 443, 5432, 6379, 22];

export class DemoTraffic {
  private timer: NodeJS.Timeout | null = null;
  private round = 0;
  private busy = false;
  private readonly pods: PortInfo[];
  private constructor(
    private readonly client: Client,
    engine: Engine,
  ) {
    this.pods = engine.ports().filter(({ kind, ips }) => kind === 'pod' && ips.some((ip) => !ip.includes(':')));
  }

  static async start(address: string, engine: Engine): Promise<DemoTraffic> {
    const demo = new DemoTraffic(await connect(address), engine);
    demo.timer = setInterval(() => void demo.send(), ROUND_MS);
    return demo;
  }
  async stop(): Promise<void> {
    if (this.timer !== null) clearInterval(this.timer);
    await this.client.close();
  }

  private async send(): Promise<void> {
    if (this.busy || this.pods.length < 2) return;
    this.busy = true;
    try {
      // Packet by packet, so that each answer is known to the engine before its question's reply.
      for (const [frames, ports] of this.conversations()) {
        await this.client.process({
          data: Buffer.concat(frames),
          length: Uint32Array.from(frames, ({ length }) => length),
          inPort: Uint32Array.from(ports),
        });
      }
    } catch {
      if (this.timer !== null) clearInterval(this.timer); // the service is going down
    } finally {
      this.busy = false;
    }
  }

  /** Steps of this round; each is a batch: frames and their in-ports. */
  private conversations(): [Uint8Array[], number[]][] {
    const steps: [Uint8Array[], number[]][] = Array.from({ length: 6 }, () => [[], []]);
    const add = (step: number, frame: Uint8Array, port: number) => {
      steps[step]![0].push(frame);
      steps[step]![1].push(port);
    };
    for (let i = 0; i < PER_ROUND; i++) {
      const n = this.round * PER_ROUND + i;
      const from = this.pods[n % this.pods.length]!;
      const to = this.pods[(n * 7 + 3 + Math.floor(n / this.pods.length)) % this.pods.length]!;
      if (from === to) continue;
      const ip = (pod: PortInfo) => pod.ips.find((each) => !each.includes(':'))!;
      const there = { srcMac: parseMacOrZero(from.mac), dstMac: parseMacOrZero(to.mac), src: ip(from), dst: ip(to) };
      const back = { srcMac: parseMacOrZero(to.mac), dstMac: parseMacOrZero(from.mac), src: ip(to), dst: ip(from) };
      const sport = 32_768 + (n % 28_000);
      if (n % 5 === 0) {
        add(0, udpFrame({ ...there, srcPort: sport, dstPort: 53, payload: 40 }), from.port);
        add(1, udpFrame({ ...back, srcPort: 53, dstPort: sport, payload: 120 }), to.port);
      } else if (n % 11 === 0) add(0, icmpEcho({ ...there, type: 8, id: n & 0xffff, sequence: 1 }), from.port);
      else if (n % 13 === 0)
        add(0, udpFrame({ ...there, src: '192.0.2.1', srcPort: sport, dstPort: 53, payload: 20 }), from.port);
      else if (n % 17 === 0)
        add(0, arpRequest({ mac: parseMacOrZero(from.mac), sender: ip(from), target: ip(to) }), from.port);
      else {
        const dstPort = TCP_PORTS[n % TCP_PORTS.length]!;
        const a = 1000 + n * 17;
        const b = 9000 + n * 31;
        const out = { ...there, srcPort: sport, dstPort };
        const inn = { ...back, srcPort: dstPort, dstPort: sport };
        add(0, tcpFrame({ ...out, seq: a, ack: 0, flags: SYN, payload: 0 }), from.port);
        add(1, tcpFrame({ ...inn, seq: b, ack: a + 1, flags: SYN | ACK, payload: 0 }), to.port);
        add(2, tcpFrame({ ...out, seq: a + 1, ack: b + 1, flags: PSH | ACK, payload: 200 }), from.port);
        add(3, tcpFrame({ ...inn, seq: b + 1, ack: a + 201, flags: PSH | ACK, payload: 1000 }), to.port);
        add(4, tcpFrame({ ...out, seq: a + 201, ack: b + 1001, flags: FIN | ACK, payload: 0 }), from.port);
        add(5, tcpFrame({ ...inn, seq: b + 1001, ack: a + 202, flags: FIN | ACK, payload: 0 }), to.port);
      }
    }
    this.round++;
    return steps.filter(([frames]) => frames.length > 0);
  }
}
