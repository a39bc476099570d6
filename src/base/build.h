/* build.h — which build of loam this is: its version, and the first half dozen bytes of the id that the linker put into the program or library this code is in. Copies
 * of one file say the same wherever they lie; two builds do not, if a byte of them differs.
 *
 * Lifetime, Errors: none.  Threads: any. */
#ifndef LM_BUILD_H
#define LM_BUILD_H
enum { LM_BUILD_NAME = 32 };
void lm_build_name(char out[LM_BUILD_NAME]);         /* "0.1.0 (build 1a2b3c4d5e6f)"; the version alone where the linker gave no id */
#endif
