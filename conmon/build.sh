#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the monitor, and crid-pause and crid-userns beside it, with nothing but a C compiler: bare Debian has no make.
#
#   build.sh [--sanitize] [--dynamic] [-o OUT]
#
# --sanitize adds AddressSanitizer and UBSan (default output: conmon-asan, nothing beside it). CC and CFLAGS are honoured.
# The default is a static, position-independent program: it starts faster and has fewer private pages than a
# dynamic one (docs: conmon/PROTOCOL.md, "Size"), and there is one conmon per container and one per ExecSync.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
sanitize=no
link=static
out=
while [ $# -gt 0 ]; do
    case $1 in
    --sanitize) sanitize=yes ;;
    --dynamic) link=dynamic ;;
    -o)
        [ $# -gt 1 ] || { echo "build.sh: -o needs a file name" >&2; exit 2; }
        out=$2
        shift
        ;;
    *) echo "usage: build.sh [--sanitize] [--dynamic] [-o OUT]" >&2; exit 2 ;;
    esac
    shift
done

flags="-std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wshadow -Wconversion -Wformat=2 -Wstrict-prototypes
    -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wvla -fstack-protector-strong -fno-common"
if [ "$sanitize" = yes ]; then
    flags="$flags -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
    : "${out:=$here/conmon-asan}"
else
    flags="$flags -O2 -D_FORTIFY_SOURCE=2 -fPIE -ffunction-sections -Wl,--gc-sections -Wl,-z,relro,-z,now -s"
    small_flags="$flags -Os -fno-pie -no-pie -static"  # no relocation: that leaves the fewest private pages
    if [ "$link" = static ]; then flags="$flags -static-pie"; else flags="$flags -pie"; fi
    : "${out:=$here/conmon}"
fi

# Compiled aside and renamed into place: a running conmon cannot be overwritten, and nobody runs half a file.
temporary="$out.$$.tmp"
trap 'rm -f "$temporary"' EXIT
# shellcheck disable=SC2086  # flags are words
${CC:-cc} $flags ${CFLAGS:-} -o "$temporary" "$here"/src/*.c
mv -f "$temporary" "$out"
if [ "$sanitize" = no ]; then
    for program in pause userns; do
        # shellcheck disable=SC2086  # likewise
        ${CC:-cc} $small_flags ${CFLAGS:-} -o "$temporary" "$here/$program.c"
        mv -f "$temporary" "$(dirname "$out")/crid-$program"
    done
fi
