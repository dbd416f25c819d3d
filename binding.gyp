{
  "targets": [
    {
      "target_name": "seine",
      "sources": [
        "native/addon.cc",
        "native/capture.cc",
        "native/datagrams.cc",
        "native/export.cc",
        "native/parse.cc",
        "native/tuple_hash.cc",
        "native/checksum.cc",
        "native/compose.cc",
        "native/replay.cc",
        "native/judge.cc",
        "native/rule_tree.cc",
        "native/sweep.cc",
        "native/table.cc",
        "native/state_file.cc",
        "native/policy.cc",
        "native/message.cc",
        "native/memif_addon.cc",
        "native/memif_client.cc",
        "native/memif_control.cc",
        "native/memif_memory.cc",
        "native/memif_poller.cc",
        "native/memif_rings.cc",
        "native/memif_signal.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_CPP_EXCEPTIONS"],
      "cflags!": ["-fno-exceptions"],
      "cflags_cc!": ["-fno-exceptions", "-std=gnu++17"],
      "cflags_cc": ["-std=gnu++20", "-O3", "-fexceptions", "-Wall", "-Wextra"]
    }
  ]
}
