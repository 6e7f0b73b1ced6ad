#!/bin/sh
# Pushes a file as a stream, at its own pace: push-ffmpeg.sh FILE STREAM
set -eu
exec ffmpeg -nostdin -v error -re -i "$1" -c copy -f rtsp -rtsp_transport tcp \
  "rtsp://camera:${KINORA_SECRET}@${KINORA_RTSP:-localhost:8554}/$2"
