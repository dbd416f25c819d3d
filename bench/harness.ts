/**
 * What benchmark rows share: a row is a ratio measured in one run with its baseline, medians of interleaved rounds, and a
 * digest of its output that proves that both computed the same (contract §9).
 */
export interface Row {
  row: string;
  value: number;
  unit: string;
  /** What the value is held against, measured in the same run; null: an absolute target. */
  baseline: string | null;
  baselineValue: number | null;
  ratio: number | null;
  target: string;
  met: boolean;
  digest: string | null;
}
export interface RowGroup {
  /** Names of the rows it makes. */
  rows: readonly string[];
  run(quick: boolean): Promise<Row[]>;
}

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
};

/** Runs `a` and `b` in turn, `rounds` times; their medians and the median of the pairs' ratios a ÷ b. */
export async function interleaved(
  rounds: number,
  a: () => number | Promise<number>,
  b: () => number | Promise<number>,
): Promise<{ a: number; b: number; ratio: number }> {
  const [as, bs, ratios]: number[][] = [[], [], []];
  for (let i = 0; i < rounds; i++) {
    const x = await a();
    const y = await b();
    as!.push(x);
    bs!.push(y);
    ratios!.push(x / y);
  }
  return { a: median(as!), b: median(bs!), ratio: median(ratios!) };
}

export const rounded = (value: number): number => Number(value.toPrecision(4));
