// The addon: checks every argument, then calls a kernel on raw pointers. One call per batch. Kernels know no N-API.
#include <fcntl.h>
#include <napi.h>
#include <memory>
#include <vector>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <initializer_list>
#include <utility>
#include "batch.h"
#include "capture.h"
#include "checksum.h"
#include "compose.h"
#include "datagrams.h"
#include "entry.h"
#include "export.h"
#include "memif_addon.h"
#include "message.h"
#include "parse.h"
#include "policy.h"
#include "judge.h"
#include "records.h"
#include "replay.h"
#include "rule_tree.h"
#include "state_file.h"
#include "sweep.h"
#include "tuple_hash.h"

namespace {

using Napi::CallbackInfo;

[[noreturn]] void refuse(const CallbackInfo& info, const char* what) { throw Napi::TypeError::New(info.Env(), what); }
[[noreturn]] void refuse_range(const CallbackInfo& info, const char* what) { throw Napi::RangeError::New(info.Env(), what); }

template <typename T>
struct Span {
  T* data;
  size_t size;
};

template <typename T>
Span<T> array(const CallbackInfo& info, size_t index, napi_typedarray_type type, const char* what) {
  if (index >= info.Length() || !info[index].IsTypedArray()) refuse(info, what);
  napi_typedarray_type found;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(info.Env(), info[index], &found, &length, &data, nullptr, nullptr) != napi_ok ||
      found != type)
    refuse(info, what);
  return {static_cast<T*>(data), length};
}

uint32_t number(const CallbackInfo& info, size_t index, const char* what, uint32_t largest = UINT32_MAX) {
  if (index >= info.Length() || !info[index].IsNumber()) refuse(info, what);
  const double value = info[index].As<Napi::Number>().DoubleValue();
  if (!(value >= 0 && value <= largest)) refuse_range(info, what);
  return static_cast<uint32_t>(value);
}

seine::BatchColumns* columns(const CallbackInfo& info, size_t index) {
  const auto block = array<uint8_t>(info, index, napi_uint8_array, "the batch's column block is a Uint8Array");
  if (block.size < sizeof(seine::BatchColumns) || reinterpret_cast<uintptr_t>(block.data) % 8 != 0)
    refuse_range(info, "the batch's column block is too small or not aligned");
  return reinterpret_cast<seine::BatchColumns*>(block.data);
}

void check_frames(const CallbackInfo& info, const seine::BatchColumns* b, size_t data_size, uint32_t row) {
  if (b->length[row] > data_size || b->offset[row] > data_size - b->length[row])
    refuse_range(info, "a row's frame lies outside the batch's data");
}

// parseRows(block, data, first, count[, byTable])
Napi::Value ParseRows(const CallbackInfo& info) {
  auto* b = columns(info, 0);
  const auto data = array<uint8_t>(info, 1, napi_uint8_array, "data is a Uint8Array");
  const uint32_t first = number(info, 2, "first is a row"), count = number(info, 3, "count is a number of rows");
  if (first > seine::BATCH_ROWS || count > seine::BATCH_ROWS - first) refuse_range(info, "rows lie outside the batch");
  for (uint32_t row = first; row < first + count; row++) check_frames(info, b, data.size, row);
  seine::parse_rows(b, data.data, first, count, info.Length() > 4 && info[4].ToBoolean());
  return info.Env().Undefined();
}

void check_rows(const CallbackInfo& info, const Span<int32_t>& rows, uint32_t count) {
  if (count > rows.size || count > seine::BATCH_ROWS) refuse_range(info, "count is larger than the list of rows");
  for (uint32_t i = 0; i < count; i++)
    if (rows.data[i] < 0 || rows.data[i] >= static_cast<int32_t>(seine::BATCH_ROWS)) refuse_range(info, "a row lies outside the batch");
}

// A shard's memory, what stands for the objects, and the arrays that must live as long as the pointers into them.
struct ShardHandle {
  seine::Shard shard{};
  seine::Generation generation{};
  bool has_generation = false;
  uint32_t* control = nullptr;  // 2, 3: clock
  std::vector<Napi::ObjectReference> held, held_generation;
};
const napi_type_tag SHARD_TAG = {0x9f3c6a0d5e7b4c21ull, 0xb1d84f60a2c97e35ull};

void hold(const CallbackInfo& info, std::vector<Napi::ObjectReference>& held, size_t from, size_t to) {
  held.clear();
  for (size_t i = from; i < to; i++) held.push_back(Napi::Persistent(info[i].As<Napi::Object>()));
}

