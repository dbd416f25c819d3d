/**
 * Digests that tell whether what an endpoint's decisions rest on has changed: two lanes of 32 bits, 53 of the 64 are told.
 * They guard against oversight, not against someone who forges one: whoever sets labels can change them anyway.
 */
const avalanche = (word: number): number => {
  let h = Math.imul(word ^ (word >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
};

export class Digest {
  private a = 0x243f6a88;
  private b = 0x85a308d3;

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
  join(other: Digest): this {
    return this.word(other.a).word(other.b);
  }
  /** Sets: the order in which members are added does not matter. */
  add(member: Digest): this {
    this.a = (this.a + member.a) >>> 0;
    this.b = (this.b + member.b) >>> 0;
    return this;
  }
  value(): number {
    return (this.b & 0x1fffff) * 2 ** 32 + this.a;
  }
}
