/* api.c — write with a model through loam.h: cc api.c $(pkg-config --cflags --libs loam) */
#include <loam.h>
#include <stdio.h>
#include <string.h>

static int print(void *user, int i, const char *text, size_t bytes) {
    (void)user; (void)i;
    fwrite(text, 1, bytes, stdout);
    fflush(stdout);
    return 0;
}
int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "usage: %s MODEL PROMPT\n", argv[0]); return 2; }
    loam_context *ctx = NULL;
    loam_model *model = NULL;
    int err = loam_context_new(&ctx, NULL);
    if (!err) err = loam_model_open(&model, ctx, argv[1], NULL);
    loam_generate_options o = LOAM_GENERATE_DEFAULTS;
    o.on_text = print;
    fputs(argv[2], stdout);
    if (!err) err = loam_generate(model, argv[2], strlen(argv[2]), &o, NULL);
    putchar('\n');
    if (err) fprintf(stderr, "%s\n", loam_error(ctx));
    loam_model_free(model);
    loam_context_free(ctx);
    return err != 0;
}
