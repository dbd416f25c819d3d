/** Is a rule within bounds, and of the tree's family? */
import { SeineError } from '../../errors.js';
import type { Layout } from './layout.js';
import type { FiveTupleRule, RuleAddress } from './rule-slots.js';

/** Throws SEINE_ERR_POLICY_INVALID. */
export function checkRule(rule: FiveTupleRule, { family, addressWords }: Layout): void {
  const wrong = (what: string): never => {
    throw new SeineError('SEINE_ERR_POLICY_INVALID', `rule ${rule.id}: ${what}`);
  };
  const within = (value: number, most: number, what: string): void => {
    if (!(Number.isInteger(value) && value >= 0 && value <= most)) wrong(`${what} is ${value}, not of 0–${most}`);
  };
  within(rule.id, 0x7fffffff, 'id');
  within(rule.priority, 0xfffffffe, 'priority');
  const address = (given: RuleAddress, what: string): void => {
    const words = typeof given === 'number' ? [given] : given;
    if (words.length !== addressWords || (family === 4) !== (typeof given === 'number'))
      wrong(`${what} is not an IPv${family} address`);
    for (const word of words) within(word, 0xffffffff, what);
  };
  address(rule.src, 'src');
  address(rule.dst, 'dst');
  within(rule.srcLength, 32 * addressWords, 'srcLength');
  within(rule.dstLength, 32 * addressWords, 'dstLength');
  within(rule.protocol, 0xff, 'protocol');
  within(rule.protocolMask, 0xff, 'protocolMask');
  for (const [what, [low, high]] of [
    ['srcPorts', rule.srcPorts],
    ['dstPorts', rule.dstPorts],
  ] as const) {
    within(low, 0xffff, what);
    within(high, 0xffff, what);
    if (low > high) wrong(`${what} begins at ${low} and ends at ${high}`);
  }
}
