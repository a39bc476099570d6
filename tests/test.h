/* test.h — the smallest harness that serves: a test is a function, a program runs a list of them.
 * Output is silent but for failures and one closing line; exit status 0 = all passed, 77 = all skipped, 1 = a failure.
 * LM_TIMES in the environment: also what each case took. */
#ifndef LM_TEST_H
#define LM_TEST_H
#include "base/base.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* Under a sanitizer, several times slower, what is repeated only for its numbers is done once: it is memory and threads that are looked at. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LM_T_WATCHED = 1 };
#else
enum { LM_T_WATCHED = 0 };
#endif
#ifdef __SANITIZE_THREAD__                       /* threads alone are looked at */
enum { LM_T_RACES = 1 };
#else
enum { LM_T_RACES = 0 };
#endif
static int lm_t_fail, lm_t_skipped; static const char *lm_t_name;
#define LM_CHECK(c) do { if (!(c)) { lm_t_fail++; printf("%s:%d: %s: failed: %s\n", __FILE__, __LINE__, lm_t_name, #c); } } while (0)
#define LM_CHECK_OK(ctx, e) do { lm_err e_ = (e); if (e_) { lm_t_fail++; printf("%s:%d: %s: %s -> %s: %s\n", __FILE__, __LINE__, lm_t_name, #e, lm_err_name(e_), lm_error(ctx)); } } while (0)
#define LM_NEED_OK(ctx, e) do { lm_err e_ = (e); if (e_) { lm_t_fail++; printf("%s:%d: %s: %s -> %s: %s\n", __FILE__, __LINE__, lm_t_name, #e, lm_err_name(e_), lm_error(ctx)); return; } } while (0)
#define LM_CHECK_ERR(ctx, e, want, sub) do { lm_err e_ = (e); if (e_ != (want) || !strstr(lm_error(ctx), sub)) { lm_t_fail++; \
    printf("%s:%d: %s: %s -> %s \"%s\", wanted %s with \"%s\"\n", __FILE__, __LINE__, lm_t_name, #e, lm_err_name(e_), lm_error(ctx), lm_err_name(want), sub); } } while (0)
#define LM_CHECK_STR(a, b) do { const char *a_ = (a), *b_ = (b); if (!a_ || !b_ || strcmp(a_, b_)) { lm_t_fail++; \
    printf("%s:%d: %s: got \"%s\", wanted \"%s\"\n", __FILE__, __LINE__, lm_t_name, a_ ? a_ : "(null)", b_ ? b_ : "(null)"); } } while (0)
#define LM_CHECK_NEAR(a, b, tol) do { double a_ = (a), b_ = (b); if (!(fabs(a_ - b_) <= (tol))) { lm_t_fail++; \
    printf("%s:%d: %s: %s = %.9g, wanted %.9g within %g\n", __FILE__, __LINE__, lm_t_name, #a, a_, b_, (double)(tol)); } } while (0)
#define LM_SKIP(why) do { lm_t_skipped++; printf("skipped %s: %s\n", lm_t_name, why); return; } while (0)
typedef struct { const char *name; void (*fn)(void); } lm_t_case;
#define LM_T1(f) { #f, f }
static inline int lm_t_main(const lm_t_case *c, int n, int argc, char **argv) {
    int ran = 0, bad = 0;
    for (int i = 0; i < n; i++) {
        if (argc > 1 && strcmp(argv[1], c[i].name)) continue;
        const int before = lm_t_fail; const double t0 = lm_now();
        lm_t_name = c[i].name; c[i].fn(); ran++; bad += lm_t_fail > before;
        if (getenv("LM_TIMES")) printf("%8.2f s %s\n", lm_now() - t0, c[i].name);
    }
    printf("%d cases, %d failed, %d skipped\n", ran, bad, lm_t_skipped);
    return bad ? 1 : (ran && ran == lm_t_skipped) ? 77 : 0;
}
#define LM_TEST_MAIN(...) int main(int argc, char **argv) { static const lm_t_case c[] = { __VA_ARGS__ }; return lm_t_main(c, (int)(sizeof c / sizeof *c), argc, argv); }
/* use: LM_TEST_MAIN(LM_T1(test_a), LM_T1(test_b)) */
#endif
