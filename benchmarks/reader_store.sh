#!/bin/sh
# The store of strokes and fonts that the package's recogniser learnt from; docs/recogniser.md says
# how the fonts are had.   sh benchmarks/reader_store.sh STROKE_FILE FONTS_FOLDER OUT [OPTION…]
set -e
strokes=$1 fonts=$2 out=$3
shift 3
set -- --weight "$(basename "$strokes")=3.5" "$@"
files=
# Name, weight, haste (less for running hands), and a licence where the font itself doesn't say.
while read -r name weight haste licence; do
    files="$files $fonts/$name"
    set -- --weight "$name=$weight" --haste "$name=$haste" "$@"
    [ -z "$licence" ] || set -- --licence "$name=$licence (Debian copyright file)" "$@"
done <<END
zhi-mang-xing 3 0.4
long-cang 3 0.7
ma-shan-zheng 1.5 0.8
liu-jian-mao-cao 0.4 0.2
LXGWWenKai-Light.ttf 1.5 1
KleeOne-Regular.ttf 0.7 1
setofont.ttf 1 1 SIL Open Font License 1.1
kouzan-mouhitsu-gyosho.ttf 1.5 0.6 public domain
kouzan-mouhitsu.ttf 1 0.8 public domain
KouzanBrushFontSousyo.ttf 0.3 0.2 public domain
aoyagi-soseki.ttf 0.7 0.7 public domain
AoyagiKouzanT.ttf 0.5 0.6 public domain
kiloji.ttf 0.6 1 BSD-3-Clause
kiloji_d.ttf 0.4 1 BSD-3-Clause
yomogi 0.7 1
zen-kurenaido 0.7 1
yusei-magic 0.4 1
END
# Strokes vary less than by default: confusable simple characters (千 干) stay what they are.
set -- --style.turn 0.04 --style.scale 0.04 --style.shift 0.009 --style.bend 0.014 \
    --style.group_scale 0.07 --style.group_shift 0.02 --style.group_turn 0.03 \
    --style.scale_short 0.08 --style.rise 0.07 --style.slant 0.08 --style.turn_all 0.05 \
    --style.exchange 0.2 --style.clutter 0.15 --style.simple 0.5 --common 3 "$@"
# shellcheck disable=SC2086
${HCCR:-hccr} data strokes "$strokes" $files --out "$out" "$@"
