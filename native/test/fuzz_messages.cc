// Feeds a corpus of messages to both readers, built with AddressSanitizer and UBSan (test/fuzz/message-sanitizers.test.ts).
// The corpus: u32 little-endian length, then that many octets, again and again. Each message lies at the end of a heap block of
// its own size, so that one octet too far is seen; each is also read cut short everywhere. What was read is written as verdicts
// into a block of the size that the bound promises.
#include <cstdio>
#include <cstring>
#include <memory>
#include "../message.h"

using namespace seine;

namespace {

// The octets between columns: whoever writes there wrote past a column's last row.
bool padding_untouched(const BatchColumns& b) {
  const uint8_t zero[COLUMN_PADDING] = {};
  bool untouched = true;
#define X(field, name) untouched = untouched && std::memcmp(b.pad_##field, zero, COLUMN_PADDING) == 0;
  SEINE_COLUMNS(X)
#undef X
  return untouched;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  FILE* file = std::fopen(argv[1], "rb");
  if (file == nullptr) return 2;
  auto b = std::make_unique<BatchColumns>();
  std::memset(static_cast<void*>(b.get()), 0, sizeof(BatchColumns));
  constexpr size_t DATA = 1 << 16;
  std::unique_ptr<uint8_t[]> data(new uint8_t[DATA]);
  unsigned long messages = 0, sound[2] = {0, 0};
  for (uint32_t size; std::fread(&size, 4, 1, file) == 1; messages++) {
    std::unique_ptr<uint8_t[]> whole(new uint8_t[size == 0 ? 1 : size]);
    if (std::fread(whole.get(), 1, size, file) != size) return 2;
    const uint32_t step = size > 300 ? size / 100 : 1;
    for (uint32_t kept = size;; kept = kept > step ? kept - step : 0) {
      std::unique_ptr<uint8_t[]> message(new uint8_t[kept == 0 ? 1 : kept]);
      std::memcpy(message.get(), whole.get(), kept);
      BatchHead head{};
      const uint32_t read[2] = {read_msgpack(b.get(), data.get(), DATA, message.get(), kept, &head),
                                read_protobuf(b.get(), data.get(), DATA, message.get(), kept, &head)};
      for (int encoding = 0; encoding < 2; encoding++) {
        const uint32_t count = read[encoding];
        if (count > BATCH_ROWS) return 3;
        if (count == 0) continue;
        if (kept == size) sound[encoding]++;
        if (b->offset[count - 1] + static_cast<size_t>(b->length[count - 1]) > DATA) return 3;
        std::unique_ptr<uint8_t[]> out(new uint8_t[verdicts_bound(count)]);
        std::memset(b->out_port, 0xff, count * 4);
        std::memset(b->rule, 0xff, count * 4);
        head = {0xffffffff, 0xffffffff, head.flags};
        if (write_msgpack(b.get(), count, head, 3, out.get()) > verdicts_bound(count)) return 4;
        if (write_protobuf(b.get(), count, head, out.get()) > verdicts_bound(count)) return 4;
      }
      if (kept == 0) break;
    }
    if (!padding_untouched(*b)) return 5;
  }
  std::fclose(file);
  std::printf("%lu messages, %lu sound as MessagePack, %lu as protobuf\n", messages, sound[0], sound[1]);
  return 0;
}
