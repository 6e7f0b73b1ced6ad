#!/bin/sh
# One picture into a file: picture.sh STREAM TIME FILE   (a time in RFC 3339, or latest)
set -eu
exec curl --fail-with-body --silent --show-error -H "Authorization: Bearer $KINORA_TOKEN" -o "$3" \
  "${KINORA_URL:-http://localhost:8080}/v1/streams/$1/frames?at=$2&format=jpeg"
