/**
 * What a header's check function finds wrong. After `Fault.None`, the readers of the same file are in bounds for the same
 * octets, offset and end. Which drop reason a fault becomes is for the caller to say.
 */
export const Fault = {
  None: 0,
  Truncated: 1, // fewer octets than the header has
  BadVersion: 2,
  BadLength: 3, // a length field contradicts itself or the octets that are there
  BadFlags: 4,
  BadType: 5, // not this header, or not a value that it may hold
  BadOption: 6, // an option's or record's length runs out of its list
} as const;
export type Fault = (typeof Fault)[keyof typeof Fault];
