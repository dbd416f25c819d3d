#include "message.h"
#include <bit>
#include <cmath>
#include <cstring>

namespace seine {
namespace {

static_assert(std::endian::native == std::endian::little, "columns travel as they lie in memory");

// contract §3; src/batch/packet-batch.ts
constexpr uint32_t FRAME_MIN = 14, FRAME_MAX = 65557;
constexpr size_t BATCH_OCTETS = 3 * 1024 * 1024;

void take_id(BatchHead* head, uint64_t id, bool negative) {
  head->id_low = static_cast<uint32_t>(id);
  head->id_high = static_cast<uint32_t>(id >> 32);
  if (negative)
    head->flags |= HEAD_NEGATIVE;
  else
    head->flags &= ~static_cast<uint32_t>(HEAD_NEGATIVE);
}

// Where `length` holds the sizes of `frames` frames: writes what follows from them. False past a limit, or where they are not
// the whole of the data.
bool place(BatchColumns* b, uint32_t frames, size_t octets) {
  uint64_t at = 0;
  uint32_t wrong = 0;
  for (uint32_t row = 0; row < frames; row++) {
    const uint32_t size = b->length[row];
    b->offset[row] = static_cast<uint32_t>(at);
    at += size;
    wrong |= static_cast<uint32_t>(size - FRAME_MIN > FRAME_MAX - FRAME_MIN);
  }
  if (wrong != 0 || at != octets) return false;
  std::memcpy(b->wire_length, b->length, frames * 4);
  std::memcpy(b->frame_octets, b->length, frames * 4);
  return true;
}

void spread(uint32_t* column, uint32_t value, uint32_t frames) {
  for (uint32_t row = 0; row < frames; row++) column[row] = value;
}

// --- MessagePack ---

struct View {
  const uint8_t* at;
  size_t size;
  bool is(const char* text, size_t length) const { return size == length && std::memcmp(at, text, length) == 0; }
};

struct Cursor {
  const uint8_t* at;
  const uint8_t* end;
  bool left(size_t size) const { return static_cast<size_t>(end - at) >= size; }
  // Big-endian, 1, 2, 4 or 8 octets.
  bool word(uint32_t width, uint64_t* value) {
    if (!left(width)) return false;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < width; i++) sum = (sum << 8) | at[i];
    at += width;
    *value = sum;
    return true;
  }
  bool view(uint64_t size, View* into) {
    if (!left(size)) return false;
    *into = {at, static_cast<size_t>(size)};
    at += size;
    return true;
  }
  bool map(uint64_t* entries) {
    if (!left(1)) return false;
    const uint8_t tag = *at++;
    if (tag >> 4 == 8) {
      *entries = tag & 0xf;
      return true;
    }
    return tag == 0xde ? word(2, entries) : tag == 0xdf && word(4, entries);
  }
  bool string(View* into) {
    if (!left(1)) return false;
    const uint8_t tag = *at++;
    uint64_t size = tag & 0x1f;
    if (tag >> 5 != 5) {
      const uint32_t width = tag == 0xd9 ? 1 : tag == 0xda ? 2 : tag == 0xdb ? 4 : 0;
      if (width == 0 || !word(width, &size)) return false;
    }
    return view(size, into);
  }
  bool is_binary() const { return left(1) && *at >= 0xc4 && *at <= 0xc6; }
  bool binary(View* into) {
    if (!is_binary()) return false;
    const uint32_t width = 1u << (*at++ - 0xc4);
    uint64_t size;
    return word(width, &size) && view(size, into);
  }
  bool integer(uint64_t* value, bool* negative) {
    if (!left(1)) return false;
    const uint8_t tag = *at++;
    *negative = false;
    if (tag < 0x80) {
      *value = tag;
      return true;
    }
    if (tag >= 0xe0) {
      *value = static_cast<uint64_t>(static_cast<int64_t>(static_cast<int8_t>(tag)));
      *negative = true;
      return true;
    }
    if (tag == 0xcb) {  // encoders for JavaScript write integers beyond 32 bits as doubles
      uint64_t bits;
      if (!word(8, &bits)) return false;
      const double number = std::bit_cast<double>(bits);
      if (!(std::fabs(number) <= 9007199254740991.0) || number != std::trunc(number)) return false;
      *value = static_cast<uint64_t>(static_cast<int64_t>(number));
      *negative = number < 0;
      return true;
    }
    if (tag < 0xcc || tag > 0xd3) return false;
    const uint32_t width = 1u << (tag & 3);
    if (!word(width, value)) return false;
    if (tag >= 0xd0) {
      const uint32_t unused = 64 - width * 8;
      const int64_t sign = static_cast<int64_t>(*value << unused) >> unused;
      *value = static_cast<uint64_t>(sign);
      *negative = sign < 0;
    }
    return true;
  }
};

#define TEXT(view, text) (view).is(text, sizeof(text) - 1)

}  // namespace

