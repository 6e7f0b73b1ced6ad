#!/bin/sh
# A past range as one MP4 file that begins with the asked picture: clip.sh STREAM FROM TO FILE   (times in RFC 3339)
set -eu
exec curl --fail-with-body --silent --show-error -H "Authorization: Bearer $KINORA_TOKEN" -o "$4" \
  "${KINORA_URL:-http://localhost:8080}/v1/streams/$1/clip.mp4?from=$2&to=$3"
