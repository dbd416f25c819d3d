/**
 * Digests that tell whether what an endpoint's decisions rest on has changed: two lanes of 32 bits, 53 of the 64 are told.
 * They guard against oversight, not against someone who forges one: whoever sets labels can change them anyway.
 */
const avalanche = (word: number): number => {
  let h = Math.imul(word ^ (word >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
};

interface Lanes {
  readonly a: number;
  readonly b: number;
}

/** Of a sequence. */
export class Digest implements Lanes {
  a = 0x243f6a88;
  b = 0x85a308d3;

  word(value: number): this {
    this.a = avalanche(this.a ^ value);
    this.b = avalanche((this.b + Math.imul(value, 0x9e3779b1)) | 0);
    return this;
  }
  text(text: string): this {
    let { a, b } = this;
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      a = Math.imul(a ^ unit, 0x01000193);
      b = Math.imul((b << 5) ^ (b >>> 3) ^ unit, 0x5bd1e995);
    }
    this.a = a;
    this.b = b;
    return this.word(text.length); // so that "ab", "c" is not "a", "bc"
  }
  join(other: Lanes): this {
    return this.word(other.a).word(other.b);
  }
  value(): number {
    return (this.b & 0x1fffff) * 2 ** 32 + this.a;
  }
}

/** Of a set: members come and go in any order. An empty one is zero, so that sums of sums do not tell how they were parted. */
export class Sum implements Lanes {
  a = 0;
  b = 0;

  add(member: Lanes): this {
    this.a = (this.a + member.a) >>> 0;
    this.b = (this.b + member.b) >>> 0;
    return this;
  }
  subtract(member: Lanes): this {
    this.a = (this.a - member.a) >>> 0;
    this.b = (this.b - member.b) >>> 0;
    return this;
  }
  /** Each member in another role, told by an odd factor: roles of sums are sums of roles. */
  times(factor: number): Sum {
    const result = new Sum();
    result.a = Math.imul(this.a, factor) >>> 0;
    result.b = Math.imul(this.b, factor) >>> 0;
    return result;
  }
}
/** An odd factor for `Sum.times`. */
export const factorOf = (text: string): number => (new Digest().text(text).a | 1) >>> 0;
