// The memif part of the addon: checks every argument. Documented in src/native/memif.ts.
#include "memif_addon.h"
#include <uv.h>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "compose.h"
#include "memif_client.h"
#include "memif_poller.h"

namespace {

using Napi::CallbackInfo;
using namespace seine;

[[noreturn]] void refuse(const CallbackInfo& info, const char* what) { throw Napi::TypeError::New(info.Env(), what); }
[[noreturn]] void fail(Napi::Env env, const char* call) {
  throw Napi::Error::New(env, std::string(call) + ": " + std::strerror(errno));
}

template <typename T>
struct Span {
  T* data;
  size_t size;
};
template <typename T>
Span<T> array(const CallbackInfo& info, size_t index, napi_typedarray_type type, const char* what) {
  napi_typedarray_type found;
  size_t length;
  void* data;
  if (index >= info.Length() || !info[index].IsTypedArray() ||
      napi_get_typedarray_info(info.Env(), info[index], &found, &length, &data, nullptr, nullptr) != napi_ok || found != type)
    refuse(info, what);
  return {static_cast<T*>(data), length};
}
uint32_t number(const CallbackInfo& info, size_t index, const char* what, uint32_t largest) {
  const double value = index < info.Length() && info[index].IsNumber() ? info[index].As<Napi::Number>().DoubleValue() : -1;
  if (!(value >= 0 && value <= largest)) refuse(info, what);
  return static_cast<uint32_t>(value);
}
BatchColumns* columns(const CallbackInfo& info, size_t index) {
  const auto block = array<uint8_t>(info, index, napi_uint8_array, "the batch's column block is a Uint8Array");
  if (block.size < sizeof(BatchColumns) || reinterpret_cast<uintptr_t>(block.data) % 8 != 0)
    refuse(info, "the batch's column block is too small or not aligned");
  return reinterpret_cast<BatchColumns*>(block.data);
}

/** Calls back in a thread's event loop when a descriptor is readable. Does not keep the loop alive. */
class DescriptorWatch : public Napi::ObjectWrap<DescriptorWatch> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "DescriptorWatch", {InstanceMethod("close", &DescriptorWatch::Close)});
  }
  explicit DescriptorWatch(const CallbackInfo& info) : Napi::ObjectWrap<DescriptorWatch>(info) {
    const int fd = static_cast<int>(number(info, 0, "fd is a descriptor", INT32_MAX));
    if (info.Length() < 2 || !info[1].IsFunction()) refuse(info, "the callback is a function");
    uv_loop_t* loop;
    if (napi_get_uv_event_loop(info.Env(), &loop) != napi_ok) refuse(info, "this thread has no event loop");
    auto watch = std::make_unique<Watch>(info.Env(), info[1].As<Napi::Function>());
    if (const int error = uv_poll_init(loop, &watch->poll, fd)) throw Napi::Error::New(info.Env(), uv_strerror(error));
    watch_ = watch.release();
    watch_->poll.data = watch_;
    uv_unref(reinterpret_cast<uv_handle_t*>(&watch_->poll));
    // A thread that ends waits until the handle is closed.
    napi_add_async_cleanup_hook(info.Env(), [](napi_async_cleanup_hook_handle, void* data) { static_cast<Watch*>(data)->close(); },
                                watch_, &watch_->hook);
    if (const int error = uv_poll_start(&watch_->poll, UV_READABLE, on_readable)) {
      std::exchange(watch_, nullptr)->owner_gone();
      throw Napi::Error::New(info.Env(), uv_strerror(error));
    }
  }
  ~DescriptorWatch() override {
    // The hook may have closed it, and is then the one to forget it.
    if (watch_ != nullptr) watch_->owner_gone();
  }

 private:
  struct Watch {
    Watch(Napi::Env env, Napi::Function function) : env(env), callback(Napi::Persistent(function)), context(env, "memif") {}
    void close() {
      if (closing) return;
      closing = true;
      callback.Reset();
      uv_close(reinterpret_cast<uv_handle_t*>(&poll), [](uv_handle_t* handle) {
        auto* watch = static_cast<Watch*>(handle->data);
        napi_remove_async_cleanup_hook(watch->hook);
        watch->closed = true;
        if (watch->ownerless) delete watch;
      });
    }
    void owner_gone() {
      ownerless = true;
      if (closed) delete this;
      else close();
    }
    uv_poll_t poll;
    napi_async_cleanup_hook_handle hook = nullptr;
    Napi::Env env;
    Napi::FunctionReference callback;
    Napi::AsyncContext context;
    bool closing = false, closed = false, ownerless = false;
  };
  static void on_readable(uv_poll_t* poll, int, int) {
    auto* watch = static_cast<Watch*>(poll->data);
    // Plain N-API: a thread that is ended within the callback (process.exit) leaves a state that node-addon-api aborts in.
    const napi_env env = watch->env;
    napi_handle_scope scope;
    if (napi_open_handle_scope(env, &scope) != napi_ok) return;
    napi_value global, callback, result, error;
    if (napi_get_global(env, &global) == napi_ok && napi_get_reference_value(env, watch->callback, &callback) == napi_ok &&
        napi_make_callback(env, watch->context, global, callback, 0, nullptr, &result) != napi_ok) {
      bool pending = false;
      if (napi_is_exception_pending(env, &pending) == napi_ok && pending && napi_get_and_clear_last_exception(env, &error) == napi_ok)
        napi_fatal_exception(env, error);
    }
    napi_close_handle_scope(env, scope);
  }
  Napi::Value Close(const CallbackInfo& info) {
    watch_->close();
    return info.Env().Undefined();
  }
  Watch* watch_ = nullptr;
};

