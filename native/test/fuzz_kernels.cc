// Feeds a corpus of frames to the kernels, built with AddressSanitizer and UBSan (test/fuzz/sanitizers.test.ts). The corpus:
// u32 little-endian length, then that many octets, again and again. Each frame is parsed alone at the end of a heap block of
// its own size, so that one octet too far is seen; then composed with each rewrite; then replayed against a table. Frames are
// also cut short as a snap length cuts them (the wire length stays), so that every header ends early once in a while; and
// parsed, composed and replayed many at once, in the last rows of the batch, and must come out as they do alone.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <vector>
#include "../batch.h"
#include "../checksum.h"
#include "../compose.h"
#include "../entry.h"
#include "../parse.h"
#include "../replay.h"
#include "../tuple_hash.h"

using namespace seine;

namespace {

// One row's columns as Parse left them.
struct Parsed {
  uint32_t hash, ip_length, l4_offset, payload_length;
  uint8_t fault, flags, protocol, kind;
  bool operator==(const Parsed&) const = default;
};
Parsed parsed(const BatchColumns& b, uint32_t r) {
  return {b.hash[r], b.ip_length[r], b.l4_offset[r], b.payload_length[r], b.fault[r], b.flags[r], b.protocol[r], b.kind[r]};
}

// The octets between columns: whoever writes there wrote past a column's last row.
bool padding_untouched(const BatchColumns& b) {
  const uint8_t zero[COLUMN_PADDING] = {};
  bool untouched = true;
#define X(field, name) untouched = untouched && std::memcmp(b.pad_##field, zero, COLUMN_PADDING) == 0;
  SEINE_COLUMNS(X)
#undef X
  return untouched;
}

struct Frame {
  std::vector<uint8_t> octets;
  uint32_t wire_length;
  Parsed alone;
};

// Frames back to back in a heap block of their size, in the batch's last rows. False: they came out otherwise than alone.
bool many_at_once(BatchColumns* b, const std::vector<Frame>& frames, const Shard& context, const uint8_t* table) {
  const uint32_t count = static_cast<uint32_t>(frames.size()), first = BATCH_ROWS - count;
  size_t size = 0;
  for (const Frame& frame : frames) size += frame.octets.size();
  std::unique_ptr<uint8_t[]> data(new uint8_t[size == 0 ? 1 : size]);
  std::vector<int32_t> rows(count);
  uint32_t at = 0;
  for (uint32_t i = 0; i < count; i++) {
    const Frame& frame = frames[i];
    const uint32_t r = first + i, length = static_cast<uint32_t>(frame.octets.size());
    if (length > 0) std::memcpy(data.get() + at, frame.octets.data(), length);
    b->offset[r] = at;
    b->length[r] = length;
    b->wire_length[r] = frame.wire_length;
    b->frame_octets[r] = length;
    b->in_port[r] = 3;
    rows[i] = static_cast<int32_t>(r);
    at += length;
  }
  for (const bool by_table : {false, true}) {
    parse_rows(b, data.get(), first, count, by_table);
    for (uint32_t i = 0; i < count; i++)
      if (parsed(*b, first + i) != frames[i].alone) return false;
  }
  std::unique_ptr<int32_t[]> slow(new int32_t[count]);
  if (replay_rows(context, b, rows.data(), count, slow.get()) > count) return false;
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t r = first + i;
    b->rewrite[r] = static_cast<uint16_t>((b->flags[r] & SOUND) != 0 ? i % 16 : uint32_t{ENCAPSULATE});
    b->tunnel[r] = static_cast<uint16_t>(i % 3);
  }
  std::vector<uint8_t> out(size + static_cast<size_t>(count) * 70);
  std::unique_ptr<uint32_t[]> sizes(new uint32_t[count]);
  const int64_t written = compose_rows(b, data.get(), table, rows.data(), count, out.data(), 0, out.size(), sizes.get());
  if (written < 0) return false;
  std::unique_ptr<uint8_t[]> exact(new uint8_t[written == 0 ? 1 : written]);
  if (compose_rows(b, data.get(), table, rows.data(), count, exact.get(), 0, static_cast<size_t>(written), sizes.get()) != written) return false;
  int64_t sum = 0;
  for (uint32_t i = 0; i < count; i++) sum += sizes[i];
  return sum == written && padding_untouched(*b);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  FILE* file = std::fopen(argv[1], "rb");
  if (file == nullptr) return 2;
  auto batch = std::make_unique<BatchColumns>();
  std::memset(static_cast<void*>(batch.get()), 0, sizeof(BatchColumns));
  std::vector<uint8_t> table(REWRITE_TABLE_SIZE);
  // Node 1: IPv4 without UDP checksum; node 2: IPv6 with.
  for (int node = 1; node <= 2; node++) {
    uint8_t* at = table.data() + 65536 * 8 + node * 64;
    at[0] = node == 1 ? 4 : 6;
    at[1] = node == 1 ? 2 : 1;
    at[2] = 4789 >> 8;
    at[3] = 4789 & 0xff;
    at[8] = 64;
  }
  // A table of 64 entries, empty but for what replay itself never writes; src/conntrack/table.ts has its layout.
  constexpr uint32_t CAPACITY = 64, SLOTS = 128, PLANS = 2 * CAPACITY + 1, PLAN_SLOTS = 256;
  std::vector<uint32_t> words(HEADER_WORDS + WHEEL_SLOTS + SLOTS + CAPACITY * (COLD_WORDS + ENTRY_WORDS + 8) + 16 + PLAN_SLOTS + PLANS * PLAN_WORDS);
  words[H::CAPACITY] = CAPACITY;
  words[H::SLOT_MASK] = SLOTS - 1;
  words[H::WHEEL_AT] = HEADER_WORDS;
  words[H::SLOTS_AT] = HEADER_WORDS + WHEEL_SLOTS;
  words[H::COLD_AT] = words[H::SLOTS_AT] + SLOTS;
  words[H::ENTRIES_AT] = words[H::COLD_AT] + CAPACITY * COLD_WORDS;
  words[H::ADDRESSES_AT] = words[H::ENTRIES_AT] + CAPACITY * ENTRY_WORDS;
  words[H::PLANS_AT] = words[H::ADDRESSES_AT] + CAPACITY * 8;
  std::vector<uint32_t> epochs(65536);
  std::vector<double> timeouts(32, 1e9);
  const double records[2] = {1e18, 1e18};
  std::vector<uint8_t> classes(8192);
  std::vector<uint64_t> counters(1024), rules(30);
  timeout_indices = {0, 1, 2, 3, 4, 5, 6, 7, 8};
  counter_indices = {0, 8, 16, 1000, 1024};
  Shard context{};
  if (!open_table(words.data(), words.size(), context.table) || open_table(words.data(), words.size() - 1, context.table)) return 6;
  context.epochs = epochs.data();
  context.timeouts = timeouts_ns(timeouts.data());
  context.record_timeouts = records;
  context.classes = classes.data();
  context.class_mask = 8191;
  context.counters = counters.data();
  context.rules = rules.data();
  context.rules_max = 10;
  // The plan of all of them: to port 4, by rule 7.
  uint32_t* plan = context.table.plan(1);
  plan[P::PORT] = 4;
  plan[P::DECISION] = FORWARD | (11u << 16);
  plan[P::INGRESS_RULE] = plan[P::RULE] = 7;
  plan[P::INTERFACES] = 3 | (4u << 16);
  plan[P::BASIS] = 3 | (4u << 16);

