/** IP and MAC addresses as text and as host-order words: four words an address, IPv4 in the first (RFC 4291, RFC 5952). */
export interface IpAddress {
  family: 4 | 6;
  words: number[];
}
export interface IpPrefix extends IpAddress {
  prefixLength: number;
  /** Bits behind the prefix were set in the text; `words` has them cleared. */
  hadHostBits: boolean;
}

function parse4(text: string): number | null {
  const parts = text.split('.');
  if (parts.length !== 4) return null;
  let word = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return null;
    word = word * 256 + Number(part);
  }
  return word >>> 0;
}

function parse6(text: string): number[] | null {
  let head = text;
  const tail4: number[] = [];
  const lastColon = text.lastIndexOf(':');
  if (text.includes('.')) {
    const word = parse4(text.slice(lastColon + 1));
    if (word === null || lastColon < 0) return null;
    tail4.push(word >>> 16, word & 0xffff);
    head = text.slice(0, lastColon);
    if (head.endsWith(':')) head += ':'; // "::1.2.3.4" keeps its double colon
    if (head === '') return null;
  }
  const halves = head.split('::');
  if (halves.length > 2) return null;
  const groups = (part: string): number[] | null => {
    if (part === '') return [];
    const result: number[] = [];
    for (const group of part.split(':')) {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return null;
      result.push(Number.parseInt(group, 16));
    }
    return result;
  };
  if (text.includes('.') && halves.length === 2 && halves[1]!.endsWith(':')) halves[1] = halves[1]!.slice(0, -1);
  const left = groups(halves[0]!);
  const right = halves.length === 2 ? groups(halves[1]!) : [];
  if (left === null || right === null) return null;
  const missing = 8 - left.length - right.length - tail4.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null;
  const all = [...left, ...new Array<number>(halves.length === 2 ? missing : 0).fill(0), ...right, ...tail4];
  return [0, 2, 4, 6].map((i) => ((all[i]! << 16) | all[i + 1]!) >>> 0);
}

export function parseAddress(text: string): IpAddress | null {
  if (text.includes(':')) {
    const words = parse6(text);
    return words === null ? null : { family: 6, words };
  }
  const word = parse4(text);
  return word === null ? null : { family: 4, words: [word, 0, 0, 0] };
}

/** The word of a mask: bits of word `index` within a prefix of `length` bits. */
export function maskWord(length: number, index: number): number {
  const bits = Math.min(32, Math.max(0, length - index * 32));
  return bits === 0 ? 0 : (0xffffffff << (32 - bits)) >>> 0;
}

export function parseCidr(text: string): IpPrefix | null {
  const slash = text.indexOf('/');
  if (slash < 0 || !/^(0|[1-9]\d{0,2})$/.test(text.slice(slash + 1))) return null;
  const address = parseAddress(text.slice(0, slash));
  const prefixLength = Number(text.slice(slash + 1));
  if (address === null || prefixLength > (address.family === 4 ? 32 : 128)) return null;
  const words = address.words.map((word, i) => (word & maskWord(prefixLength, i)) >>> 0);
  return {
    family: address.family,
    words,
    prefixLength,
    hadHostBits: words.some((word, i) => word !== address.words[i]),
  };
}

const text4 = (word: number): string => `${word >>> 24}.${(word >>> 16) & 0xff}.${(word >>> 8) & 0xff}.${word & 0xff}`;

/** The address whose words begin at `at`, as text; IPv6 by RFC 5952. */
export function formatAddress(words: ArrayLike<number>, at: number, family: number): string {
  if (family !== 6) return text4(words[at]!);
  const groups: number[] = [];
  for (let i = 0; i < 4; i++) groups.push(words[at + i]! >>> 16, words[at + i]! & 0xffff);
  // An IPv4-mapped address keeps its dotted part (RFC 5952 section 5).
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff)
    return `::ffff:${text4(words[at + 3]!)}`;
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && groups[i + length] === 0) length++;
    if (length > bestLength) {
      best = i;
      bestLength = length;
    }
  }
  const text = (part: number[]) => part.map((group) => group.toString(16)).join(':');
  if (best < 0) return text(groups);
  return `${text(groups.slice(0, best))}::${text(groups.slice(best + bestLength))}`;
}

export function parseMac(text: string): Uint8Array | null {
  if (!/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) return null;
  return Uint8Array.from(text.split(':'), (octet) => Number.parseInt(octet, 16));
}
export function formatMac(octets: ArrayLike<number>, at = 0): string {
  return Array.from({ length: 6 }, (_, i) => octets[at + i]!.toString(16).padStart(2, '0')).join(':');
}