/** Hubs by number: what the threads of one engine share. A hub lives while its listener or a poller of it does. */
std::mutex hubs_mutex;
std::map<uint32_t, std::weak_ptr<memif::Hub>> hubs;
uint32_t next_hub = 1;

class Listener : public Napi::ObjectWrap<Listener> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "MemifListener",
                       {InstanceAccessor<&Listener::Descriptor>("descriptor"), InstanceAccessor<&Listener::HubNumber>("hub"),
                        InstanceMethod("accept", &Listener::Accept), InstanceMethod("close", &Listener::Close)});
  }
  explicit Listener(const CallbackInfo& info) : Napi::ObjectWrap<Listener>(info) {
    if (info.Length() < 1 || !info[0].IsString()) refuse(info, "path is a string");
    const std::string path = info[0].As<Napi::String>().Utf8Value();
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path) refuse(info, "path does not fit a socket's address");
    std::memcpy(address.sun_path, path.data(), path.size());
    fd_ = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd_ < 0) fail(info.Env(), "socket");
    if (bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || listen(fd_, 64) != 0) {
      const int error = errno;
      ::close(std::exchange(fd_, -1));
      errno = error;
      fail(info.Env(), "bind");
    }
    hub_ = std::make_shared<memif::Hub>();
    const std::lock_guard lock(hubs_mutex);
    number_ = next_hub++;
    hubs[number_] = hub_;
  }
  ~Listener() override { end(); }

 private:
  void end() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    const std::lock_guard lock(hubs_mutex);
    hubs.erase(number_);
    hub_.reset();
  }
  Napi::Value Descriptor(const CallbackInfo& info) { return Napi::Number::New(info.Env(), fd_); }
  Napi::Value HubNumber(const CallbackInfo& info) { return Napi::Number::New(info.Env(), number_); }
  Napi::Value Accept(const CallbackInfo& info) {
    const int client = fd_ < 0 ? -1 : accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client >= 0) return Napi::Number::New(info.Env(), client);
    if (fd_ >= 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) fail(info.Env(), "accept");
    return info.Env().Null();
  }
  Napi::Value Close(const CallbackInfo& info) {
    end();
    return info.Env().Undefined();
  }
  int fd_ = -1;
  uint32_t number_ = 0;
  std::shared_ptr<memif::Hub> hub_;
};

