#include "state_file.h"
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <v8.h>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace seine {
namespace {

constexpr double LARGEST = 9007199254740991.0;  // 2^53 − 1

int descriptor(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsNumber()) throw Napi::TypeError::New(info.Env(), "fd is a descriptor");
  const double fd = info[0].As<Napi::Number>().DoubleValue();
  if (!(fd >= 0 && fd <= INT32_MAX)) throw Napi::RangeError::New(info.Env(), "fd is a descriptor");
  return static_cast<int>(fd);
}

uint64_t octets(const Napi::CallbackInfo& info, size_t index, const char* what) {
  if (index >= info.Length() || !info[index].IsNumber()) throw Napi::TypeError::New(info.Env(), what);
  const double value = info[index].As<Napi::Number>().DoubleValue();
  if (!(value >= 0 && value <= LARGEST) || value != std::floor(value)) throw Napi::RangeError::New(info.Env(), what);
  return static_cast<uint64_t>(value);
}

[[noreturn]] void fail(const Napi::CallbackInfo& info, int error) { throw Napi::Error::New(info.Env(), std::strerror(error)); }

// The backing store's deleter; may run on any thread.
void unmap(void* data, size_t length, void*) { munmap(data, length); }

}  // namespace

Napi::Value LockFile(const Napi::CallbackInfo& info) {
  const bool taken = info.Length() > 1 && info[1].ToBoolean();
  if (flock(descriptor(info), taken ? LOCK_EX | LOCK_NB : LOCK_UN) == 0) return Napi::Boolean::New(info.Env(), true);
  if (errno != EWOULDBLOCK) fail(info, errno);
  return Napi::Boolean::New(info.Env(), false);
}

Napi::Value ReserveFile(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info);
  int error;
  do error = posix_fallocate(fd, 0, static_cast<off_t>(octets(info, 1, "size is a number of octets")));
  while (error == EINTR);
  if (error != 0) fail(info, error);
  return info.Env().Undefined();
}

Napi::Value MapFile(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info);
  const uint64_t offset = octets(info, 1, "offset is a number of octets"), size = octets(info, 2, "size is a number of octets");
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  struct stat about;
  if (fstat(fd, &about) != 0) fail(info, errno);
  // A page beyond the end of the file would be there, and kill who touches it.
  const uint64_t length = static_cast<uint64_t>(about.st_size);
  if (size == 0 || offset % page != 0 || offset > length || size > length - offset)
    throw Napi::RangeError::New(info.Env(), "the region begins on a page and lies inside the file");
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (data == MAP_FAILED) fail(info, errno);
  auto* isolate = v8::Isolate::GetCurrent();
  std::shared_ptr<v8::BackingStore> store = v8::SharedArrayBuffer::NewBackingStore(data, size, unmap, nullptr);
  v8::Local<v8::Value> buffer = v8::SharedArrayBuffer::New(isolate, std::move(store));
  // As Node's own js_native_api_v8.h does: a napi_value is a local handle.
  napi_value value;
  static_assert(sizeof value == sizeof buffer);
  std::memcpy(static_cast<void*>(&value), static_cast<const void*>(&buffer), sizeof value);
  return Napi::Value(info.Env(), value);
}

}  // namespace seine
