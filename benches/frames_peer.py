"""Takes pictures out of a file by one peer, as its users would, and writes what each took as JSON.

    python frames_peer.py PEER FILE < {"form": "rgb" | "i420" | "jpeg", "pictures": [...], "batch": false}

It runs in the Python of scripts/python, a process for each peer, since their libraries do not bear each other. Decoding is by one
thread, but where a name says otherwise; the file is opened for each request.
"""

import io
import json
import resource
import subprocess
import sys
import time

QUALITY = 85
RATE = 30


def jpeg(rgb) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


class PyAV:
    threads = "SLICE"

    def __init__(self):
        import av

        self.av = av
        self.version = av.__version__

    def one(self, file, number, form):
        with self.av.open(file) as container:
            stream = container.streams.video[0]
            stream.thread_type = self.threads
            wanted = round(number / RATE / stream.time_base)
            container.seek(wanted, stream=stream)
            frame = next(frame for frame in container.decode(stream) if frame.pts >= wanted)
            return self.made(frame, form)

    def made(self, frame, form):
        if form == "jpeg":
            out = io.BytesIO()
            frame.to_image().save(out, "JPEG", quality=QUALITY)
            return out.getvalue()
        return frame.to_ndarray(format={"rgb": "rgb24", "i420": "yuv420p"}[form])


class PyAVThreads(PyAV):
    threads = "AUTO"


class TorchCodec:
    mode = "exact"

    def __init__(self):
        import torch
        import torchcodec
        from torchcodec.decoders import VideoDecoder

        torch.set_num_threads(1)
        self.version, self.decoder = f"{torchcodec.__version__}, torch {torch.__version__}", VideoDecoder

    def open(self, file):
        return self.decoder(file, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode=self.mode)

    def one(self, file, number, form):
        rgb = self.open(file).get_frame_at(number).data.numpy()
        return rgb if form == "rgb" else jpeg(rgb)

    def batch(self, file, numbers, form):
        pictures = self.open(file).get_frames_at(numbers).data.numpy()
        return pictures if form == "rgb" else [jpeg(rgb) for rgb in pictures]


class TorchCodecApproximate(TorchCodec):
    mode = "approximate"


class Decord:
    def __init__(self):
        import decord

        self.decord, self.version = decord, decord.__version__

    def open(self, file):
        return self.decord.VideoReader(file, ctx=self.decord.cpu(0), num_threads=1)

    def one(self, file, number, form):
        rgb = self.open(file)[number].asnumpy()
        return rgb if form == "rgb" else jpeg(rgb)

    def batch(self, file, numbers, form):
        pictures = self.open(file).get_batch(numbers).asnumpy()
        return pictures if form == "rgb" else [jpeg(rgb) for rgb in pictures]


class OpenCV:
    def __init__(self):
        import cv2

        self.cv2, self.version = cv2, cv2.__version__
        cv2.setNumThreads(1)

    def one(self, file, number, form):
        video = self.cv2.VideoCapture(file, self.cv2.CAP_FFMPEG, [self.cv2.CAP_PROP_N_THREADS, 1])
        video.set(self.cv2.CAP_PROP_POS_FRAMES, number)
        bgr = video.read()[1]
        video.release()
        if form == "jpeg":
            return self.cv2.imencode(".jpg", bgr, [self.cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
        return self.cv2.cvtColor(bgr, self.cv2.COLOR_BGR2RGB)


class FFmpeg:
    def __init__(self):
        said = subprocess.run(["ffmpeg", "-version"], check=True, capture_output=True, text=True).stdout
        self.version = said.split()[2]

    def one(self, file, number, form):
        # A quarter of a picture early: FFmpeg takes the first one at or after the time.
        command = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", "-ss", f"{(number - 0.25) / RATE:.6f}"]
        command += ["-i", file, "-frames:v", "1", "-threads", "1"]
        if form == "jpeg":
            command += ["-c:v", "mjpeg", "-q:v", "3", "-f", "image2pipe", "-"]
        else:
            command += ["-pix_fmt", {"rgb": "rgb24", "i420": "yuv420p"}[form], "-f", "rawvideo", "-"]
        return subprocess.run(command, check=True, capture_output=True).stdout


PEERS = {
    "pyav": PyAV,
    "pyav-threads": PyAVThreads,
    "torchcodec": TorchCodec,
    "torchcodec-approximate": TorchCodecApproximate,
    "decord": Decord,
    "opencv": OpenCV,
    "ffmpeg": FFmpeg,
}


def cpu_seconds() -> float:
    """Of this process and of those that it ran."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def number_of(picture, form) -> int | None:
    """The number that the clip has in squares at the top left of each picture; not looked for in a JPEG."""
    if form == "jpeg":
        return None
    data = memoryview(picture).cast("B")
    pixel = 3 if form == "rgb" else 1
    row = 8 * 1920 * pixel
    return sum((data[row + (16 * (16 - bit) + 8) * pixel] > 128) << bit for bit in range(16))


def main() -> None:
    peer, file = PEERS[sys.argv[1]](), sys.argv[2]
    job = json.load(sys.stdin)
    form, numbers = job["form"], job["pictures"]
    taken, wrong = [], 0
    # What is loaded at the first use is not the request's.
    peer.one(file, 0, form)
    for request in [numbers] if job["batch"] else [[number] for number in numbers]:
        cpu, started = cpu_seconds(), time.perf_counter()
        made = peer.batch(file, request, form) if job["batch"] else [peer.one(file, request[0], form)]
        taken.append({"wall": time.perf_counter() - started, "cpu": cpu_seconds() - cpu})
        wrong += sum(number_of(one, form) not in (None, number) for number, one in zip(request, made, strict=True))
        del made
    json.dump({"version": peer.version, "taken": taken, "wrong": wrong}, sys.stdout)


if __name__ == "__main__":
    main()
