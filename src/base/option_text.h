/* option_text.h — numbers as text, the same under every locale; for option.c and option_dump.c alone.
 *
 * Lifetime: none.  Threads: safe.  Errors: false. */
#ifndef LM_OPTION_TEXT_H
#define LM_OPTION_TEXT_H
#include "base/base.h"
bool lm_opt_float(const char *text, double *out);                 /* all of the text is one number */
void lm_opt_number(char out[40], double v, bool as_float);        /* shortest that reads back; as_float: never looks like an integer */
#endif