  unsigned long frames = 0, sound = 0, cut_sound = 0, replayed = 0, used = 0;
  uint64_t digest = 0, random = 1;
  std::vector<Frame> together;
  // Sizes on both sides of those at which Parse changes its ways.
  const size_t sizes_together[] = {2, 15, 16, 17, 127, 128, 129, 300};
  size_t batches = 0;
  for (uint32_t size; std::fread(&size, 4, 1, file) == 1; frames++) {
    std::unique_ptr<uint8_t[]> frame(new uint8_t[size == 0 ? 1 : size]);
    if (std::fread(frame.get(), 1, size, file) != size) return 2;
    batch->offset[0] = 0;
    batch->length[0] = size;
    batch->wire_length[0] = size + (frames % 7 == 0 ? 100 : 0);
    batch->frame_octets[0] = size;
    batch->in_port[0] = 3;
    batch->time_ns[0] = 1000 + frames;
    parse_rows(batch.get(), frame.get(), 0, 1);
    digest = digest * 31 + batch->hash[0] + batch->fault[0];
    const Parsed alone = parsed(*batch, 0);
    parse_rows(batch.get(), frame.get(), 0, 1, true);
    if (parsed(*batch, 0) != alone) return 4;
    // Cuts anywhere, and among the headers, whose wire length still covers the IP length.
    for (uint32_t cut = 0; cut < 4; cut++) {
      const uint32_t bound = (cut < 2 ? size : size < 120 ? size : 120) + 1;
      random = random * 6364136223846793005u + 1442695040888963407u;
      const uint32_t kept = static_cast<uint32_t>(random >> 33) % bound;
      std::unique_ptr<uint8_t[]> head(new uint8_t[kept == 0 ? 1 : kept]);
      std::memcpy(head.get(), frame.get(), kept);
      batch->length[0] = kept;
      batch->wire_length[0] = size;
      parse_rows(batch.get(), kept == 0 ? head.get() + 1 : head.get(), 0, 1, cut % 2 != 0);
      cut_sound += (batch->flags[0] & SOUND) != 0;
    }
    batch->length[0] = size;
    batch->wire_length[0] = size + (frames % 7 == 0 ? 100 : 0);
    parse_rows(batch.get(), frame.get(), 0, 1);
    together.push_back({std::vector<uint8_t>(frame.get(), frame.get() + size), batch->wire_length[0], alone});
    if (together.size() == sizes_together[batches % std::size(sizes_together)]) {
      if (!many_at_once(batch.get(), together, context, table.data())) return 5;
      batches++;
      together.clear();
    }
    const int32_t row = 0;
    int32_t slow[1];
    if ((batch->flags[0] & SOUND) == 0) {
      replay_rows(context, batch.get(), &row, 1, slow);
      continue;
    }
    sound++;
    // Every so often the frame's connection is put into the table, so that replay finds it.
    if (used < CAPACITY && batch->flags[0] == (SOUND | TRANSPORT) && frames % 5 == 0) {
      const uint32_t entry = static_cast<uint32_t>(used++);
      uint32_t* e = context.table.entry(entry);
      const uint32_t last = batch->kind[0] == IP6 ? 3 : 0;
      e[E::SRC] = batch->address[last];
      e[E::DST] = batch->address[4 + last];
      e[E::PORTS] = batch->src_port[0] | (static_cast<uint32_t>(batch->dst_port[0]) << 16);
      e[E::KEY] = batch->protocol[0] | (static_cast<uint32_t>(batch->kind[0]) << 8) | (static_cast<uint32_t>(batch->vlan[0]) << 16);
      e[E::STATUS] = Status::USED | Status::SEEN_REPLY | Status::MULTIPLE | Status::PLAN0 | Status::RECORD0 | Status::REPLAY0 | 0x22;
      e[E::EXPIRES + 1] = 1;
      e[E::DIRECTION + D::PLAN] = 1;
      for (uint32_t side = 0; side < 2; side++) e[E::TCP + side * TCP_WORDS + T::MAX_WINDOW] = 0x40000000;
      std::memcpy(context.table.addresses + entry * 8, batch->address, 32);
      uint32_t slot = batch->hash[0] & (SLOTS - 1);
      while (context.table.slots[slot] != 0) slot = (slot + 1) & (SLOTS - 1);
      context.table.slots[slot] = (entry + 1) | (batch->hash[0] >> 24 << 24);
    }
    replayed += 1 - replay_rows(context, batch.get(), &row, 1, slow);
    for (uint16_t rewrite = 0; rewrite < 16; rewrite++) {
      for (uint16_t tunnel = 0; tunnel < 3; tunnel++) {
        batch->rewrite[0] = rewrite;
        batch->tunnel[0] = tunnel;
        // Exactly as much room as the frame needs: then one octet less.
        std::vector<uint8_t> out(size + 70);
        uint32_t sizes[1];
        const int64_t written = compose_rows(batch.get(), frame.get(), table.data(), &row, 1, out.data(), 0, out.size(), sizes);
        if (written > 0) {
          std::unique_ptr<uint8_t[]> exact(new uint8_t[written]);
          if (compose_rows(batch.get(), frame.get(), table.data(), &row, 1, exact.get(), 0, written, sizes) != written) return 3;
          if (compose_rows(batch.get(), frame.get(), table.data(), &row, 1, exact.get(), 0, written - 1, sizes) != -1) return 3;
        }
      }
    }
    internet_checksum(frame.get() + size % 3, size - size % 3, digest & 0xffff);
  }
  std::fclose(file);
  std::printf("%lu frames, %lu sound, %lu sound though cut, %lu replayed, %zu batches, digest %016llx\n", frames, sound, cut_sound, replayed, batches, static_cast<unsigned long long>(digest));
  return 0;
}
