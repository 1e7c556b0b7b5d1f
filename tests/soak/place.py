"""Where a broker keeps its local files in a soak, from below to above: an image file, a loop device, ext4, faultfs. What is not to be had
here (no root, no loop devices, no /dev/fuse) is left out, and said: the faults that need it are skipped and counted."""

import errno
import mmap
import os
import shutil
import signal
import struct
import subprocess

import harness

SOAK = os.path.dirname(os.path.abspath(__file__))
READ, WRITE, FSYNC, FSYNCDIR, CREATE, LINK, MKDIR, UNLINK, ALLOCATE, OPEN = (1 << n for n in range(10))
BEFORE, AFTER, HALF = 0, 1, 2
FIELDS = struct.Struct("=IIIIQ104s")  # struct control of faultfs.c
assert FIELDS.size == 128


def why_no_fuse():
    if os.geteuid() != 0:
        return "FUSE needs root here"
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if harness.run(["pkg-config", "--exists", "fuse3"], check=False)[0] != 0:
        return "libfuse3-dev is not installed"
    return None


def build_faultfs(folder):
    flags = harness.run(["pkg-config", "--cflags", "--libs", "fuse3"])[1].split()
    return harness.compile_c(os.path.join(SOAK, "faultfs.c"), os.path.join(folder, "faultfs"), flags)


class FaultFS:
    """One mount of faultfs, and its switches."""

    def __init__(self, binary, lower, at, control):
        self.binary, self.lower, self.at = binary, lower, at
        with open(control, "wb") as f:
            f.truncate(FIELDS.size)
        self.control_path = control
        with open(control, "r+b") as f:
            self.control = mmap.mmap(f.fileno(), FIELDS.size)
        self.process = None
        self.past_hits = 0

    def mount(self):
        os.makedirs(self.at, exist_ok=True)
        with open(self.control_path + ".out", "ab") as out:
            self.process = subprocess.Popen([self.binary, self.lower, self.at, self.control_path], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            preexec_fn=harness.die_with_parent)
        harness.eventually(lambda: os.path.ismount(self.at), 20, what="faultfs is mounted")

    def unmount(self):
        harness.eventually(lambda: harness.run(["umount", self.at], check=False)[0] == 0, 20, what=f"umount {self.at}")
        self.process.wait(20)
        self.process = None

    def fail(self, error, operations, chance=1.0, how=BEFORE, under=""):
        self.heal()
        self.control[:] = FIELDS.pack(0, operations, int(chance * 1_000_000), how, 0, under.encode())
        self.control[0:4] = struct.pack("=I", error)

    def heal(self):
        """How many operations had failed since the last fail()."""
        self.control[0:4] = bytes(4)
        return struct.unpack("=Q", self.control[16:24])[0]

    def hang(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        """Whatever state it is in. Its own end takes the requests with it that wait for it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            subprocess.run(["umount", "-l", self.at], check=False, stderr=subprocess.DEVNULL)
            self.process = None
        self.control.close()


class Place:
    def __init__(self, folder, may_mount, image_bytes):
        self.folder, self.mounts, self.fuse = folder, None, None
        self.missing = {}  # what -> why
        self.lower = os.path.join(folder, "disk")
        os.makedirs(self.lower)
        self.image = self.device = None
        self.cuts = 0
        if may_mount:
            self.mounts = harness.Mounts(folder)
            self.image = self.mounts.image("disk0.img", image_bytes)
            self.attach()
        else:
            self.missing["power"] = "power cuts need root and loop devices"
        why = why_no_fuse() if may_mount else "mounting is not allowed here"
        self.data = self.lower
        if why:
            self.missing["fuse"] = why
        else:
            try:
                self.fuse = FaultFS(build_faultfs(folder), self.lower, os.path.join(folder, "data"), os.path.join(folder, "control"))
                self.fuse.mount()
                self.data = self.fuse.at
            except AssertionError as e:
                self.missing["fuse"] = f"faultfs does not work here: {str(e)[:300]}"
                self.fuse.end()
                self.fuse = None

    def attach(self):
        self.device = self.mounts.loop(self.image)
        self.mounts.mount(self.device, self.lower)

    def writes(self):
        """Writes begun or ended on the device, and those under way."""
        with open(f"/sys/block/{os.path.basename(self.device)}/stat", encoding="ascii") as f:
            numbers = f.read().split()
        return numbers[4], numbers[6], numbers[8]

    def cut(self, broker):
        """The broker's machine loses its power: what no flush had brought to the device is gone. The broker is dead afterwards; see
        tests/integration/test_power.py."""
        os.kill(broker.pid, signal.SIGSTOP)
        self.cuts += 1
        after = os.path.join(self.folder, f"disk{self.cuts}.img")
        for _ in range(50):
            before = self.writes()
            harness.run(["cp", "--sparse=always", self.image, after])
            if self.writes() == before:
                break
        else:
            raise AssertionError("the device does not come to rest")
        broker.kill9()
        if self.fuse:
            self.fuse.unmount()
        self.mounts.unmount(self.lower)
        self.mounts.detach(self.device)
        os.unlink(self.image)
        self.image = after
        self.attach()
        if self.fuse:
            self.fuse.mount()

    def close(self):
        if self.fuse:
            self.fuse.end()
        if self.mounts:
            self.mounts.close()
        shutil.rmtree(self.lower, ignore_errors=True)
        if self.image:
            with_image = [self.image, *(os.path.join(self.folder, f"disk{n}.img") for n in (self.cuts - 1, self.cuts))]
            for path in with_image:
                if os.path.exists(path):
                    os.unlink(path)


ERRORS = {"eio": errno.EIO, "enospc": errno.ENOSPC}