class Poller : public Napi::ObjectWrap<Poller> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "MemifPoller",
                       {InstanceAccessor<&Poller::Descriptor>("descriptor"), InstanceMethod("adopt", &Poller::Adopt),
                        InstanceMethod("service", &Poller::Service), InstanceMethod("receive", &Poller::Receive),
                        InstanceMethod("interrupts", &Poller::Interrupts), InstanceMethod("sendRows", &Poller::SendRows),
                        InstanceMethod("sendFrames", &Poller::SendFrames), InstanceMethod("close", &Poller::Close)});
  }
  explicit Poller(const CallbackInfo& info) : Napi::ObjectWrap<Poller>(info) {
    const uint32_t hub = number(info, 0, "hub is a number", UINT32_MAX);
    std::shared_ptr<memif::Hub> found;
    {
      const std::lock_guard lock(hubs_mutex);
      if (const auto at = hubs.find(hub); at != hubs.end()) found = at->second.lock();
    }
    if (found == nullptr) refuse(info, "there is no such hub");
    try {
      poller_ = std::make_unique<memif::Poller>(std::move(found));
    } catch (const std::exception& error) {
      throw Napi::Error::New(info.Env(), error.what());
    }
  }

 private:
  Napi::Value Descriptor(const CallbackInfo& info) { return Napi::Number::New(info.Env(), poller_->descriptor()); }

  // adopt(fd) → handle
  Napi::Value Adopt(const CallbackInfo& info) {
    return Napi::Number::New(info.Env(), poller_->adopt(static_cast<int>(number(info, 0, "fd is a descriptor", INT32_MAX))));
  }

  // service() → events
  Napi::Value Service(const CallbackInfo& info) {
    poller_->service();
    return events(info.Env());
  }
  Napi::Value events(Napi::Env env) {
    // Fields end with unit separators, events with record separators: names and reasons are printable. Making an object takes
    // more of the engine than a thread that another one ends can count on.
    std::string text;
    for (const memif::Event& event : poller_->take_events()) {
      for (const uint32_t value : {event.handle, event.closed ? 1u : 0u, event.violation ? 1u : 0u, event.port})
        text += std::to_string(value) + '\x1f';
      text += event.client + '\x1f' + event.reason + '\x1e';
    }
    return Napi::String::New(env, text);
  }

  // receive(block, data, rowsMax, totals) → rows
  Napi::Value Receive(const CallbackInfo& info) {
    auto* batch = columns(info, 0);
    const auto data = array<uint8_t>(info, 1, napi_uint8_array, "data is a Uint8Array");
    const uint32_t rows = number(info, 2, "rowsMax is at most a batch's rows", BATCH_ROWS);
    const auto totals = array<uint32_t>(info, 3, napi_uint32_array, "totals is a Uint32Array");
    if (totals.size < 1 || data.size < memif::FRAME_MAX_SIZE) refuse(info, "an argument of receive is too short");
    const auto received = poller_->receive(batch, data.data, data.size, rows);
    totals.data[0] += received.bad_size;
    return Napi::Number::New(info.Env(), received.rows);
  }

  // interrupts(wanted) → false when frames wait already
  Napi::Value Interrupts(const CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), poller_->ask_for_interrupts(info.Length() > 0 && info[0].IsBoolean() && info[0].As<Napi::Boolean>().Value()));
  }

  void add(const CallbackInfo& info, size_t index, const memif::Sent& sent) {
    const auto totals = array<uint32_t>(info, index, napi_uint32_array, "totals is a Uint32Array");
    if (totals.size < 5) refuse(info, "totals is too short");
    totals.data[1] += sent.sent;
    totals.data[2] += sent.no_interface;
    totals.data[3] += sent.ring_full;
    totals.data[4] += sent.too_long;
  }

  // sendRows(block, data, table, count, totals)
  Napi::Value SendRows(const CallbackInfo& info) {
    const auto* b = columns(info, 0);
    const auto data = array<uint8_t>(info, 1, napi_uint8_array, "data is a Uint8Array");
    const auto table = array<uint8_t>(info, 2, napi_uint8_array, "the rewrite table is a Uint8Array");
    const uint32_t count = number(info, 3, "count is a number of rows", BATCH_ROWS);
    if (table.size != REWRITE_TABLE_SIZE) refuse(info, "the rewrite table has another size");
    for (uint32_t row = 0; row < count; row++) {
      if (b->verdict[row] != FORWARD) continue;
      const uint32_t length = b->length[row];
      if (length > memif::FRAME_MAX_SIZE || length > data.size || b->offset[row] > data.size - length)
        refuse(info, "a row's frame lies outside the batch's data");
      if ((b->rewrite[row] & (DECREMENT_TTL | DECREMENT_TTL_TWICE)) != 0 &&
          b->l3_offset[row] + (b->kind[row] == IP6 ? 40u : 20u) > length)
        refuse(info, "a row to be rewritten has no IP header");
      if ((b->rewrite[row] & DESTINATION_MAC) != 0 && length < 14) refuse(info, "a row to be rewritten has no Ethernet header");
    }
    memif::Sent sent;
    memif::send_rows(poller_->hub(), b, data.data, table.data, count, sent);
    add(info, 4, sent);
    return info.Env().Undefined();
  }

  // sendFrames(frames, lengths, ports, count, totals)
  Napi::Value SendFrames(const CallbackInfo& info) {
    const auto frames = array<uint8_t>(info, 0, napi_uint8_array, "frames is a Uint8Array");
    const auto lengths = array<uint32_t>(info, 1, napi_uint32_array, "lengths is a Uint32Array");
    const auto ports = array<uint32_t>(info, 2, napi_uint32_array, "ports is a Uint32Array");
    const uint32_t count = number(info, 3, "count is at most a batch's rows", BATCH_ROWS);
    if (lengths.size < count || ports.size < count) refuse(info, "an argument of sendFrames is too short");
    size_t octets = 0;
    for (uint32_t i = 0; i < count; i++) octets += lengths.data[i];
    if (octets > frames.size) refuse(info, "a frame lies outside frames");
    memif::Sent sent;
    memif::send_frames(poller_->hub(), frames.data, lengths.data, ports.data, count, sent);
    add(info, 4, sent);
    return info.Env().Undefined();
  }

  // close(handle, reason)
  Napi::Value Close(const CallbackInfo& info) {
    if (info.Length() < 2 || !info[1].IsString()) refuse(info, "reason is a string");
    poller_->close(number(info, 0, "handle is a number", UINT32_MAX), info[1].As<Napi::String>().Utf8Value().c_str());
    return events(info.Env());
  }

  std::unique_ptr<memif::Poller> poller_;
};