uint32_t read_msgpack(BatchColumns* b, uint8_t* data, size_t data_size, const uint8_t* message, size_t size, BatchHead* head) {
  Cursor c{message, message + size};
  View key, value, octets{}, lengths{}, ports{}, times{};
  bool timed = false, port_column = false, negative;
  uint64_t entries, id, port = 0;
  uint32_t seen = 0;
  head->flags = 0;
  if (!c.map(&entries)) return 0;
  for (; entries > 0; entries--) {
    if (!c.string(&key)) return 0;
    if (TEXT(key, "type")) {
      if (!c.string(&value) || !TEXT(value, "batch")) return 0;
      seen |= 1;
    } else if (TEXT(key, "batchId")) {
      if (!c.integer(&id, &negative)) return 0;
      take_id(head, id, negative);
      seen |= 2;
    } else if (TEXT(key, "data")) {
      if (!c.binary(&octets)) return 0;
      seen |= 4;
    } else if (TEXT(key, "length")) {
      if (!c.binary(&lengths) || lengths.size % 4 != 0) return 0;
      seen |= 8;
    } else if (TEXT(key, "inPort")) {
      if (c.is_binary()) {
        if (!c.binary(&ports) || ports.size % 4 != 0) return 0;
        port_column = true;
      } else if (!c.integer(&port, &negative) || negative || port > UINT32_MAX) {
        return 0;
      }
      seen |= 16;
    } else if (TEXT(key, "time")) {
      if (!c.binary(&times) || times.size % 8 != 0) return 0;
      timed = true;
    } else if (TEXT(key, "returnPackets")) {
      if (!c.left(1) || (*c.at & 0xfe) != 0xc2) return 0;
      head->flags = (head->flags & ~static_cast<uint32_t>(HEAD_RETURN_PACKETS)) | (*c.at++ == 0xc3 ? HEAD_RETURN_PACKETS : 0u);
    } else {
      return 0;
    }
  }
  const size_t frames = lengths.size / 4;
  if (seen != 31 || c.at != c.end || frames < 1 || frames > BATCH_ROWS) return 0;
  if (octets.size > BATCH_OCTETS || octets.size > data_size) return 0;
  if (port_column && ports.size != 4 && ports.size != lengths.size) return 0;
  if (timed && times.size != frames * 8) return 0;
  std::memcpy(b->length, lengths.at, lengths.size);
  const auto rows = static_cast<uint32_t>(frames);
  if (!place(b, rows, octets.size)) return 0;
  if (port_column && ports.size == lengths.size) {
    std::memcpy(b->in_port, ports.at, ports.size);
  } else {
    uint32_t one = static_cast<uint32_t>(port);
    if (port_column) std::memcpy(&one, ports.at, 4);
    spread(b->in_port, one, rows);
  }
  if (timed) {
    std::memcpy(b->time_ns, times.at, times.size);
    head->flags |= HEAD_TIMED;
  }
  std::memcpy(data, octets.at, octets.size);
  return rows;
}

