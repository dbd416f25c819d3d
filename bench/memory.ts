/** Resident memory that a million connections take, IPv4 and IPv6: growth from none to all, over their number. */
import { type Row, type RowGroup, rounded } from './harness.js';
import { poolsOf } from './engine.js';
import { makePool } from './pool.js';
import { PoolEngine } from './pool-engine.js';
import { cluster, FrameMaker, makeFlows } from './traffic.js';

const WARM_PACKETS = 65_536;

/** What the process has when it has come to rest. */
export async function residentOctets(): Promise<number> {
  globalThis.gc?.();
  await new Promise((resolve) => setTimeout(resolve, 300));
  globalThis.gc?.();
  return process.memoryUsage.rss();
}

export const memory: RowGroup = {
  rows: ['memory per connection, IPv4, at 1 Mi connections', 'memory per connection, IPv6, at 1 Mi connections'],
  async run(quick): Promise<Row[]> {
    const rows: Row[] = [];
    const flows = quick ? 16_384 : 1_048_576;
    for (const [index, family, target] of [
      [0, 4, 192],
      [1, 6, 320],
    ] as const) {
      const [open] = poolsOf(makeFlows(flows, { family }), 29);
      // Packets that are no IP packets, which no table has: code, heap and batches are then what they will be.
      const maker = new FrameMaker(makeFlows(WARM_PACKETS, { family }));
      const unsound = makePool(WARM_PACKETS, 256, 74, (row) => {
        const { octets, inPort } = maker.frame(row, 0);
        return { octets: octets.with(14, 0), inPort };
      });
      const engine = await PoolEngine.start({
        objects: cluster(family),
        pools: [[unsound, open!]],
        config: { conntrack: { max: flows } },
      });
      await engine.run({ pool: 0 });
      const before = await residentOctets();
      await engine.run({ pool: 1 });
      const after = await residentOctets();
      const created = Number(engine.engine.summary().created);
      const forwarded = Number(engine.forwardedPackets());
      if (created !== flows || forwarded !== flows * 3) throw new Error(`${created} connections of ${flows}`);
      const value = (after - before) / flows;
      rows.push({
        row: this.rows[index]!,
        value: rounded(value),
        unit: 'octets',
        baseline: null,
        baselineValue: null,
        ratio: null,
        target: `≤ ${target}`,
        met: quick || value <= target,
        digest: engine.connectionsDigest(),
      });
      await engine.close();
    }
    return rows;
  },
};
