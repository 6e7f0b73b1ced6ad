#!/bin/sh
# Copies a past range into a file: range.sh STREAM FROM TO FILE   (times in RFC 3339; the token must be for playback)
set -eu
exec ffmpeg -nostdin -v error -y -i "${KINORA_URL:-http://localhost:8080}/hls/$1/index.m3u8?from=$2&to=$3&token=$KINORA_TOKEN" \
  -c copy "$4"