// createShard(table, epochs, timeouts, recordTimeouts, classes, counters, rules, endpoints, totals, records, recordsHeader, control,
//             max, maxPerEndpoint, shard, flags: 1 tcpLoose, 2 tcpLiberal, 4 replay)
Napi::Value CreateShard(const CallbackInfo& info) {
  const auto words = array<uint32_t>(info, 0, napi_uint32_array, "the table is a Uint32Array");
  const auto epochs = array<uint32_t>(info, 1, napi_uint32_array, "epochs is a Uint32Array");
  const auto timeouts = array<double>(info, 2, napi_float64_array, "timeouts is a Float64Array");
  const auto record_timeouts = array<double>(info, 3, napi_float64_array, "record timeouts is a Float64Array");
  const auto classes = array<uint8_t>(info, 4, napi_uint8_array, "classes is a Uint8Array");
  const auto counters = array<uint32_t>(info, 5, napi_uint32_array, "counters is a Uint32Array");
  const auto rules = array<uint32_t>(info, 6, napi_uint32_array, "rule counters is a Uint32Array");
  const auto endpoints = array<int32_t>(info, 7, napi_int32_array, "endpoints is an Int32Array");
  const auto totals = array<int32_t>(info, 8, napi_int32_array, "totals is an Int32Array");
  const auto records = array<uint32_t>(info, 9, napi_uint32_array, "records is a Uint32Array");
  const auto header = array<int32_t>(info, 10, napi_int32_array, "the header of records is an Int32Array");
  const auto control = array<uint32_t>(info, 11, napi_uint32_array, "control is a Uint32Array");
  auto handle = std::make_unique<ShardHandle>();
  seine::Shard& shard = handle->shard;
  if (!seine::open_table(words.data, words.size, shard.table)) refuse_range(info, "the table's header does not fit its size");
  if (epochs.size < 65536 || record_timeouts.size < 2 || endpoints.size < 65536 || totals.size < 4 || control.size < 4 || header.size < 17)
    refuse_range(info, "an argument of createShard is too short");
  if (classes.size == 0 || (classes.size & (classes.size - 1)) != 0) refuse_range(info, "classes is a power of two long");
  const auto& t = seine::timeout_indices;
  for (const uint32_t index : {t.tcp_syn_sent, t.tcp_syn_recv, t.tcp_established, t.tcp_fin_wait, t.tcp_time_wait, t.tcp_close, t.udp_first,
                               t.udp_single, t.udp_multiple})
    if (index >= timeouts.size) refuse_range(info, "timeouts is too short");
  if (counters.size < static_cast<size_t>(seine::counter_indices.total) * 2 || seine::counter_indices.total == 0)
    refuse_range(info, "counters is too short");
  for (const void* each : {static_cast<const void*>(counters.data), static_cast<const void*>(rules.data), static_cast<const void*>(control.data)})
    if (reinterpret_cast<uintptr_t>(each) % 8 != 0) refuse_range(info, "counters are not aligned");
  const size_t ring = records.size / seine::RECORD_WORDS;
  if (ring == 0 || (ring & (ring - 1)) != 0 || ring > UINT32_MAX) refuse_range(info, "a ring holds a power of two of records");
  const uint32_t flags = number(info, 15, "flags are bits", 7);
  shard.epochs = epochs.data;
  shard.timeouts = seine::timeouts_ns(timeouts.data);
  shard.record_timeouts = record_timeouts.data;
  shard.classes = classes.data;
  shard.class_mask = static_cast<uint32_t>(classes.size - 1);
  shard.counters = reinterpret_cast<uint64_t*>(counters.data);
  shard.rules = reinterpret_cast<uint64_t*>(rules.data);
  shard.rules_max = static_cast<uint32_t>(rules.size / 6);
  shard.endpoints = endpoints.data;
  shard.totals = totals.data;
  shard.records = {records.data, reinterpret_cast<uint32_t*>(header.data), static_cast<uint32_t>(ring - 1)};
  shard.max = number(info, 12, "max is a number of entries", INT32_MAX);
  shard.max_per_endpoint = number(info, 13, "maxPerEndpoint is a number of entries", INT32_MAX);
  shard.shards = static_cast<uint32_t>(endpoints.size / 65536);
  shard.shard = number(info, 14, "a shard is a number");
  if (shard.shard >= shard.shards || totals.size < (1 + static_cast<size_t>(shard.shards)) * 16) refuse_range(info, "totals and endpoints are of too few shards");
  shard.tcp_loose = (flags & 1) != 0;
  shard.tcp_liberal = (flags & 2) != 0;
  shard.replay = (flags & 4) != 0;
  handle->control = control.data;
  hold(info, handle->held, 0, 12);
  auto external = Napi::External<ShardHandle>::New(info.Env(), handle.release(), [](Napi::Env, ShardHandle* old) { delete old; });
  external.TypeTag(&SHARD_TAG);
  return external;
}

ShardHandle& shard_of(const CallbackInfo& info, size_t index) {
  if (info.Length() <= index || !info[index].IsExternal() || !info[index].As<Napi::External<ShardHandle>>().CheckTypeTag(&SHARD_TAG))
    refuse(info, "the shard is what createShard gave");
  return *info[index].As<Napi::External<ShardHandle>>().Data();
}

seine::PolicyContext policy_context(const CallbackInfo& info, size_t index);

// setGeneration(shard, metering, routes, owners, ownNode, ports, hosts, regions, endpoints, memo, programs, peers, tunnelPort)
Napi::Value SetGeneration(const CallbackInfo& info) {
  ShardHandle& handle = shard_of(info, 0);
  const auto map = [&](size_t index) {
    const auto words = array<uint32_t>(info, index, napi_uint32_array, "an address map is a Uint32Array");
    if (!seine::address_map_fits(words.data, words.size)) refuse_range(info, "an address map does not fit its size");
    return words.data;
  };
  const auto ports = array<uint8_t>(info, 5, napi_uint8_array, "ports is a Uint8Array");
  if (ports.size < 65536 * 8) refuse_range(info, "ports has eight octets a port number");
  seine::Generation next{};
  next.metering = info[1].ToBoolean();
  next.routes = map(2);
  next.owners = map(3);
  next.own_node = map(4);
  next.ports = ports.data;
  next.policy = policy_context(info, 6);
  next.peers = map(11);
  next.tunnel_port = number(info, 12, "tunnelPort is a UDP port", 0xffff);
  handle.generation = next;
  handle.has_generation = true;
  hold(info, handle.held_generation, 2, 12);
  return info.Env().Undefined();
}

