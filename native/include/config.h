/* SPDX-License-Identifier: Apache-2.0 */
/* What the configure script of elfutils would find for glibc from 2.17. */

#define HAVE_DECL_MEMPCPY 1
#define HAVE_DECL_MEMRCHR 1
#define HAVE_DECL_POWEROF2 1
#define HAVE_DECL_RAWMEMCHR 1
#define HAVE_DECL_REALLOCARRAY 0 /* from 2.26 */
#define HAVE_ERROR_H 1
#define HAVE_FALLTHROUGH 1
#define HAVE_MREMAP 1
#define HAVE_STDATOMIC_H 1
#define HAVE_VISIBILITY 1

/* Last: it reads those above. */
#include <eu-config.h>