class Client : public Napi::ObjectWrap<Client> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "MemifClient", {InstanceMethod("send", &Client::Send), InstanceMethod("taken", &Client::Taken),
                                            InstanceMethod("receive", &Client::Receive), InstanceMethod("closed", &Client::Closed),
                                            InstanceMethod("close", &Client::Close)});
  }
  explicit Client(const CallbackInfo& info) : Napi::ObjectWrap<Client>(info) {
    if (info.Length() < 1 || !info[0].IsString()) refuse(info, "path is a string");
    client_ = std::make_unique<memif::Client>();
    const std::string failure = client_->connect(info[0].As<Napi::String>().Utf8Value(), number(info, 1, "port is a number", UINT32_MAX),
                                                 static_cast<uint8_t>(number(info, 2, "log2 is at most 14", memif::LOG2_RING_SIZE_MAX)),
                                                 number(info, 3, "buffer is at most a frame", memif::FRAME_MAX_SIZE + COMPOSE_OVERHEAD_MAX));
    if (!failure.empty()) throw Napi::Error::New(info.Env(), failure);
  }

 private:
  void open(const CallbackInfo& info) {
    if (client_ == nullptr) refuse(info, "the client is closed");
  }
  // send(frames, offsets, lengths, first) → frames put
  Napi::Value Send(const CallbackInfo& info) {
    open(info);
    const auto frames = array<uint8_t>(info, 0, napi_uint8_array, "frames is a Uint8Array");
    const auto offsets = array<uint32_t>(info, 1, napi_uint32_array, "offsets is a Uint32Array");
    const auto lengths = array<uint32_t>(info, 2, napi_uint32_array, "lengths is a Uint32Array");
    const uint32_t first = number(info, 3, "first is a frame", UINT32_MAX);
    if (lengths.size != offsets.size || first > lengths.size || lengths.size > UINT32_MAX) refuse(info, "offsets and lengths do not fit");
    for (size_t i = first; i < lengths.size; i++)
      if (lengths.data[i] > frames.size || offsets.data[i] > frames.size - lengths.data[i]) refuse(info, "a frame lies outside frames");
    return Napi::Number::New(info.Env(), client_->send(frames.data, offsets.data + first, lengths.data + first,
                                                       static_cast<uint32_t>(lengths.size) - first));
  }
  Napi::Value Taken(const CallbackInfo& info) {
    open(info);
    return Napi::Number::New(info.Env(), client_->taken());
  }
  Napi::Value Receive(const CallbackInfo& info) {
    open(info);
    return Napi::Number::New(info.Env(), client_->receive());
  }
  Napi::Value Closed(const CallbackInfo& info) { return Napi::Boolean::New(info.Env(), client_ == nullptr || client_->closed()); }
  Napi::Value Close(const CallbackInfo& info) {
    client_.reset();
    return info.Env().Undefined();
  }
  std::unique_ptr<memif::Client> client_;
};

}  // namespace

void init_memif(Napi::Env env, Napi::Object exports) {
  exports.Set("DescriptorWatch", DescriptorWatch::define(env));
  exports.Set("MemifListener", Listener::define(env));
  exports.Set("MemifPoller", Poller::define(env));
  exports.Set("MemifClient", Client::define(env));
}