// judgeBatch(shard, block, data, count, flags: 1 all columns, 2 hash by table, 4 port 1 brings encapsulated frames, 8 stamp times,
//            own shard, shards, rest)
Napi::Value JudgeBatch(const CallbackInfo& info) {
  ShardHandle& handle = shard_of(info, 0);
  auto* b = columns(info, 1);
  const auto data = array<uint8_t>(info, 2, napi_uint8_array, "data is a Uint8Array");
  const uint32_t count = number(info, 3, "count is a number of rows", seine::BATCH_ROWS);
  const uint32_t flags = number(info, 4, "flags are bits", 15);
  const uint32_t own = number(info, 5, "a shard is a number", 64), shards = number(info, 6, "shards is a number", 64);
  const auto rest = array<int32_t>(info, 7, napi_int32_array, "rest is an Int32Array");
  if (rest.size < count) refuse_range(info, "rest is too short");
  if (!handle.has_generation) refuse_range(info, "the shard has no generation of objects yet");
  for (uint32_t row = 0; row < count; row++) check_frames(info, b, data.size, row);
  uint64_t clock;
  std::memcpy(&clock, handle.control + 2, 8);
  const seine::JudgeOptions options{own, shards, (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0};
  const uint32_t left = seine::judge_batch(handle.shard, handle.generation, b, data.data, count, options, clock, (flags & 8) != 0, rest.data);
  std::memcpy(handle.control + 2, &clock, 8);
  return Napi::Number::New(info.Env(), left);
}

// judgeRows(shard, block, data, rows, count, rest)
Napi::Value JudgeRows(const CallbackInfo& info) {
  ShardHandle& handle = shard_of(info, 0);
  auto* b = columns(info, 1);
  const auto data = array<uint8_t>(info, 2, napi_uint8_array, "data is a Uint8Array");
  const auto rows = array<int32_t>(info, 3, napi_int32_array, "rows is an Int32Array");
  const uint32_t count = number(info, 4, "count is a number of rows");
  const auto rest = array<int32_t>(info, 5, napi_int32_array, "rest is an Int32Array");
  check_rows(info, rows, count);
  if (rest.size < count) refuse_range(info, "rest is too short");
  if (!handle.has_generation) refuse_range(info, "the shard has no generation of objects yet");
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t row = static_cast<uint32_t>(rows.data[i]);
    check_frames(info, b, data.size, row);
    if ((b->flags[row] & seine::TRANSPORT) != 0 && b->length[row] < 14) refuse_range(info, "a row with a transport header has no Ethernet header");
  }
  return Napi::Number::New(info.Env(), seine::judge_rows(handle.shard, handle.generation, b, data.data, rows.data, count, rest.data));
}

// sweepShard(shard, low, high): false where the ring of records is full before the end
Napi::Value SweepShard(const CallbackInfo& info) {
  const ShardHandle& handle = shard_of(info, 0);
  const uint64_t low = number(info, 1, "low is a word"), high = number(info, 2, "high is a word");
  return Napi::Boolean::New(info.Env(), seine::sweep_shard(handle.shard, (high << 32) | low));
}

// replayRows(shard, block, rows, count, slow)
Napi::Value ReplayRows(const CallbackInfo& info) {
  const seine::Shard& shard = shard_of(info, 0).shard;
  auto* b = columns(info, 1);
  const auto rows = array<int32_t>(info, 2, napi_int32_array, "rows is an Int32Array");
  const uint32_t count = number(info, 3, "count is a number of rows");
  const auto slow = array<int32_t>(info, 4, napi_int32_array, "slow is an Int32Array");
  check_rows(info, rows, count);
  if (slow.size < count) refuse_range(info, "slow is too short");
  return Napi::Number::New(info.Env(), seine::replay_rows(shard, b, rows.data, count, slow.data));
}

// composeRows(block, data, table, rows, count, out, outAt, sizes)
Napi::Value ComposeRows(const CallbackInfo& info) {
  const auto* b = columns(info, 0);
  const auto data = array<uint8_t>(info, 1, napi_uint8_array, "data is a Uint8Array");
  const auto table = array<uint8_t>(info, 2, napi_uint8_array, "the rewrite table is a Uint8Array");
  const auto rows = array<int32_t>(info, 3, napi_int32_array, "rows is an Int32Array");
  const uint32_t count = number(info, 4, "count is a number of rows");
  const auto out = array<uint8_t>(info, 5, napi_uint8_array, "out is a Uint8Array");
  const uint32_t out_at = number(info, 6, "outAt is an offset");
  const auto sizes = array<uint32_t>(info, 7, napi_uint32_array, "sizes is a Uint32Array");
  check_rows(info, rows, count);
  if (table.size != seine::REWRITE_TABLE_SIZE || sizes.size < count || out_at > out.size)
    refuse_range(info, "an argument of composeRows is too short");
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t row = static_cast<uint32_t>(rows.data[i]);
    check_frames(info, b, data.size, row);
    if ((b->rewrite[row] & (seine::DECREMENT_TTL | seine::DECREMENT_TTL_TWICE)) != 0 &&
        b->l3_offset[row] + (b->kind[row] == seine::IP6 ? 40u : 20u) > b->length[row])
      refuse_range(info, "a row to be rewritten has no IP header");
    if ((b->rewrite[row] & seine::DESTINATION_MAC) != 0 && b->length[row] < 14)
      refuse_range(info, "a row to be rewritten has no Ethernet header");
  }
  return Napi::Number::New(info.Env(), static_cast<double>(seine::compose_rows(b, data.data, table.data, rows.data, count, out.data,
                                                                               out_at, out.size, sizes.data)));
}

const uint32_t* address_map(const CallbackInfo& info, const Span<uint32_t>& map) {
  if (!seine::address_map_fits(map.data, map.size)) refuse_range(info, "an address map's tables lie outside it");
  return map.data;
}

// A PolicyContext (src/policy/classifier.ts) as five arguments from `index` on: hosts, regions, endpoints, memo, programs.
seine::PolicyContext policy_context(const CallbackInfo& info, size_t index) {
  using namespace seine::PolicyLayout;
  const auto hosts = array<uint32_t>(info, index, napi_uint32_array, "hosts is a Uint32Array");
  const auto regions = array<uint32_t>(info, index + 1, napi_uint32_array, "regions is a Uint32Array");
  const auto endpoints = array<uint32_t>(info, index + 2, napi_uint32_array, "endpoints is a Uint32Array");
  const auto memo = array<uint32_t>(info, index + 3, napi_uint32_array, "memo is a Uint32Array");
  const auto programs = array<int32_t>(info, index + 4, napi_int32_array, "programs is an Int32Array");
  if (memo.size != static_cast<size_t>(BUCKET_WORDS) << BUCKET_BITS) refuse_range(info, "memo has another size");
  return {address_map(info, hosts), address_map(info, regions), endpoints.data,
          static_cast<uint32_t>(endpoints.size / (ENDPOINT_WORDS * 2)), memo.data, programs.data};
}