namespace {

struct Writer {
  uint8_t* at;
  void raw(const void* octets, size_t size) {
    std::memcpy(at, octets, size);
    at += size;
  }
  void word(uint64_t value, uint32_t width) {
    for (uint32_t i = 0; i < width; i++) *at++ = static_cast<uint8_t>(value >> (8 * (width - 1 - i)));
  }
  // A key of at most 31 octets and a bin with a 32-bit length, as src/batch/msgpack.ts writes them.
  void column(const char* key, size_t key_size, const void* octets, size_t size) {
    *at++ = static_cast<uint8_t>(0xa0 | key_size);
    raw(key, key_size);
    *at++ = 0xc6;
    word(size, 4);
    raw(octets, size);
  }
  void varint(uint64_t value) {
    while (value > 0x7f) {
      *at++ = static_cast<uint8_t>(value | 0x80);
      value >>= 7;
    }
    *at++ = static_cast<uint8_t>(value);
  }
  void field(uint32_t number, const void* octets, size_t size) {
    varint(number << 3 | 2);
    varint(size);
    raw(octets, size);
  }
  void packed(uint32_t number, const uint32_t* values, uint32_t count) {
    size_t size = count;
    for (uint32_t i = 0; i < count; i++) {
      const uint32_t value = values[i];
      size += static_cast<size_t>(value > 0x7f) + (value > 0x3fff) + (value > 0x1fffff) + (value > 0xfffffff);
    }
    varint(number << 3 | 2);
    varint(size);
    if (size == count) {
      for (uint32_t i = 0; i < count; i++) at[i] = static_cast<uint8_t>(values[i]);
      at += count;
    } else {
      for (uint32_t i = 0; i < count; i++) varint(values[i]);
    }
  }
};

uint64_t id_of(const BatchHead& head) { return static_cast<uint64_t>(head.id_high) << 32 | head.id_low; }

}  // namespace

size_t write_msgpack(const BatchColumns* b, uint32_t count, const BatchHead& head, uint32_t extra, uint8_t* out) {
  static constexpr char type[] = "\xa4type\xa8verdicts\xa7" "batchId";
  Writer w{out};
  *w.at++ = static_cast<uint8_t>(0x80 | (7 + extra));
  w.raw(type, sizeof(type) - 1);
  *w.at++ = (head.flags & HEAD_NEGATIVE) != 0 ? 0xd3 : 0xcf;
  w.word(id_of(head), 8);
#define COLUMN(name, field, width) w.column(name, sizeof(name) - 1, b->field, static_cast<size_t>(count) * (width))
  COLUMN("verdict", verdict, 1);
  COLUMN("outPort", out_port, 4);
  COLUMN("reason", drop_reason, 1);
  COLUMN("ct", ct, 1);
  COLUMN("rule", rule, 4);
#undef COLUMN
  return static_cast<size_t>(w.at - out);
}

// --- protobuf ---

namespace {

struct Wire {
  const uint8_t* at;
  const uint8_t* end;
  bool left(uint64_t size) const { return static_cast<uint64_t>(end - at) >= size; }
  bool varint(uint64_t* value) {
    if (at < end && *at < 0x80) {
      *value = *at++;
      return true;
    }
    uint64_t sum = 0;
    for (uint32_t shift = 0; shift < 70; shift += 7) {
      if (at == end) return false;
      const uint8_t octet = *at++;
      sum |= static_cast<uint64_t>(octet & 0x7f) << shift;
      if (octet < 0x80) {
        *value = sum;
        return true;
      }
    }
    return false;
  }
  bool view(View* into) {
    uint64_t size;
    if (!varint(&size) || !left(size)) return false;
    *into = {at, static_cast<size_t>(size)};
    at += size;
    return true;
  }
  // A field that is not known. Groups nest; their depth is bounded as in other readers.
  bool skip(uint32_t number, uint32_t type) {
    uint32_t open[64];
    uint32_t depth = 0;
    for (;;) {
      uint64_t value;
      View ignored;
      if (type == 0) {
        if (!varint(&value)) return false;
      } else if (type == 1 || type == 5) {
        const uint32_t size = type == 1 ? 8 : 4;
        if (!left(size)) return false;
        at += size;
      } else if (type == 2) {
        if (!view(&ignored)) return false;
      } else if (type == 3) {
        if (depth == 64) return false;
        open[depth++] = number;
      } else if (type != 4 || depth == 0 || open[--depth] != number) {
        return false;
      }
      if (depth == 0) return true;
      if (!tag(&number, &type)) return false;
    }
  }
  bool tag(uint32_t* number, uint32_t* type) {
    uint64_t value;
    if (!varint(&value) || value > UINT32_MAX || value >> 3 == 0) return false;
    *number = static_cast<uint32_t>(value >> 3);
    *type = value & 7;
    return true;
  }
};

// Appends repeated values to a column; false where the message is broken or has more than a batch has rows.
bool append_varints(Wire wire, uint32_t* column, uint32_t* count) {
  uint32_t n = *count;
  while (wire.at < wire.end) {
    uint64_t value;
    if (n == BATCH_ROWS || !wire.varint(&value)) return false;
    column[n++] = static_cast<uint32_t>(value);
  }
  *count = n;
  return true;
}

}  // namespace

