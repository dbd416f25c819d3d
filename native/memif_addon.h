// The memif part of the addon: see src/native/memif.ts, which documents it.
#pragma once
#include <napi.h>
void init_memif(Napi::Env env, Napi::Object exports);