// policyDecide(hosts, regions, endpoints, memo, programs, questions, count, rules)
Napi::Value PolicyDecide(const CallbackInfo& info) {
  const auto context = policy_context(info, 0);
  const auto questions = array<uint32_t>(info, 5, napi_uint32_array, "questions is a Uint32Array");
  const uint32_t count = number(info, 6, "count is a number of questions");
  const auto rules = array<int32_t>(info, 7, napi_int32_array, "rules is an Int32Array");
  if (count > questions.size / seine::PolicyQuestion::WORDS || count > rules.size) refuse_range(info, "count is larger than the list of questions");
  for (uint32_t i = 0; i < count; i++)
    if (questions.data[static_cast<size_t>(i) * seine::PolicyQuestion::WORDS] > 1) refuse_range(info, "a direction is 0 or 1");
  return Napi::Number::New(info.Env(), seine::policy_decide_all(context, questions.data, count, rules.data));
}

// lookupAddresses(map, addresses, family, count, values)
Napi::Value LookupAddresses(const CallbackInfo& info) {
  const auto* map = address_map(info, array<uint32_t>(info, 0, napi_uint32_array, "an address map is a Uint32Array"));
  const auto addresses = array<uint32_t>(info, 1, napi_uint32_array, "addresses is a Uint32Array");
  const uint32_t family = number(info, 2, "family is 4 or 6"), count = number(info, 3, "count is a number of addresses");
  const auto values = array<uint32_t>(info, 4, napi_uint32_array, "values is a Uint32Array");
  if (family != 4 && family != 6) refuse_range(info, "family is 4 or 6");
  if (count > addresses.size / 4 || count > values.size) refuse_range(info, "count is larger than the list of addresses");
  for (uint32_t i = 0; i < count; i++)
    values.data[i] = seine::address_lookup(map, addresses.data + static_cast<size_t>(i) * 4, static_cast<int>(family));
  return info.Env().Undefined();
}

seine::BatchHead* batch_head(const CallbackInfo& info, size_t index) {
  const auto words = array<uint32_t>(info, index, napi_uint32_array, "head is a Uint32Array");
  if (words.size * 4 < sizeof(seine::BatchHead)) refuse_range(info, "head is too short");
  return reinterpret_cast<seine::BatchHead*>(words.data);
}

// readMsgpack, readProtobuf(block, data, octets, start, end, head)
template <auto read>
Napi::Value ReadBatch(const CallbackInfo& info) {
  auto* b = columns(info, 0);
  const auto data = array<uint8_t>(info, 1, napi_uint8_array, "data is a Uint8Array");
  const auto octets = array<uint8_t>(info, 2, napi_uint8_array, "octets is a Uint8Array");
  const uint32_t start = number(info, 3, "start is an offset"), end = number(info, 4, "end is an offset");
  if (start > end || end > octets.size) refuse_range(info, "the message lies outside the array");
  return Napi::Number::New(info.Env(), read(b, data.data, data.size, octets.data + start, end - start, batch_head(info, 5)));
}

void check_verdicts(const CallbackInfo& info, uint32_t count, const Span<uint8_t>& out, uint32_t at) {
  if (count > seine::BATCH_ROWS) refuse_range(info, "count is larger than a batch");
  if (at > out.size || out.size - at < seine::verdicts_bound(count)) refuse_range(info, "the verdicts may not fit");
}

// writeMsgpack(block, count, head, extra, out, at)
Napi::Value WriteMsgpack(const CallbackInfo& info) {
  const auto* b = columns(info, 0);
  const uint32_t count = number(info, 1, "count is a number of rows");
  const auto* head = batch_head(info, 2);
  const uint32_t extra = number(info, 3, "extra is at most 8", 8);
  const auto out = array<uint8_t>(info, 4, napi_uint8_array, "out is a Uint8Array");
  const uint32_t at = number(info, 5, "at is an offset");
  check_verdicts(info, count, out, at);
  return Napi::Number::New(info.Env(), static_cast<double>(seine::write_msgpack(b, count, *head, extra, out.data + at)));
}

// writeProtobuf(block, count, head, out, at)
Napi::Value WriteProtobuf(const CallbackInfo& info) {
  const auto* b = columns(info, 0);
  const uint32_t count = number(info, 1, "count is a number of rows");
  const auto* head = batch_head(info, 2);
  const auto out = array<uint8_t>(info, 3, napi_uint8_array, "out is a Uint8Array");
  const uint32_t at = number(info, 4, "at is an offset");
  check_verdicts(info, count, out, at);
  return Napi::Number::New(info.Env(), static_cast<double>(seine::write_protobuf(b, count, *head, out.data + at)));
}

// scanRecords(block, data, state, interfaces, ownTime, interfaceId)
Napi::Value ScanRecords(const CallbackInfo& info) {
  auto* b = columns(info, 0);
  const auto data = array<uint8_t>(info, 1, napi_uint8_array, "data is a Uint8Array");
  const auto words = array<uint32_t>(info, 2, napi_uint32_array, "state is a Uint32Array");
  const auto interfaces = array<uint32_t>(info, 3, napi_uint32_array, "interfaces is a Uint32Array");
  const auto own_time = array<uint32_t>(info, 4, napi_uint32_array, "ownTime is a Uint32Array");
  const auto interface_id = array<uint32_t>(info, 5, napi_uint32_array, "interfaceId is a Uint32Array");
  if (words.size * 4 < sizeof(seine::ScanState) || own_time.size < seine::BATCH_ROWS * 2 || interface_id.size < seine::BATCH_ROWS ||
      interfaces.size % 2 != 0)
    refuse_range(info, "an argument of scanRecords is too short");
  auto* state = reinterpret_cast<seine::ScanState*>(words.data);
  // Before a packet lie the octets of a link header that is made there.
  if (state->end > data.size || state->position > state->end || state->position < 16) refuse_range(info, "the window lies outside data");
  if (state->rows_limit > seine::BATCH_ROWS || state->octets > seine::BATCH_OCTETS_LIMIT)
    refuse_range(info, "more rows or octets than a batch holds");
  if (state->format == seine::FORMAT_PCAP && interfaces.size == 0) refuse_range(info, "a pcap file has an interface");
  for (size_t i = 0; i < interfaces.size; i += 2)
    if (interfaces.data[i] >= seine::LINK_KINDS) refuse_range(info, "no such kind of link");
  return Napi::Number::New(
      info.Env(), seine::scan_records(b, data.data, state, reinterpret_cast<const seine::CaptureInterface*>(interfaces.data),
                                      static_cast<uint32_t>(interfaces.size / 2), own_time.data, interface_id.data));
}

