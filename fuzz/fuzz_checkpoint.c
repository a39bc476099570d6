/* Checkpoints, read by a real (tiny) trainer. The first byte says which part the rest is: 'm' the manifest, 'c' config.json, 'w'
 * model.safetensors, 'o' optimizer.safetensors, 's' the first of two shards; for all but 'm' the manifest is made to fit, so that what lies behind the
 * hashes is reached. After any input the good checkpoint must load to the same weights. */
#define _GNU_SOURCE 1
#include "scratch.h"
#include "../tests/slice_rig.h"
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
static const char PARTS[] = "cwoms";
static const char *const file[] = { "c/config.json", "c/model.safetensors", "c/optimizer.safetensors" };
static char *good[4]; static size_t n_good[4];
static lm_ctx *ctx; static lm_trainer *t; static lm_hash128_t weights; static char good_path[320];

static void set_up(void) {
    lm_cfg c = { .model = lm_model_by_name("llama"),
                 .vocab = 7,
                 .d = 4,
                 .n_layer = 1,
                 .n_head = 1,
                 .n_kv = 1,
                 .d_head = 4,
                 .d_ff = 4,
                 .max_pos = 8,
                 .eps = 1e-5,
                 .init_std = 0.2,
                 .tie = true,
                 .bos = -1,
                 .hf_type = "llama" };
    c.rope.d_head = 4; c.rope.base = 10000; c.rope.max_pos = 8;
    lm_store *s;
    const lm_trainer_opts o = { .batch = 1,
                                .seq = 4,
                                .mm = LM_F32,
                                .optim = { .name = "adamw", .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1 },
                                .seed = 1 };
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }) || lm_store_new(&s, ctx) || lm_model_init(ctx, &c, s, 3) ||
        lm_trainer_new(&t, ctx, &c, s, &o))
        exit(2);
    weights = lm_trainer_hash(t);
    if (lm_ckpt_save(t, scratch("g"), &(lm_ckpt_state){ .step = 3, .seqs = 3, .best_val = 1, .isa = "x" }, 1) ||
        lm_dir_make(ctx, scratch("c")))
        exit(2);
    if (cut_checkpoint(ctx, scratch("g/step-00000003"), scratch("s"), 2, NULL)) exit(2);
    snprintf(good_path, sizeof good_path, "%s", scratch("g/step-00000003"));
    static const char *const from[] = { "g/step-00000003/config.json", "g/step-00000003/model.safetensors",
                                        "g/step-00000003/optimizer.safetensors", "g/step-00000003/manifest.json" };
    for (int i = 0; i < 4; i++) if (lm_file_read_all(ctx, scratch(from[i]), 1 << 20, &good[i], &n_good[i])) exit(2);
}
/* A manifest that fits what lies in the folder. */
static void seal(const char *dir, int shards) {
    lm_manifest m = { .st = { .step = 3, .seqs = 3, .best_val = 1, .isa = "x" }, .weights = weights };
    if (lm_manifest_new(ctx, shards, &m)) exit(2);
    for (int i = 0; i < m.n; i++) if (lm_manifest_sum(ctx, scratch(dir), &m.file[i])) exit(2);
    if (lm_manifest_write(ctx, scratch(dir), &m, "")) exit(2);
    lm_manifest_free(ctx, &m);
}
static void try_load(const char *dir) {
    lm_ckpt_state st;
    lm_err e = lm_ckpt_load(t, scratch(dir), &st);
    const lm_hash128_t h = lm_trainer_hash(t);
    if (!e && (h.lo != weights.lo || h.hi != weights.hi)) abort();      /* what loads are the weights that the manifest states */
    if (lm_ckpt_load(t, good_path, &st) || st.step != 3) abort();
    const lm_hash128_t again = lm_trainer_hash(t);
    if (again.lo != weights.lo || again.hi != weights.hi) abort();
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!t) set_up();
    if (!size) return 0;
    const char *which = *data ? strchr(PARTS, *data) : NULL;
    if (!which) return 0;
    const int part = (int)(which - PARTS);
    if (part == 4) {                                     /* the first of two shards; the other is good */
        scratch_put("s/shard-00001-of-00002.safetensors", data + 1, size - 1);
        seal("s", 2);
        try_load("s");
        return 0;
    }
    for (int i = 0; i < 3; i++) scratch_put(file[i], i == part ? (const void *)(data + 1) : good[i], i == part ? size - 1 : n_good[i]);
    if (part == 3) scratch_put("c/manifest.json", data + 1, size - 1); else seal("c", 0);
    try_load("c");
    return 0;
}
