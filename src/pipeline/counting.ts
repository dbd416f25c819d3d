/** Counters of judged rows: verdicts, drops by stage and reason, rules. Conservation is asserted here, per batch. */
import { DropReason, Verdict, VERDICTS } from '../batch/drop-reason.js';
import type { PacketBatch } from '../batch/packet-batch.js';
import { add64, counterIndex, RULE_COUNTERS } from '../metrics/shared-counters.js';
import type { Shard } from './shard.js';

const packets = new Float64Array(VERDICTS.length);
const octets = new Float64Array(VERDICTS.length);

export function countRows(shard: Shard, batch: PacketBatch, rows: Int32Array, count: number): void {
  const { verdict, frameOctets, dropReason, stage, ingressRule, egressRule } = batch;
  packets.fill(0);
  octets.fill(0);
  let reasons = 0;
  for (let i = 0; i < count; i++) {
    const row = rows[i]!;
    const code = verdict[row]!;
    packets[code] = packets[code]! + 1;
    octets[code] = octets[code]! + frameOctets[row]!;
    if (dropReason[row] !== DropReason.None) {
      reasons++;
      shard.counters.add(counterIndex.drop(stage[row]!, dropReason[row]!));
    }
    if (ingressRule[row] !== 0) countRule(shard, ingressRule[row]!, frameOctets[row]!);
    if (egressRule[row] !== 0) countRule(shard, egressRule[row]!, frameOctets[row]!);
  }
  const judged =
    packets[Verdict.Forward]! + packets[Verdict.Drop]! + packets[Verdict.Reject]! + packets[Verdict.Consume]!;
  if (judged !== count) throw new Error(`conservation: ${count} packets in, ${judged} with a verdict`);
  if (reasons !== packets[Verdict.Drop]! + packets[Verdict.Reject]!) {
    throw new Error(
      `conservation: ${reasons} reasons for ${packets[Verdict.Drop]! + packets[Verdict.Reject]!} drops and rejects`,
    );
  }
  for (let code = 1; code < VERDICTS.length; code++) {
    if (packets[code] === 0) continue;
    shard.counters.add(counterIndex.packets(code), packets[code]!);
    shard.counters.add(counterIndex.octets(code), octets[code]!);
  }
}

const WORDS = RULE_COUNTERS.length * 2;

function countRule(shard: Shard, rule: number, size: number): void {
  const { rules } = shard.counters;
  add64(rules, rule * WORDS, 1);
  add64(rules, rule * WORDS + 2, size);
}

/** A connection was decided by the row's rules. */
export function countNewConnection(batch: PacketBatch, shard: Shard, row: number): void {
  const { rules } = shard.counters;
  if (batch.ingressRule[row] !== 0) add64(rules, batch.ingressRule[row]! * WORDS + 4, 1);
  if (batch.egressRule[row] !== 0) add64(rules, batch.egressRule[row]! * WORDS + 4, 1);
}