// takeRecords(words, count, all, beforeLow, beforeHigh, out)
Napi::Value TakeRecords(const CallbackInfo& info) {
  const auto words = array<uint32_t>(info, 0, napi_uint32_array, "the records are a Uint32Array");
  const uint32_t count = number(info, 1, "count is a number of records");
  const uint32_t low = number(info, 3, "beforeLow is a word"), high = number(info, 4, "beforeHigh is a word");
  const auto out = array<uint32_t>(info, 5, napi_uint32_array, "out is a Uint32Array");
  const size_t size = static_cast<size_t>(count) * seine::RECORD_WORDS;
  if (words.size < size || out.size < size) refuse_range(info, "there is no room for so many records");
  if (size > 0 && words.data < out.data + size && out.data < words.data + size) refuse_range(info, "out lies in the records");
  return Napi::Number::New(info.Env(), seine::take_records(words.data, count, info[2].ToBoolean(),
                                                           (static_cast<uint64_t>(high) << 32) | low, out.data));
}

// encodeRecords(state, words, at, octets)
Napi::Value EncodeRecords(const CallbackInfo& info) {
  const auto state = array<double>(info, 0, napi_float64_array, "state is a Float64Array");
  const auto words = array<uint32_t>(info, 1, napi_uint32_array, "the records are a Uint32Array");
  const uint32_t at = number(info, 2, "at is a word");
  const auto octets = array<uint8_t>(info, 3, napi_uint8_array, "octets is a Uint8Array");
  if (state.size * sizeof(double) < sizeof(seine::Netflow5State)) refuse_range(info, "state is too short");
  if (octets.size < seine::NETFLOW5_HEADER_SIZE + seine::NETFLOW5_RECORDS_MAX * seine::NETFLOW5_RECORD_SIZE)
    refuse_range(info, "a datagram has no room");
  auto* s = reinterpret_cast<seine::Netflow5State*>(state.data);
  if (!(s->records >= 0 && s->records <= seine::NETFLOW5_RECORDS_MAX)) refuse_range(info, "more records than a datagram holds");
  if (s->octets_word != uint32_t{seine::R::OCTETS} && s->octets_word != uint32_t{seine::R::FRAME_OCTETS}) refuse_range(info, "no such counter of octets");
  if (!(s->add_base >= -1 && s->add_base <= 0xffff)) refuse_range(info, "no such base of interfaces");
  return Napi::Number::New(info.Env(), static_cast<double>(seine::encode_records(s, words.data, words.size, at, octets.data)));
}

