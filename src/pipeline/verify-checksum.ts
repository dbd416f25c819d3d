/** Transport checksums, verified only where `conntrack.verifyChecksums` asks for it: captures and local kernels hold partial ones. */
import { Kind, type PacketBatch, RowFlag } from '../batch/packet-batch.js';
import { kernels } from '../native/kernels.js';
import { crc32c } from '../wire/crc32c.js';
import { pseudoHeaderSum } from '../wire/checksum.js';

const ICMP = 1,
  TCP = 6,
  UDP = 17,
  ICMP6 = 58,
  SCTP = 132;

/** True also where nothing can be verified: fragments, packets cut by the snap length, other protocols. */
export function transportChecksumHolds(batch: PacketBatch, row: number): boolean {
  if ((batch.flags[row]! & (RowFlag.FragmentFirst | RowFlag.FragmentLater)) !== 0 || batch.l4Offset[row] === 0)
    return true;
  const protocol = batch.protocol[row]!;
  const six = batch.kind[row] === Kind.Ip6;
  const l3 = batch.l3Offset[row]!;
  const l4 = batch.l4Offset[row]!;
  const size = batch.ipLength[row]! - (l4 - l3);
  if (l4 + size > batch.length[row]!) return true;
  const start = batch.offset[row]!;
  const { data } = batch;
  if (protocol === SCTP) {
    const segment = data.slice(start + l4, start + l4 + size);
    const given = (segment[8]! | (segment[9]! << 8) | (segment[10]! << 16) | (segment[11]! << 24)) >>> 0;
    segment.fill(0, 8, 12);
    return crc32c(segment, 0, size) === given;
  }
  if (protocol === ICMP) return kernels.internetChecksum(data, start + l4, size) === 0;
  if (protocol !== TCP && protocol !== UDP && protocol !== ICMP6) return true;
  // A UDP checksum of 0 over IPv4 says that there is none (RFC 768).
  if (protocol === UDP && !six && data[start + l4 + 6] === 0 && data[start + l4 + 7] === 0) return true;
  const pseudo = pseudoHeaderSum(data, start + l3 + (six ? 8 : 12), six ? 6 : 4, protocol, size);
  return kernels.internetChecksum(data, start + l4, size, pseudo) === 0;
}
