/* Baseline: DPDK's rte_acl over the rules and headers of a file, compiled by bench/rte-acl.ts. Lookup only, 256 headers a call.
 * File, 32-bit words: rules, headers; of each rule src, length, dst, length, ports src low, high, dst low, high, protocol, mask;
 * of each header dst, src, protocol, ports. Writes 1 + the first rule (0: none) of each to a second file, then one line with the
 * nanoseconds of CPU a header for each line that it reads. Loop and keys as in DPDK's own l3fwd-acl field layout. */
#include <netinet/in.h>
#include <rte_acl.h>
#include <rte_eal.h>
#include <rte_memory.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

struct key { uint8_t proto, pad[3]; uint32_t src, dst; uint16_t sport, dport; };
enum { PROTO, SRC, DST, SPORT, DPORT, FIELDS };
static struct rte_acl_field_def defs[FIELDS] = {
    {RTE_ACL_FIELD_TYPE_BITMASK, 1, PROTO, 0, 0},
    {RTE_ACL_FIELD_TYPE_MASK, 4, SRC, 1, 4},
    {RTE_ACL_FIELD_TYPE_MASK, 4, DST, 2, 8},
    {RTE_ACL_FIELD_TYPE_RANGE, 2, SPORT, 3, 12},
    {RTE_ACL_FIELD_TYPE_RANGE, 2, DPORT, 3, 14},
};
RTE_ACL_RULE_DEF(rule5, FIELDS);

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

/* Transparent huge pages, as our own table asks for. */
static int advise(const struct rte_memseg_list *list, void *arg) {
  (void)arg;
  madvise(list->base_va, list->len, MADV_HUGEPAGE);
  return 0;
}

int main(int argc, char **argv) {
  char *eal[] = {"rte_acl", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m", "3072", "-l", "0", "--log-level", "4"};
  if (argc < 3 || rte_eal_init(sizeof eal / sizeof *eal, eal) < 0) return 2;
  rte_memseg_list_walk(advise, NULL);
  FILE *in = fopen(argv[1], "rb");
  uint32_t counts[2];
  if (in == NULL || fread(counts, 4, 2, in) != 2) return 3;
  struct rte_acl_param param = {"bench", SOCKET_ID_ANY, RTE_ACL_RULE_SZ(FIELDS), counts[0] + 1};
  struct rte_acl_ctx *acl = rte_acl_create(&param);
  if (acl == NULL) return 4;
  for (uint32_t i = 0; i < counts[0]; i++) {
    uint32_t w[10];
    struct rule5 rule;
    memset(&rule, 0, sizeof rule);
    if (fread(w, 4, 10, in) != 10) return 3;
    rule.data.category_mask = 1;
    rule.data.priority = RTE_ACL_MAX_PRIORITY - (int32_t)i;
    rule.data.userdata = i + 1;
    rule.field[PROTO].value.u8 = w[8], rule.field[PROTO].mask_range.u8 = w[9];
    rule.field[SRC].value.u32 = w[0], rule.field[SRC].mask_range.u32 = w[1];
    rule.field[DST].value.u32 = w[2], rule.field[DST].mask_range.u32 = w[3];
    rule.field[SPORT].value.u16 = w[4], rule.field[SPORT].mask_range.u16 = w[5];
    rule.field[DPORT].value.u16 = w[6], rule.field[DPORT].mask_range.u16 = w[7];
    if (rte_acl_add_rules(acl, (struct rte_acl_rule *)&rule, 1) != 0) return 5;
  }
  struct rte_acl_config config;
  memset(&config, 0, sizeof config);
  config.num_categories = 1;
  config.num_fields = FIELDS;
  memcpy(config.defs, defs, sizeof defs);
  double started = now();
  if (rte_acl_build(acl, &config) != 0) return 6;
  double built = now() - started;
  if (rte_acl_set_ctx_classify(acl, RTE_ACL_CLASSIFY_AVX2) != 0) return 7;

  struct key *keys = malloc(counts[1] * sizeof *keys);
  const uint8_t **data = malloc(counts[1] * sizeof *data);
  uint32_t *results = malloc(counts[1] * 4);
  for (uint32_t i = 0; i < counts[1]; i++) {
    uint32_t w[4];
    if (fread(w, 4, 4, in) != 4) return 3;
    keys[i] = (struct key){w[2], {0}, htonl(w[1]), htonl(w[0]), htons(w[3] >> 16), htons(w[3] & 0xffff)};
    data[i] = (const uint8_t *)&keys[i];
  }
  fclose(in);
  char line[16];
  printf("%.0f\n", built);
  fflush(stdout);
  for (int round = 0; fgets(line, sizeof line, stdin) != NULL; round++) {
    started = now();
    for (uint32_t at = 0; at < counts[1]; at += 256)
      rte_acl_classify(acl, data + at, results + at, counts[1] - at < 256 ? counts[1] - at : 256, 1);
    const double took = now() - started;
    if (round == 0) {
      FILE *out = fopen(argv[2], "wb");
      if (out == NULL || fwrite(results, 4, counts[1], out) != counts[1] || fclose(out) != 0) return 8;
    }
    printf("%.3f\n", took / counts[1]);
    fflush(stdout);
  }
  return 0;
}