// sendDatagrams(fd, datagrams, first, count, result): result[0] = how many the kernel took, result[1] = errno of the next
Napi::Value SendDatagrams(const CallbackInfo& info) {
  const int fd = static_cast<int>(number(info, 0, "fd is a descriptor", INT32_MAX));
  if (info.Length() < 2 || !info[1].IsArray()) refuse(info, "datagrams is an array");
  const auto list = info[1].As<Napi::Array>();
  const uint32_t first = number(info, 2, "first is an index"), count = number(info, 3, "count is a number of datagrams");
  const auto result = array<int32_t>(info, 4, napi_int32_array, "result is an Int32Array");
  if (count > seine::DATAGRAMS_MAX || first > list.Length() || count > list.Length() - first || result.size < 2)
    refuse_range(info, "more datagrams than there are, or than one call takes");
  seine::Datagram datagrams[seine::DATAGRAMS_MAX];
  for (uint32_t i = 0; i < count; i++) {
    const Napi::Value value = list[first + i];
    napi_typedarray_type type;
    size_t length;
    void* data;
    if (!value.IsTypedArray() || napi_get_typedarray_info(info.Env(), value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
        type != napi_uint8_array)
      refuse(info, "a datagram is a Uint8Array");
    datagrams[i] = {static_cast<const uint8_t*>(data), length};
  }
  int error;
  result.data[0] = static_cast<int32_t>(seine::send_datagrams(fd, datagrams, count, &error));
  result.data[1] = error;
  return info.Env().Undefined();
}

// checksum(octets, offset, length, initial)
Napi::Value Checksum(const CallbackInfo& info) {
  const auto octets = array<uint8_t>(info, 0, napi_uint8_array, "octets is a Uint8Array");
  const uint32_t offset = number(info, 1, "offset"), length = number(info, 2, "length"), initial = number(info, 3, "initial");
  if (length > octets.size || offset > octets.size - length) refuse_range(info, "the octets lie outside the array");
  return Napi::Number::New(info.Env(), seine::internet_checksum(octets.data + offset, length, initial));
}

// updateChecksum16(checksum, before, after)
Napi::Value UpdateChecksum(const CallbackInfo& info) {
  const auto word = [&](size_t index, const char* what) { return static_cast<uint16_t>(number(info, index, what, 0xffff)); };
  return Napi::Number::New(info.Env(), seine::update_checksum16(word(0, "checksum is 16 bits"), word(1, "before is 16 bits"),
                                                                word(2, "after is 16 bits")));
}

// tupleHash(address, at, family, protocol, srcPort, dstPort[, byTable])
Napi::Value TupleHash(const CallbackInfo& info) {
  const auto address = array<uint32_t>(info, 0, napi_uint32_array, "address is a Uint32Array");
  const uint32_t at = number(info, 1, "at is an index"), family = number(info, 2, "family is 4 or 6");
  if (address.size < 8 || at > address.size - 8) refuse_range(info, "the addresses lie outside the array");
  if (family != 4 && family != 6) refuse_range(info, "family is 4 or 6");
  const auto hash = info.Length() > 6 && info[6].ToBoolean() ? seine::tuple_hash_table : seine::tuple_hash;
  return Napi::Number::New(info.Env(), hash(address.data + at, static_cast<int>(family), number(info, 3, "protocol is 8 bits", 0xff),
                                            number(info, 4, "srcPort is 16 bits", 0xffff), number(info, 5, "dstPort is 16 bits", 0xffff)));
}

// classifyRules(tree, reader, tuples, count, results[, portable])
Napi::Value ClassifyRules(const CallbackInfo& info) {
  using namespace seine::RuleTree;
  const auto tree = array<uint32_t>(info, 0, napi_uint32_array, "the tree is a Uint32Array");
  const uint32_t reader = number(info, 1, "reader is below the number of readers", READERS_MAX - 1);
  const auto tuples = array<uint32_t>(info, 2, napi_uint32_array, "tuples is a Uint32Array");
  const uint32_t count = number(info, 3, "count is a number of headers");
  const auto results = array<int32_t>(info, 4, napi_int32_array, "results is an Int32Array");
  if (tree.size < READERS + READERS_MAX * UNIT_WORDS || tree.data[MAGIC_AT] != MAGIC || tree.data[WORDS] != tree.size ||
      (tree.data[FAMILY] != 4 && tree.data[FAMILY] != 6) || tree.data[VERSION] == 0 || tree.data[VERSION] >= tree.size ||
      reinterpret_cast<uintptr_t>(tree.data) % 8 != 0)
    refuse_range(info, "the tree is not the whole memory of a RuleTree");
  if (count > results.size || count > tuples.size / tuple_words(tree.data)) refuse_range(info, "an argument of classifyRules is too short");
  seine::classify_rules(tree.data, reader, tuples.data, count, results.data, info.Length() > 5 && info[5].ToBoolean());
  return info.Env().Undefined();
}

// cacheLineOffset(words): octets from the array's start to the next cache line.
Napi::Value CacheLineOffset(const CallbackInfo& info) {
  const auto words = array<uint32_t>(info, 0, napi_uint32_array, "the memory is a Uint32Array");
  return Napi::Number::New(info.Env(), static_cast<double>(-reinterpret_cast<uintptr_t>(words.data) & 63));
}

// duplicateDescriptor(fd): dup(2), closed on exec like Node's own descriptors
Napi::Value DuplicateDescriptor(const CallbackInfo& info) {
  const int fd = fcntl(static_cast<int>(number(info, 0, "fd is a descriptor", INT32_MAX)), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) throw Napi::Error::New(info.Env(), std::strerror(errno));
  return Napi::Number::New(info.Env(), fd);
}

// threadCpuNs(): CPU time of the calling thread
Napi::Value ThreadCpuNs(const CallbackInfo& info) {
  timespec spent{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return Napi::Number::New(info.Env(), static_cast<double>(spent.tv_sec) * 1e9 + static_cast<double>(spent.tv_nsec));
}

// sendNow(fd, octets, start, end): send(2) without waiting and without a signal
Napi::Value SendNow(const CallbackInfo& info) {
  const int fd = static_cast<int>(number(info, 0, "fd is a descriptor", INT32_MAX));
  const auto octets = array<uint8_t>(info, 1, napi_uint8_array, "octets is a Uint8Array");
  const uint32_t start = number(info, 2, "start is an offset"), end = number(info, 3, "end is an offset");
  if (start > end || end > octets.size) refuse_range(info, "the octets lie outside the array");
  const ssize_t sent = send(fd, octets.data + start, end - start, MSG_DONTWAIT | MSG_NOSIGNAL);
  return Napi::Number::New(info.Env(), sent < 0 ? 0.0 : static_cast<double>(sent));
}

// adviseHugePages(words): madvise(2) over the whole pages of an array; says whether the kernel took it. Only a hint.
Napi::Value AdviseHugePages(const CallbackInfo& info) {
  const auto words = array<uint32_t>(info, 0, napi_uint32_array, "the memory is a Uint32Array");
  bool taken = false;
#if defined(MADV_HUGEPAGE)
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t start = (reinterpret_cast<uintptr_t>(words.data) + page - 1) & ~(page - 1);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(words.data) + words.size * 4) & ~(page - 1);
  if (end > start) taken = madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE) == 0;
#endif
  return Napi::Boolean::New(info.Env(), taken);
}

// addressOf(words): the low 32 bits of where the array lies, so that tables can begin where cache lines do.
Napi::Value AddressOf(const CallbackInfo& info) {
  const auto words = array<uint32_t>(info, 0, napi_uint32_array, "the memory is a Uint32Array");
  return Napi::Number::New(info.Env(), static_cast<double>(static_cast<uint32_t>(reinterpret_cast<uintptr_t>(words.data))));
}

// setTimeoutIndices({tcpSynSent, …}): where the timeouts lie in the array that replayRows gets.
Napi::Value SetTimeoutIndices(const CallbackInfo& info) {
  const auto given = info[0].As<Napi::Object>();
  const auto index = [&](const char* name) { return given.Get(name).As<Napi::Number>().Uint32Value(); };
  seine::timeout_indices = {index("tcpSynSent"), index("tcpSynRecv"), index("tcpEstablished"), index("tcpFinWait"), index("tcpTimeWait"),
                            index("tcpClose"), index("udpFirst"), index("udpSingle"), index("udpMultiple")};
  return info.Env().Undefined();
}

// setCounterIndices({packets, octets, drops, total}): where counters lie in the block that createShard gets.
Napi::Value SetCounterIndices(const CallbackInfo& info) {
  const auto given = info[0].As<Napi::Object>();
  const auto index = [&](const char* name) { return given.Get(name).As<Napi::Number>().Uint32Value(); };
  const seine::CounterIndices next{index("packets"), index("octets"), index("drops"), index("connectionsCreated"), index("total")};
  if (next.packets + 5 > next.total || next.octets + 5 > next.total || next.drops + 12 * 64 > next.total || next.connections_created >= next.total)
    refuse_range(info, "counters overlap their end");
  seine::counter_indices = next;
  return info.Env().Undefined();
}

