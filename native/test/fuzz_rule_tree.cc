// Classifies the headers of a file by the trees in it, under sanitizers, in both forms; memory is as large as what is used.
// File, 32-bit words, again and again: words of the tree, headers, tuples, expected results. Exit 3: another result.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>
#include "../rule_tree.h"

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  std::FILE* in = std::fopen(argv[1], "rb");
  if (in == nullptr) return 2;
  uint32_t sizes[2];
  uint32_t trees = 0, headers = 0;
  while (std::fread(sizes, 4, 2, in) == 2) {
    auto* tree = static_cast<uint32_t*>(std::aligned_alloc(64, sizes[0] * size_t{4}));
    if (std::fread(tree, 4, sizes[0], in) != sizes[0]) return 2;
    std::vector<uint32_t> tuples(sizes[1] * size_t{seine::RuleTree::tuple_words(tree)});
    std::vector<int32_t> expected(sizes[1]), found(sizes[1]);
    if (std::fread(tuples.data(), 4, tuples.size(), in) != tuples.size() || std::fread(expected.data(), 4, sizes[1], in) != sizes[1]) return 2;
    for (const bool portable : {false, true}) {
      seine::classify_rules(tree, 5, tuples.data(), sizes[1], found.data(), portable);
      if (found != expected) return 3;
    }
    std::free(tree);
    trees++;
    headers += sizes[1];
  }
  std::fclose(in);
  std::printf("%u trees, %u headers\n", trees, headers);
  return 0;
}
