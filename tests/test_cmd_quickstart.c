/* test_cmd_quickstart.c — the main job, short: on a small text, five seconds of training; what it says must be true. */
#include "cmd_run.h"
static void test_quickstart(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    LM_SKIP("its children are slow under a sanitizer, and are tested one by one elsewhere");
#endif
    if (!begin()) LM_SKIP("the program is not built");
    calm();
    LM_REFUSED(run("quickstart %s --out %s", at("nothing"), at("q")), 2, "no such file");
    put_file(at("short"), "a few words", 11);
    LM_REFUSED(run("quickstart %s --out %s", at("short"), at("q")), 3, "bytes of text");
    LM_REFUSED(run("quickstart --out %s", LM_ROOT "/src"), 2, "not from an earlier quickstart");
    json_t *j = json_of(run("quickstart %s --seconds 5 --out %s --tokens 10 --json", LM_ROOT "/tests/fixtures/tok/train.txt", at("q")));
    LM_CHECK(strlen(str(j, "hash_resumed")) == 32 && !strcmp(str(j, "hash_resumed"), str(j, "hash_uninterrupted")));
    LM_CHECK(num(j, "bpb_after") < num(j, "bpb_before") && num(j, "bpb_after") > 0.1);
    LM_CHECK(fabs(num(j, "bpb_q8") - num(j, "bpb_after")) < 0.02 * num(j, "bpb_after"));
    LM_CHECK(num(j, "bytes_q8") < 0.35 * num(j, "bytes") && num(j, "decode_tok_s") > 0 && num(j, "killed_at") >= 15);
    LM_CHECK(there(at("q/model/report.html")) && there(at("q/model-q8.gguf")));
    json_decref(j);
    ran r = run("verify %s --json", at("q/model")); LM_CHECK_RC(r, 0); done(&r);
}
LM_TEST_MAIN(LM_T1(test_quickstart))