Napi::Value Layout(const CallbackInfo& info) {
  auto result = Napi::Object::New(info.Env());
  auto offsets = Napi::Object::New(info.Env());
#define SEINE_X(field, name) offsets.Set(name, static_cast<double>(offsetof(seine::BatchColumns, field)));
#define X(field, name) SEINE_X(field, name)
  SEINE_COLUMNS(X)
#undef X
  auto reasons = Napi::Object::New(info.Env());
#define X(code, name) reasons.Set(name, static_cast<double>(seine::code));
  SEINE_DROP_REASONS(X)
#undef X
  const auto set = [&](const char* group, std::initializer_list<std::pair<const char*, uint32_t>> values) {
    auto object = Napi::Object::New(info.Env());
    for (const auto& [name, value] : values) object.Set(name, static_cast<double>(value));
    result.Set(group, object);
  };
  using namespace seine;
  result.Set("columns", offsets);
  result.Set("size", static_cast<double>(sizeof(BatchColumns)));
  result.Set("reasons", reasons);
  set("verdict", {{"Unspecified", UNSPECIFIED}, {"Forward", FORWARD}, {"Drop", DROP}, {"Reject", REJECT}, {"Consume", CONSUME}});
  set("kind", {{"NonIp", NON_IP}, {"Ip4", IP4}, {"Ip6", IP6}});
  set("rowFlag", {{"Sound", SOUND},
                  {"FragmentFirst", FRAGMENT_FIRST},
                  {"FragmentLater", FRAGMENT_LATER},
                  {"Transport", TRANSPORT},
                  {"IcmpError", ICMP_ERROR},
                  {"Arp", ARP},
                  {"NeighbourDiscovery", NEIGHBOUR_DISCOVERY},
                  {"GroupDestination", GROUP_DESTINATION}});
  set("rewrite", {{"DestinationMac", DESTINATION_MAC},
                  {"DecrementTtl", DECREMENT_TTL},
                  {"DecrementTtlTwice", DECREMENT_TTL_TWICE},
                  {"Encapsulate", ENCAPSULATE}});
  set("ct", {{"New", CT_NEW},
             {"Established", CT_ESTABLISHED},
             {"Reply", CT_REPLY},
             {"Related", CT_RELATED},
             {"Invalid", CT_INVALID},
             {"Tracked", CT_TRACKED}});
  set("size32", {{"entry", ENTRY_WORDS}, {"cold", COLD_WORDS}, {"direction", DIRECTION_WORDS}, {"tcp", TCP_WORDS}, {"plan", PLAN_WORDS}});
  set("ruleTree", {{"EPOCH", RuleTree::EPOCH},
                   {"VERSION", RuleTree::VERSION},
                   {"RULES_AT", RuleTree::RULES_AT},
                   {"FAMILY", RuleTree::FAMILY},
                   {"READERS", RuleTree::READERS},
                   {"MAGIC", RuleTree::MAGIC},
                   {"UNIT_WORDS", RuleTree::UNIT_WORDS},
                   {"READERS_MAX", RuleTree::READERS_MAX},
                   {"LANES", RuleTree::LANES},
                   {"CHAIN", RuleTree::CHAIN}});
  const auto rule_layout = [&]<uint32_t A>(const char* tuple, const char* pack, RuleTree::Layout<A>) {
    using L = RuleTree::Layout<A>;
    set(tuple, {{"size", L::TUPLE_WORDS}, {"dst", L::DST}, {"src", L::SRC}, {"protocol", L::PROTOCOL}, {"ports", L::PORTS}});
    set(pack, {{"size", L::PACK_WORDS}, {"src", L::P_SRC}, {"dst", L::P_DST}, {"meta", L::P_META}, {"srcPorts", L::P_SRC_PORTS},
               {"dstPorts", L::P_DST_PORTS}, {"slot", L::P_SLOT}});
  };
  rule_layout("ruleTuple4", "rulePack4", RuleTree::Layout<1>());
  rule_layout("ruleTuple6", "rulePack6", RuleTree::Layout<4>());
  set("entry", {{"src", E::SRC},
                {"dst", E::DST},
                {"ports", E::PORTS},
                {"key", E::KEY},
                {"status", E::STATUS},
                {"epochs", E::EPOCHS},
                {"expires", E::EXPIRES},
                {"tcp", E::TCP},
                {"discriminator", E::DISCRIMINATOR},
                {"scales", E::SCALES},
                {"activeDue", E::ACTIVE_DUE},
                {"direction", E::DIRECTION}});
  set("cold", {{"first", C::FIRST},
               {"interfaces", C::INTERFACES},
               {"wheelNext", C::WHEEL_NEXT},
               {"wheelPrev", C::WHEEL_PREV},
               {"listNext", C::LIST_NEXT},
               {"listPrev", C::LIST_PREV},
               {"origin", C::ORIGIN},
               {"hash", C::HASH}});
  set("direction", {{"plan", D::PLAN},
                    {"marks", D::MARKS},
                    {"packets", D::PACKETS},
                    {"excess", D::EXCESS},
                    {"octets", D::OCTETS},
                    {"last", D::LAST}});
  set("plan", {{"port", P::PORT},
               {"decision", P::DECISION},
               {"ingressRule", P::INGRESS_RULE},
               {"egressRule", P::EGRESS_RULE},
               {"interfaces", P::INTERFACES},
               {"basis", P::BASIS},
               {"references", P::REFERENCES},
               {"rule", P::RULE}});
  set("tcp", {{"end", T::END}, {"maxEnd", T::MAX_END}, {"maxWindow", T::MAX_WINDOW}});
  set("status", {{"Used", Status::USED},
                 {"SeenReply", Status::SEEN_REPLY},
                 {"Denied", Status::DENIED},
                 {"Loose", Status::LOOSE},
                 {"Multiple", Status::MULTIPLE},
                 {"ListUnreplied", Status::LIST_UNREPLIED},
                 {"ListClosing", Status::LIST_CLOSING},
                 {"Record0", Status::RECORD0},
                 {"Record1", Status::RECORD1},
                 {"Plan0", Status::PLAN0},
                 {"Plan1", Status::PLAN1},
                 {"Closed", Status::CLOSED},
                 {"Flood", Status::FLOOD},
                 {"Cut", Status::CUT},
                 {"Replay0", Status::REPLAY0},
                 {"Replay1", Status::REPLAY1},
                 {"Busy", Status::BUSY}});
  set("endpoint", {{"set", PolicyLayout::SET},
                   {"setId", PolicyLayout::SET_ID},
                   {"defaultDeny", PolicyLayout::DEFAULT_DENY},
                   {"flags", PolicyLayout::FLAGS},
                   {"words", PolicyLayout::ENDPOINT_WORDS}});
  set("endpointFlag", {{"Blocks", PolicyLayout::USES_BLOCKS}});
  set("memo", {{"bucketBits", PolicyLayout::BUCKET_BITS},
               {"ways", PolicyLayout::WAYS},
               {"slot", PolicyLayout::SLOT_WORDS},
               {"bucket", PolicyLayout::BUCKET_WORDS}});
  set("program", {{"parts", PolicyLayout::PARTS}});
  set("question", {{"direction", PolicyQuestion::DIRECTION},
                   {"port", PolicyQuestion::PORT},
                   {"family", PolicyQuestion::FAMILY},
                   {"protocol", PolicyQuestion::PROTOCOL},
                   {"dstPort", PolicyQuestion::DST_PORT},
                   {"peer", PolicyQuestion::PEER},
                   {"words", PolicyQuestion::WORDS}});
  set("record", {{"src", R::SRC},
                 {"dst", R::DST},
                 {"ports", R::PORTS},
                 {"protocol", R::PROTOCOL},
                 {"interfaces", R::INTERFACES},
                 {"verdict", R::VERDICT},
                 {"packets", R::PACKETS},
                 {"octets", R::OCTETS},
                 {"frameOctets", R::FRAME_OCTETS},
                 {"start", R::START},
                 {"end", R::END},
                 {"export", R::EXPORT},
                 {"ingressRule", R::INGRESS_RULE},
                 {"egressRule", R::EGRESS_RULE}});
  const auto wide = [](size_t offset) { return static_cast<uint32_t>(offset / sizeof(double)); };
  set("netflow5", {{"records", wide(offsetof(Netflow5State, records))},
                   {"flows", wide(offsetof(Netflow5State, flows))},
                   {"taken", wide(offsetof(Netflow5State, taken))},
                   {"v6", wide(offsetof(Netflow5State, v6))},
                   {"bootMs", wide(offsetof(Netflow5State, boot_ms))},
                   {"clockMs", wide(offsetof(Netflow5State, clock_ms))},
                   {"clockNs", wide(offsetof(Netflow5State, clock_ns))},
                   {"nowMs", wide(offsetof(Netflow5State, now_ms))},
                   {"nowNs", wide(offsetof(Netflow5State, now_ns))},
                   {"octetsWord", wide(offsetof(Netflow5State, octets_word))},
                   {"addBase", wide(offsetof(Netflow5State, add_base))},
                   {"icmpSource", wide(offsetof(Netflow5State, icmp_source))}});
  const auto word = [](size_t offset) { return static_cast<uint32_t>(offset / 4); };
  set("scan", {{"NeedMore", SCAN_NEED_MORE}, {"Full", SCAN_FULL}, {"Other", SCAN_OTHER}});
  set("scanState", {{"format", word(offsetof(ScanState, format))},
                    {"little", word(offsetof(ScanState, little))},
                    {"position", word(offsetof(ScanState, position))},
                    {"end", word(offsetof(ScanState, end))},
                    {"rowsLimit", word(offsetof(ScanState, rows_limit))},
                    {"count", word(offsetof(ScanState, count))},
                    {"octets", word(offsetof(ScanState, octets))},
                    {"clockLow", word(offsetof(ScanState, clock_low))},
                    {"clockHigh", word(offsetof(ScanState, clock_high))},
                    {"inPort", word(offsetof(ScanState, in_port))},
                    {"inPortStep", word(offsetof(ScanState, in_port_step))}});
  set("captureFormat", {{"Pcap", FORMAT_PCAP}, {"Pcapng", FORMAT_PCAPNG}});
  set("linkKind", {{"Ethernet", LINK_ETHERNET},
                   {"Raw", LINK_RAW},
                   {"Raw4", LINK_RAW4},
                   {"Raw6", LINK_RAW6},
                   {"Loopback", LINK_LOOPBACK},
                   {"Cooked1", LINK_COOKED1},
                   {"Cooked2", LINK_COOKED2}});
  return result;
}

