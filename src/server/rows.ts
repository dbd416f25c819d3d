/** Rows of listings: what `get`, gRPC and /api/v1 show, in one form. */
import type { ConnectionInfo, EngineView, RuleInfo } from '../engine/engine-view.js';
import { DROP_REASONS, Verdict, VERDICTS } from '../batch/drop-reason.js';
import { END_REASONS, type FlowRecord } from '../flow/flow-record.js';
import { formatAddress } from '../flow/ip-address.js';

export interface RuleRow extends RuleInfo {
  packets: bigint;
  octets: bigint;
  connections: bigint;
}
export function ruleRows(engine: EngineView): RuleRow[] {
  const blocks = engine.counters();
  const sum = (id: number, counter: number) => blocks.reduce((total, block) => total + block.readRule(id, counter), 0n);
  return engine
    .rules()
    .map((rule) => ({ ...rule, packets: sum(rule.id, 0), octets: sum(rule.id, 1), connections: sum(rule.id, 2) }));
}

export interface ConnectionFilter {
  src?: string;
  dst?: string;
  protocol?: number;
  srcPort?: number;
  dstPort?: number;
  verdict?: string;
}
type Filterable = Pick<ConnectionInfo, 'src' | 'dst' | 'protocol' | 'srcPort' | 'dstPort' | 'verdict'>;
export const passes = (row: Filterable, filter: ConnectionFilter): boolean =>
  (!filter.src || filter.src === row.src) &&
  (!filter.dst || filter.dst === row.dst) &&
  (!filter.protocol || filter.protocol === row.protocol) &&
  (!filter.srcPort || filter.srcPort === row.srcPort) &&
  (!filter.dstPort || filter.dstPort === row.dstPort) &&
  (!filter.verdict || filter.verdict === row.verdict);

export function flowRow(engine: EngineView, record: FlowRecord) {
  const policy = (id: number): string | null => {
    const rule = id === 0 ? null : engine.rule(id);
    return rule === null ? null : rule.namespace === null ? rule.policy : `${rule.namespace}/${rule.policy}`;
  };
  const denied = record.verdict !== Verdict.Forward;
  return {
    src: formatAddress(record.src, 0, record.family),
    dst: formatAddress(record.dst, 0, record.family),
    protocol: record.protocol,
    srcPort: record.srcPort,
    dstPort: record.dstPort,
    tos: record.tos,
    inPort: record.inPort,
    outPort: record.outPort,
    packets: record.packets,
    octets: record.octets,
    tcpFlags: record.tcpFlags,
    startNs: record.startNs,
    endNs: record.endNs,
    endReason: END_REASONS[record.endReason] ?? 'none',
    ingressPolicy: policy(record.ingressRule),
    egressPolicy: policy(record.egressRule),
    action: denied ? (VERDICTS[record.verdict] ?? 'drop') : 'allow',
    reason: denied ? (DROP_REASONS[record.dropReason] ?? null) : null,
    verdict: VERDICTS[record.verdict] ?? 'unspecified',
  };
}

/** Records that ended lately, for listings that don't wait: the last of them, oldest first. */
export class RecentFlows {
  private readonly rows: ReturnType<typeof flowRow>[] = [];
  readonly stop: () => void;
  constructor(
    engine: EngineView,
    readonly limit = 1000,
  ) {
    this.stop = engine.watchRecords((records) => {
      for (const record of records.slice(-limit)) this.rows.push(flowRow(engine, record));
      if (this.rows.length > limit) this.rows.splice(0, this.rows.length - limit);
    });
  }
  list(): readonly ReturnType<typeof flowRow>[] {
    return this.rows;
  }
}
