#!/bin/sh
# Pushes the pictures and the sound of an MP4 file with H.264 and AAC: push-gstreamer.sh FILE STREAM
set -eu
exec gst-launch-1.0 -q \
  rtspclientsink name=sink protocols=tcp location="rtsp://${KINORA_RTSP:-localhost:8554}/$2" \
  user-id=camera user-pw="$KINORA_SECRET" \
  filesrc location="$1" ! qtdemux name=file \
  file.video_0 ! queue ! h264parse ! sink. \
  file.audio_0 ! queue ! aacparse ! sink.