// cpuFeatures(): which forms of the kernels this processor runs.
Napi::Value CpuFeatures(const CallbackInfo& info) {
  auto result = Napi::Object::New(info.Env());
  result.Set("crc32c", seine::tuple_hash_uses_hardware() ? "instruction" : "table");
  result.Set("checksum", seine::checksum_uses_avx2() ? "avx2" : "words");
  result.Set("ruleTree", seine::rule_tree_uses_avx2() ? "avx2" : "words");
  return result;
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(const CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("parseRows", ParseRows);
  add("createShard", CreateShard);
  add("setGeneration", SetGeneration);
  add("judgeBatch", JudgeBatch);
  add("judgeRows", JudgeRows);
  add("sweepShard", SweepShard);
  add("replayRows", ReplayRows);
  add("composeRows", ComposeRows);
  add("policyDecide", PolicyDecide);
  add("lookupAddresses", LookupAddresses);
  add("readMsgpack", ReadBatch<seine::read_msgpack>);
  add("readProtobuf", ReadBatch<seine::read_protobuf>);
  add("writeMsgpack", WriteMsgpack);
  add("writeProtobuf", WriteProtobuf);
  add("scanRecords", ScanRecords);
  add("takeRecords", TakeRecords);
  add("encodeRecords", EncodeRecords);
  add("sendDatagrams", SendDatagrams);
  add("checksum", Checksum);
  add("updateChecksum16", UpdateChecksum);
  add("tupleHash", TupleHash);
  add("classifyRules", ClassifyRules);
  add("cacheLineOffset", CacheLineOffset);
  add("duplicateDescriptor", DuplicateDescriptor);
  add("threadCpuNs", ThreadCpuNs);
  add("sendNow", SendNow);
  add("adviseHugePages", AdviseHugePages);
  add("lockFile", seine::LockFile);
  add("reserveFile", seine::ReserveFile);
  add("mapFile", seine::MapFile);
  add("addressOf", AddressOf);
  add("setTimeoutIndices", SetTimeoutIndices);
  add("setCounterIndices", SetCounterIndices);
  add("layout", Layout);
  add("cpuFeatures", CpuFeatures);
  init_memif(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(seine, Init)