uint32_t read_protobuf(BatchColumns* b, uint8_t* data, size_t data_size, const uint8_t* message, size_t size, BatchHead* head) {
  Wire wire{message, message + size};
  View octets{message, 0}, part{};
  uint32_t frames = 0, ports = 0, times = 0, number, type;
  uint64_t value;
  *head = {0, 0, 0};
  while (wire.at < wire.end) {
    if (!wire.tag(&number, &type)) return 0;
    if (number == 1 && type == 0) {
      if (!wire.varint(&value)) return 0;
      take_id(head, value, false);
    } else if (number == 2 && type == 2) {
      if (!wire.view(&octets)) return 0;
    } else if ((number == 3 || number == 4) && type == 2) {
      if (!wire.view(&part)) return 0;
      const Wire values{part.at, part.at + part.size};
      if (!(number == 3 ? append_varints(values, b->length, &frames) : append_varints(values, b->in_port, &ports))) return 0;
    } else if ((number == 3 || number == 4) && type == 0) {
      uint32_t& count = number == 3 ? frames : ports;
      if (count == BATCH_ROWS || !wire.varint(&value)) return 0;
      (number == 3 ? b->length : b->in_port)[count++] = static_cast<uint32_t>(value);
    } else if (number == 5 && (type == 1 || type == 2)) {
      if (type == 2) {
        if (!wire.view(&part)) return 0;
      } else {
        if (!wire.left(8)) return 0;
        part = {wire.at, 8};
        wire.at += 8;
      }
      if (part.size % 8 != 0 || part.size / 8 > BATCH_ROWS - times) return 0;
      std::memcpy(b->time_ns + times, part.at, part.size);
      times += static_cast<uint32_t>(part.size / 8);
    } else if (number == 6 && type == 0) {
      if (!wire.varint(&value)) return 0;
      head->flags = (head->flags & ~static_cast<uint32_t>(HEAD_RETURN_PACKETS)) | (value != 0 ? HEAD_RETURN_PACKETS : 0u);
    } else if (!wire.skip(number, type)) {
      return 0;
    }
  }
  if (frames < 1 || octets.size > BATCH_OCTETS || octets.size > data_size) return 0;
  if ((ports != 1 && ports != frames) || (times != 0 && times != frames)) return 0;
  if (!place(b, frames, octets.size)) return 0;
  if (ports == 1) spread(b->in_port, b->in_port[0], frames);
  if (times != 0) head->flags |= HEAD_TIMED;
  std::memcpy(data, octets.at, octets.size);
  return frames;
}

size_t write_protobuf(const BatchColumns* b, uint32_t count, const BatchHead& head, uint8_t* out) {
  Writer w{out};
  if (const uint64_t id = id_of(head); id != 0) {
    *w.at++ = 1 << 3;
    w.varint(id);
  }
  w.field(2, b->verdict, count);
  w.packed(3, b->out_port, count);
  w.field(4, b->drop_reason, count);
  w.field(5, b->ct, count);
  w.packed(6, b->rule, count);
  return static_cast<size_t>(w.at - out);
}

}  // namespace seine
