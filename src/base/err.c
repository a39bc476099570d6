/* err.c — names of errors, the sentence on the context, the log. */
#include "base/internal.h"
#include <stdio.h>
#include <string.h>

static const char *const err_names[LM_N_ERR] = {
#define X(name, text) #name,
    LM_ERR_MAP(X)
#undef X
};
static const char *const err_texts[LM_N_ERR] = {
#define X(name, text) text,
    LM_ERR_MAP(X)
#undef X
};

const char *lm_err_name(lm_err e) { return (unsigned)e < LM_N_ERR ? err_names[e] : "E_UNKNOWN"; }
const char *lm_err_text(lm_err e) { return (unsigned)e < LM_N_ERR ? err_texts[e] : "an unknown error"; }

/* Arguments may point into the old sentence, hence a copy on the stack first. */
lm_err lm_fail(lm_ctx *ctx, lm_err code, const char *fmt, ...) {
    if (!ctx) return code;
    char text[LM_SENTENCE];
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof text, fmt, ap) < 0) snprintf(text, sizeof text, "%s", lm_err_text(code));
    va_end(ap);
    pthread_mutex_lock(&ctx->lock);
    memcpy(ctx->error, text, sizeof text);
    pthread_mutex_unlock(&ctx->lock);
    return code;
}

lm_err lm_fail_in(lm_ctx *ctx, lm_err code, const char *fmt, ...) {
    if (!ctx) return code;
    char text[LM_SENTENCE];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0) return code;
    size_t used = (size_t)n < sizeof text - 3 ? (size_t)n : sizeof text - 3;
    memcpy(text + used, ": ", 2);
    used += 2;
    pthread_mutex_lock(&ctx->lock);
    const char *old = ctx->error[0] ? ctx->error : lm_err_text(code);
    size_t keep = strlen(old) < sizeof text - used ? strlen(old) : sizeof text - used - 1;
    memcpy(text + used, old, keep);
    text[used + keep] = 0;
    memcpy(ctx->error, text, sizeof text);
    pthread_mutex_unlock(&ctx->lock);
    return code;
}

const char *lm_error(const lm_ctx *ctx) { return ctx ? ctx->error : ""; }
void lm_error_clear(lm_ctx *ctx) { ctx->error[0] = 0; }

void lm_log(lm_ctx *ctx, lm_level level, const char *room, const char *fmt, ...) {
    if (!ctx || !ctx->log) return;
    char text[LM_SENTENCE];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n >= 0) ctx->log(ctx->log_ud, level, room, text);
}
lm_err lm_fail_as(lm_ctx *ctx, lm_err code, const char *from, const char *to) {
    char text[LM_SENTENCE];
    size_t n = 0;
    const size_t k = strlen(from), m = strlen(to);
    if (!ctx || !k) return code;
    for (const char *p = lm_error(ctx); *p && n + 1 < sizeof text;) {
        if (strncmp(p, from, k)) { text[n++] = *p++; continue; }
        for (size_t i = 0; i < m && n + 1 < sizeof text; i++) text[n++] = to[i];
        p += k;
    }
    text[n] = 0;
    return lm_fail(ctx, code, "%s", text);
}
