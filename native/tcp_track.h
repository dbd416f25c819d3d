// TCP connection tracking: says what src/conntrack/tcp-state.ts says.
#pragma once
#include "replay_packet.h"

namespace seine {

constexpr uint32_t SCALE_SEEN_SYN = 0x100, SCALE_OFFERED = 0x200, MAX_SCALE = 14;
enum class Track { Invalid, Valid, Closes, Reopen };

inline uint32_t side_state(uint32_t status, uint32_t side) { return (status >> (side * 4)) & 0xf; }
inline uint32_t with_side(uint32_t status, uint32_t side, uint32_t state) { return (status & ~(0xfu << (side * 4))) | (state << (side * 4)); }
inline void set_scale(uint32_t* e, uint32_t side, uint32_t scale) {
  e[E::SCALES] = (e[E::SCALES] & (side == 0 ? 0xffff0000u : 0xffffu)) | (scale << (side * 16));
}

// May this packet begin a connection? SYN alone always; with `loose`, anything of a running one; never SYN+ACK or RST.
inline bool may_begin(uint8_t flags, bool loose) {
  if (flags & SYN) return (flags & ACK) == 0;
  return loose && (flags & RST) == 0;
}

// Changes nothing when Invalid or Reopen.
inline Track track_tcp(uint32_t* e, uint32_t side, const Packet& p, bool liberal) {
  uint32_t* s = e + E::TCP + side * TCP_WORDS;
  uint32_t* r = e + E::TCP + (1 - side) * TCP_WORDS;
  uint32_t status = e[E::STATUS];
  uint32_t mine = side_state(status, side), peer = side_state(status, 1 - side);
  const bool syn = (p.tcp_flags & SYN) != 0, rst = (p.tcp_flags & RST) != 0, has_ack = (p.tcp_flags & ACK) != 0;
  const bool fin = (p.tcp_flags & FIN) != 0;
  const uint32_t end = p.seq + p.payload_length + (syn ? 1 : 0) + (fin ? 1 : 0);
  const auto reset = [&] {
    e[E::STATUS] = with_side(with_side(e[E::STATUS], side, SIDE_FIN_ACKED), 1 - side, SIDE_FIN_ACKED) | Status::CLOSED;
    return Track::Closes;
  };

  if (syn && !has_ack && (status & Status::CLOSED) != 0) return Track::Reopen;
  // A RST that answers a SYN has sequence number 0 and is valid if it acknowledges the SYN (RFC 9293 3.10.7.3).
  if (rst && mine == SIDE_NONE) {
    if (!has_ack || p.ack != r[T::END]) return Track::Invalid;
    return reset();
  }

  const bool begins = mine == SIDE_NONE || (syn && !has_ack && mine == SIDE_SYN_SENT && peer <= SIDE_SYN_SENT);
  const uint32_t peer_window = r[T::MAX_WINDOW];
  if (begins) {
    if (has_ack && peer != SIDE_NONE && peer_window != 0) {
      // The first packet of this side must acknowledge within what the peer has sent, if that is known from a SYN.
      const int32_t skew = diff(r[T::END], p.ack);
      if (!liberal && (skew < 0 || skew > static_cast<int32_t>(MAX_ACK_WINDOW)) && (scale_of(e, 1 - side) & SCALE_SEEN_SYN) != 0)
        return Track::Invalid;
    }
    if (syn) {
      const bool offered = p.wscale != NO_WSCALE;
      set_scale(e, side, SCALE_SEEN_SYN | (offered ? SCALE_OFFERED | std::min<uint32_t>(p.wscale, MAX_SCALE) : 0));
      // Scaling holds only when both SYNs offer it (RFC 7323 section 2.2).
      if ((scale_of(e, 1 - side) & SCALE_SEEN_SYN) != 0 && (!offered || (scale_of(e, 1 - side) & SCALE_OFFERED) == 0)) {
        set_scale(e, side, SCALE_SEEN_SYN);
        set_scale(e, 1 - side, SCALE_SEEN_SYN);
      }
      mine = std::max(mine, SIDE_SYN_SENT);
    } else {
      set_scale(e, side, (scale_of(e, 1 - side) & SCALE_SEEN_SYN) == 0 ? MAX_SCALE : 0);
      mine = SIDE_ESTABLISHED;
    }
    s[T::END] = end;
    const uint32_t shift = syn ? 0 : scale_of(e, side) & 0xff;
    s[T::MAX_WINDOW] = std::max<uint32_t>(static_cast<uint32_t>(p.window) << shift, 1);
    if (peer_window == 0) {
      // The peer has sent nothing yet: what it will is told by this side's acknowledgement and window.
      s[T::MAX_END] = end + (syn ? 0 : s[T::MAX_WINDOW]);
      if (has_ack) r[T::END] = p.ack;
      r[T::MAX_END] = (has_ack ? p.ack : 0) + s[T::MAX_WINDOW];
    } else {
      s[T::MAX_END] = end + peer_window;
      if (has_ack) r[T::MAX_END] = p.ack + s[T::MAX_WINDOW];
    }
  } else {
    const uint32_t shift = syn ? 0 : scale_of(e, side) & 0xff;
    const uint32_t scaled = static_cast<uint32_t>(p.window) << shift;
    uint32_t ack = p.ack;
    if (!has_ack || (rst && ack == 0)) ack = r[T::END];
    const bool in_window =
        diff(end, s[T::MAX_END]) <= 0 &&
        (peer_window == 0 || diff(p.seq + p.payload_length, s[T::END] - peer_window - 1) > 0) &&
        (peer_window == 0 ||
         (diff(ack, r[T::END]) <= 0 && diff(ack, r[T::END] - std::max(s[T::MAX_WINDOW], MAX_ACK_WINDOW)) >= 0));
    const bool one_sided = peer_window == 0 && diff(end, s[T::END]) <= static_cast<int32_t>(MAX_ACK_WINDOW * 16);
    if (!in_window && !one_sided && !(liberal && !rst)) return Track::Invalid;
    // A SYN inside an open connection is answered by the peer with a challenge (RFC 9293 3.10.7.4): it changes nothing.
    if (syn && !has_ack && mine >= SIDE_ESTABLISHED) return Track::Valid;
    if (in_window || one_sided) {
      if (scaled > s[T::MAX_WINDOW]) s[T::MAX_WINDOW] = scaled;
      if (diff(end, s[T::END]) > 0) s[T::END] = end;
      if (diff(s[T::END], s[T::MAX_END]) > 0) s[T::MAX_END] = s[T::END];
      if (has_ack) {
        const uint32_t allowed = ack + std::max<uint32_t>(scaled, 1);
        if (diff(allowed, r[T::MAX_END]) > 0) r[T::MAX_END] = allowed;
        if (peer_window == 0) r[T::END] = ack;
      }
    }
  }

  if (rst) return reset();
  if (fin && mine < SIDE_FIN_SENT) mine = SIDE_FIN_SENT;
  if (has_ack) {
    if (peer == SIDE_SYN_SENT) peer = SIDE_ESTABLISHED;
    else if (peer == SIDE_FIN_SENT && diff(p.ack, r[T::END]) >= 0) peer = SIDE_FIN_ACKED;
  }
  status = with_side(with_side(e[E::STATUS], side, mine), 1 - side, peer);
  const bool closes = mine == SIDE_FIN_ACKED && peer == SIDE_FIN_ACKED && (status & Status::CLOSED) == 0;
  if (closes) status |= Status::CLOSED;
  e[E::STATUS] = status;
  return closes ? Track::Closes : Track::Valid;
}

}  // namespace seine
