#!/bin/sh
# Prints when a stream was recorded and why not, over the last hour: timeline.sh STREAM
set -eu
now=$(date +%s)
curl --fail-with-body --silent --show-error -H "Authorization: Bearer $KINORA_TOKEN" \
  "${KINORA_URL:-http://localhost:8080}/v1/streams/$1/timeline?from=$((now - 3600))000&to=${now}000" |
  jq -r '(.spans[] | "recorded  \(.from)  to  \(.to)"), (.gaps[] | "nothing   \(.from)  to  \(.to)  (\(.reason))")'
