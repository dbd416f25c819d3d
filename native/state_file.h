// Files whose pages are shared memory: what lies in them outlives the process. N-API has no SharedArrayBuffer over memory
// of one's own before Node 24, so that this file alone speaks to V8.
#pragma once
#include <napi.h>

namespace seine {
// lockFile(fd, taken): flock(2), exclusive, without waiting, or gives it back; false where another open file holds it.
Napi::Value LockFile(const Napi::CallbackInfo& info);
// reserveFile(fd, size): posix_fallocate(3), so that no store into the mapping can meet a full disk (SIGBUS).
Napi::Value ReserveFile(const Napi::CallbackInfo& info);
// mapFile(fd, offset, size): a SharedArrayBuffer that is those octets of the file; unmapped when nobody refers to it.
Napi::Value MapFile(const Napi::CallbackInfo& info);
}  // namespace seine
