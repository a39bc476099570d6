/* Grammars in the notation "gbnf": see grammar_use.h. */
#define _GNU_SOURCE 1
#include "grammar_use.h"
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { if (size < 1 << 16) fuzz_grammar("gbnf", data, size); return 0; }
