// A batch of packets as columns in shared memory: mirrors src/batch/packet-batch.ts and src/batch/drop-reason.ts in
// the same order. The addon reports these offsets and codes; src/native/kernels.ts compares them at load.
#pragma once
#include <cstddef>
#include <cstdint>

namespace seine {

constexpr uint32_t BATCH_ROWS = 4096;
// Columns begin at different cache sets: at multiples of 4 KiB a row's fields would evict each other.
constexpr uint32_t COLUMN_PADDING = 64;

struct BatchColumns {
  uint64_t time_ns[BATCH_ROWS];
  uint8_t pad_time_ns[COLUMN_PADDING];
  uint32_t address[BATCH_ROWS * 8];
  uint8_t pad_address[COLUMN_PADDING];
  uint32_t offset[BATCH_ROWS];
  uint8_t pad_offset[COLUMN_PADDING];
  uint32_t length[BATCH_ROWS];
  uint8_t pad_length[COLUMN_PADDING];
  uint32_t wire_length[BATCH_ROWS];
  uint8_t pad_wire_length[COLUMN_PADDING];
  uint32_t frame_octets[BATCH_ROWS];
  uint8_t pad_frame_octets[COLUMN_PADDING];
  uint32_t in_port[BATCH_ROWS];
  uint8_t pad_in_port[COLUMN_PADDING];
  uint32_t l4_offset[BATCH_ROWS];
  uint8_t pad_l4_offset[COLUMN_PADDING];
  uint32_t ip_length[BATCH_ROWS];
  uint8_t pad_ip_length[COLUMN_PADDING];
  uint32_t tcp_seq[BATCH_ROWS];
  uint8_t pad_tcp_seq[COLUMN_PADDING];
  uint32_t tcp_ack[BATCH_ROWS];
  uint8_t pad_tcp_ack[COLUMN_PADDING];
  uint32_t payload_length[BATCH_ROWS];
  uint8_t pad_payload_length[COLUMN_PADDING];
  uint32_t hash[BATCH_ROWS];
  uint8_t pad_hash[COLUMN_PADDING];
  uint32_t out_port[BATCH_ROWS];
  uint8_t pad_out_port[COLUMN_PADDING];
  uint32_t rule[BATCH_ROWS];
  uint8_t pad_rule[COLUMN_PADDING];
  uint32_t egress_rule[BATCH_ROWS];
  uint8_t pad_egress_rule[COLUMN_PADDING];
  uint32_t ingress_rule[BATCH_ROWS];
  uint8_t pad_ingress_rule[COLUMN_PADDING];
  uint32_t connection[BATCH_ROWS];
  uint8_t pad_connection[COLUMN_PADDING];
  uint32_t fragment_id[BATCH_ROWS];
  uint8_t pad_fragment_id[COLUMN_PADDING];
  uint16_t l3_offset[BATCH_ROWS];
  uint8_t pad_l3_offset[COLUMN_PADDING];
  uint16_t ether_type[BATCH_ROWS];
  uint8_t pad_ether_type[COLUMN_PADDING];
  uint16_t vlan[BATCH_ROWS];
  uint8_t pad_vlan[COLUMN_PADDING];
  uint16_t src_port[BATCH_ROWS];
  uint8_t pad_src_port[COLUMN_PADDING];
  uint16_t dst_port[BATCH_ROWS];
  uint8_t pad_dst_port[COLUMN_PADDING];
  uint16_t icmp_id[BATCH_ROWS];
  uint8_t pad_icmp_id[COLUMN_PADDING];
  uint16_t tcp_window[BATCH_ROWS];
  uint8_t pad_tcp_window[COLUMN_PADDING];
  uint16_t fragment_offset[BATCH_ROWS];
  uint8_t pad_fragment_offset[COLUMN_PADDING];
  uint16_t tunnel[BATCH_ROWS];
  uint8_t pad_tunnel[COLUMN_PADDING];
  uint16_t rewrite[BATCH_ROWS];
  uint8_t pad_rewrite[COLUMN_PADDING];
  uint8_t kind[BATCH_ROWS];
  uint8_t pad_kind[COLUMN_PADDING];
  uint8_t flags[BATCH_ROWS];
  uint8_t pad_flags[COLUMN_PADDING];
  uint8_t protocol[BATCH_ROWS];
  uint8_t pad_protocol[COLUMN_PADDING];
  uint8_t tos[BATCH_ROWS];
  uint8_t pad_tos[COLUMN_PADDING];
  uint8_t ttl[BATCH_ROWS];
  uint8_t pad_ttl[COLUMN_PADDING];
  uint8_t tcp_flags[BATCH_ROWS];
  uint8_t pad_tcp_flags[COLUMN_PADDING];
  uint8_t wscale[BATCH_ROWS];
  uint8_t pad_wscale[COLUMN_PADDING];
  uint8_t fault[BATCH_ROWS];
  uint8_t pad_fault[COLUMN_PADDING];
  uint8_t verdict[BATCH_ROWS];
  uint8_t pad_verdict[COLUMN_PADDING];
  uint8_t drop_reason[BATCH_ROWS];
  uint8_t pad_drop_reason[COLUMN_PADDING];
  uint8_t stage[BATCH_ROWS];
  uint8_t pad_stage[COLUMN_PADDING];
  uint8_t ct[BATCH_ROWS];
  uint8_t pad_ct[COLUMN_PADDING];
  uint8_t direction[BATCH_ROWS];
  uint8_t pad_direction[COLUMN_PADDING];
  uint8_t owner[BATCH_ROWS];
  uint8_t pad_owner[COLUMN_PADDING];
};

#define SEINE_COLUMNS(X) \
  X(time_ns, "timeNs") \
  X(address, "address") \
  X(offset, "offset") \
  X(length, "length") \
  X(wire_length, "wireLength") \
  X(frame_octets, "frameOctets") \
  X(in_port, "inPort") \
  X(l4_offset, "l4Offset") \
  X(ip_length, "ipLength") \
  X(tcp_seq, "tcpSeq") \
  X(tcp_ack, "tcpAck") \
  X(payload_length, "payloadLength") \
  X(hash, "hash") \
  X(out_port, "outPort") \
  X(rule, "rule") \
  X(egress_rule, "egressRule") \
  X(ingress_rule, "ingressRule") \
  X(connection, "connection") \
  X(fragment_id, "fragmentId") \
  X(l3_offset, "l3Offset") \
  X(ether_type, "etherType") \
  X(vlan, "vlan") \
  X(src_port, "srcPort") \
  X(dst_port, "dstPort") \
  X(icmp_id, "icmpId") \
  X(tcp_window, "tcpWindow") \
  X(fragment_offset, "fragmentOffset") \
  X(tunnel, "tunnel") \
  X(rewrite, "rewrite") \
  X(kind, "kind") \
  X(flags, "flags") \
  X(protocol, "protocol") \
  X(tos, "tos") \
  X(ttl, "ttl") \
  X(tcp_flags, "tcpFlags") \
  X(wscale, "wscale") \
  X(fault, "fault") \
  X(verdict, "verdict") \
  X(drop_reason, "dropReason") \
  X(stage, "stage") \
  X(ct, "ct") \
  X(direction, "direction") \
  X(owner, "owner")

enum DropReason : uint8_t {
  NONE = 0,
  FRAME_TRUNCATED = 1,
  FRAME_TOO_LONG = 2,
  UNSUPPORTED_ETHERTYPE = 3,
  VLAN_TAGGED = 4,
  IP_HEADER_TRUNCATED = 5,
  IP_BAD_VERSION = 6,
  IP_BAD_HEADER_LENGTH = 7,
  IP_LENGTH_EXCEEDS_FRAME = 8,
  IP_BAD_CHECKSUM = 9,
  IP6_BAD_EXTENSION = 10,
  FRAGMENT_OVERLAP = 11,
  FRAGMENT_BAD = 12,
  TCP_TRUNCATED = 13,
  TCP_BAD_OFFSET = 14,
  TCP_INVALID_FLAGS = 15,
  UDP_TRUNCATED = 16,
  UDP_BAD_LENGTH = 17,
  ICMP_TRUNCATED = 18,
  SCTP_TRUNCATED = 19,
  UNKNOWN_PORT = 20,
  UNKNOWN_TUNNEL_PEER = 21,
  TUNNEL_MALFORMED = 22,
  TUNNEL_CRITICAL_OPTION = 23,
  SPOOFED = 24,
  ARP_MALFORMED = 25,
  ND_MALFORMED = 26,
  CONNTRACK_INVALID = 27,
  CONNTRACK_FULL = 28,
  ENDPOINT_LIMIT = 29,
  NO_ENDPOINT = 30,
  EGRESS_POLICY = 31,
  EGRESS_DEFAULT_DENY = 32,
  INGRESS_POLICY = 33,
  INGRESS_DEFAULT_DENY = 34,
  POLICY_RESET = 35,
  TTL_EXCEEDED = 36,
  MTU_EXCEEDED = 37,
  NO_SUCH_ENDPOINT = 38,
  TRANSPORT_BAD_CHECKSUM = 39
};

#define SEINE_DROP_REASONS(X) \
  X(NONE, "none") \
  X(FRAME_TRUNCATED, "frame-truncated") \
  X(FRAME_TOO_LONG, "frame-too-long") \
  X(UNSUPPORTED_ETHERTYPE, "unsupported-ethertype") \
  X(VLAN_TAGGED, "vlan-tagged") \
  X(IP_HEADER_TRUNCATED, "ip-header-truncated") \
  X(IP_BAD_VERSION, "ip-bad-version") \
  X(IP_BAD_HEADER_LENGTH, "ip-bad-header-length") \
  X(IP_LENGTH_EXCEEDS_FRAME, "ip-length-exceeds-frame") \
  X(IP_BAD_CHECKSUM, "ip-bad-checksum") \
  X(IP6_BAD_EXTENSION, "ip6-bad-extension") \
  X(FRAGMENT_OVERLAP, "fragment-overlap") \
  X(FRAGMENT_BAD, "fragment-bad") \
  X(TCP_TRUNCATED, "tcp-truncated") \
  X(TCP_BAD_OFFSET, "tcp-bad-offset") \
  X(TCP_INVALID_FLAGS, "tcp-invalid-flags") \
  X(UDP_TRUNCATED, "udp-truncated") \
  X(UDP_BAD_LENGTH, "udp-bad-length") \
  X(ICMP_TRUNCATED, "icmp-truncated") \
  X(SCTP_TRUNCATED, "sctp-truncated") \
  X(UNKNOWN_PORT, "unknown-port") \
  X(UNKNOWN_TUNNEL_PEER, "unknown-tunnel-peer") \
  X(TUNNEL_MALFORMED, "tunnel-malformed") \
  X(TUNNEL_CRITICAL_OPTION, "tunnel-critical-option") \
  X(SPOOFED, "spoofed") \
  X(ARP_MALFORMED, "arp-malformed") \
  X(ND_MALFORMED, "nd-malformed") \
  X(CONNTRACK_INVALID, "conntrack-invalid") \
  X(CONNTRACK_FULL, "conntrack-full") \
  X(ENDPOINT_LIMIT, "endpoint-limit") \
  X(NO_ENDPOINT, "no-endpoint") \
  X(EGRESS_POLICY, "egress-policy") \
  X(EGRESS_DEFAULT_DENY, "egress-default-deny") \
  X(INGRESS_POLICY, "ingress-policy") \
  X(INGRESS_DEFAULT_DENY, "ingress-default-deny") \
  X(POLICY_RESET, "policy-reset") \
  X(TTL_EXCEEDED, "ttl-exceeded") \
  X(MTU_EXCEEDED, "mtu-exceeded") \
  X(NO_SUCH_ENDPOINT, "no-such-endpoint") \
  X(TRANSPORT_BAD_CHECKSUM, "transport-bad-checksum")

enum Verdict : uint8_t { UNSPECIFIED = 0, FORWARD = 1, DROP = 2, REJECT = 3, CONSUME = 4 };
enum Kind : uint8_t { NON_IP = 0, IP4 = 4, IP6 = 6 };
enum RowFlag : uint8_t {
  SOUND = 1,
  FRAGMENT_FIRST = 2,
  FRAGMENT_LATER = 4,
  TRANSPORT = 8,
  ICMP_ERROR = 16,
  ARP = 32,
  NEIGHBOUR_DISCOVERY = 64,
  GROUP_DESTINATION = 128
};
enum Rewrite : uint16_t { DESTINATION_MAC = 1, DECREMENT_TTL = 2, DECREMENT_TTL_TWICE = 4, ENCAPSULATE = 8 };
enum Ct : uint8_t { CT_NEW = 1, CT_ESTABLISHED = 2, CT_REPLY = 4, CT_RELATED = 8, CT_INVALID = 16, CT_TRACKED = 32 };

constexpr uint16_t NO_VLAN = 0xffff;
constexpr uint8_t NO_WSCALE = 0xff;
constexpr uint32_t PORT_DROPPED = 65533;

// Network order, read octet by octet: no alignment is asked for.
inline uint16_t read16(const uint8_t* at) { return static_cast<uint16_t>((at[0] << 8) | at[1]); }
inline uint32_t read32(const uint8_t* at) {
  return (static_cast<uint32_t>(at[0]) << 24) | (static_cast<uint32_t>(at[1]) << 16) |
         (static_cast<uint32_t>(at[2]) << 8) | at[3];
}
inline void write16(uint8_t* at, uint32_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

}  // namespace seine
