// Feeds a corpus of frames to the kernels, built with AddressSanitizer and UBSan (test/fuzz/sanitizers.test.ts). The corpus:
// u32 little-endian length, then that many octets, again and again. Each frame is parsed alone at the end of a heap block of
// its own size, so that one octet too far is seen; then composed with each rewrite; then replayed against a table.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>
#include "../batch.h"
#include "../checksum.h"
#include "../compose.h"
#include "../entry.h"
#include "../parse.h"
#include "../replay.h"

using namespace seine;

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
  // A table of 64 entries, empty but for what replay itself never writes.
  constexpr uint32_t CAPACITY = 64, SLOTS = 128;
  constexpr uint32_t SLOTS_AT = 64 + 4096, ENTRIES_AT = SLOTS_AT + SLOTS * 2, ADDRESSES_AT = ENTRIES_AT + CAPACITY * ENTRY_WORDS;
  std::vector<uint32_t> words(ADDRESSES_AT + CAPACITY * 8);
  std::vector<uint32_t> epochs(65536);
  std::vector<double> timeouts(32, 1e9);
  const double records[2] = {1e18, 1e18};
  std::vector<uint8_t> classes(8192);
  replay_timeouts = {0, 1, 2, 3, 4, 5, 6, 7, 8};
  const ReplayContext context{words.data(), SLOTS - 1, SLOTS_AT, ENTRIES_AT, ADDRESSES_AT, epochs.data(), timeouts.data(), records, classes.data(), 8191};

  unsigned long frames = 0, sound = 0, replayed = 0, used = 0;
  uint64_t digest = 0;
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
      uint32_t* e = words.data() + ENTRIES_AT + entry * ENTRY_WORDS;
      const uint32_t last = batch->kind[0] == IP6 ? 3 : 0;
      e[E::SRC] = batch->address[last];
      e[E::DST] = batch->address[4 + last];
      e[E::PORTS] = batch->src_port[0] | (static_cast<uint32_t>(batch->dst_port[0]) << 16);
      e[E::KEY] = batch->protocol[0] | (static_cast<uint32_t>(batch->kind[0]) << 8) | (static_cast<uint32_t>(batch->vlan[0]) << 16);
      e[E::HASH] = batch->hash[0];
      e[E::STATUS] = 0x100 | Status::SEEN_REPLY | Status::MULTIPLE | Status::PLAN0 | Status::RECORD0 | 0x22;
      e[E::EXPIRES + 1] = 1;
      e[E::ORIGIN] = 3;
      uint32_t* d = e + E::DIRECTION;
      d[D::INTERFACES] = 3 | (4u << 16);
      d[D::MARKS] = FORWARD << 16;
      d[D::PLAN_PORT] = 4;
      d[D::PLAN_VERDICT] = FORWARD | (11u << 16);
      for (uint32_t side = 0; side < 2; side++) e[E::TCP + side * TCP_WORDS + T::MAX_WINDOW] = 0x40000000;
      std::memcpy(words.data() + ADDRESSES_AT + entry * 8, batch->address, 32);
      uint32_t slot = batch->hash[0] & (SLOTS - 1);
      while (words[SLOTS_AT + slot * 2 + 1] != 0) slot = (slot + 1) & (SLOTS - 1);
      words[SLOTS_AT + slot * 2] = batch->hash[0];
      words[SLOTS_AT + slot * 2 + 1] = entry + 1;
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
  std::printf("%lu frames, %lu sound, %lu replayed, digest %016llx\n", frames, sound, replayed, static_cast<unsigned long long>(digest));
  return 0;
}
