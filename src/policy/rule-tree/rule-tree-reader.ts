/** A thread's way to the rules of a RuleTree that another thread changes. */
import { kernels } from '../../native/kernels.js';

export class RuleTreeReader {
  /** memory: RuleTree.memory, as posted. reader: below READERS_MAX (layout.ts); each thread has a number of its own. */
  constructor(
    private readonly memory: Uint32Array,
    private readonly reader: number,
  ) {}

  /**
   * tuples: dst, src, protocol, source port << 16 | destination port of each header (layout.ts: 4 words, IPv6: 10).
   * results: of each header the id of the first rule that matches, or −1. All of one call are judged by one state of the
   * rules. Cost: `npm run bench -- --rows classifier`.
   */
  classify(tuples: Uint32Array, count: number, results: Int32Array): void {
    kernels.classifyRules(this.memory, this.reader, tuples, count, results);
  }
}
