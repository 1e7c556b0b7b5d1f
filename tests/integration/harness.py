"""What the integration tests share: a broker as a process of its own, helper programs made on the spot, loop devices and
file systems. The binary is $OXBOW (an ASan and UBSan build, when tools/run-tests calls); nothing of the broker's inside is used.

Everything started here ends with the test, also when the test fails or the interpreter is killed: brokers and clients die with
their parent (PR_SET_PDEATHSIG), and only processes that were started here are ever signalled, by their id."""

import contextlib
import ctypes
import errno
import os
import queue
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("OXBOW_ROOT", os.path.dirname(os.path.dirname(HERE)))
OXBOW = os.environ.get("OXBOW", os.path.join(ROOT, "build-test", "oxbow"))
LIBC = ctypes.CDLL(None, use_errno=True)
READY_SECONDS = 60  # generous: sanitizers, two cores, other tests beside this one

# What must never be in a log, whatever the broker was put through.
FORBIDDEN = re.compile(r"AddressSanitizer|LeakSanitizer|runtime error:|UndefinedBehaviorSanitizer|[Aa]ssertion|ASSERT|panic")


def die_with_parent():
    """In a child, before exec. The signal comes when the *thread* that forked ends: start processes from the main thread."""
    LIBC.prctl(1, signal.SIGKILL, 0, 0, 0)


def free_port():
    """A port that nothing listens on, outside of the range from which the kernel picks ports for outgoing connections: a client
    that keeps connecting to a dead broker's port could otherwise meet itself."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
        low = int(f.read().split()[0])
    for _ in range(1000):
        port = random.randrange(10240, low if low > 10300 else 32768)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")


def eventually(check, seconds=30.0, pause=0.02, what=None):
    """Calls until it returns something true; that is returned. Fails after so long."""
    end = time.monotonic() + seconds
    while True:
        got = check()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what or check}")
        time.sleep(pause)


def sanitized():
    """Is the binary an ASan build? Its memory is measured with another rule."""
    out = subprocess.run(["ldd", OXBOW], capture_output=True, text=True, check=False).stdout
    return "libasan" in out


def preload(library):
    """The environment that puts `library` before the C library, also under ASan, which insists on being first."""
    libraries = [library]
    if sanitized():
        asan = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
        libraries.insert(0, os.path.realpath(asan))
    return {"LD_PRELOAD": " ".join(libraries)}


class Broker:
    """One `oxbow serve`. Its folder, port and settings outlive its process: start() after stop() or kill9() goes on with them."""

    def __init__(self, folder, settings=None, env=None, port=None):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.port = port or free_port()
        self.settings = {"listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
                         "storage.url": f"file://{self.folder}/store",
                         "wal.url": f"file://{self.folder}/wal?size=64MiB"}
        self.settings.update(settings or {})
        self.env = dict(env or {})
        self.log_path = os.path.join(self.folder, "log")
        self.process = None
        self.starts = 0

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def command(self):
        command = [OXBOW, "serve"]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        return command

    def start(self, wait=True, **changes):
        assert self.process is None, "it runs already"
        self.settings.update(changes)
        self.log_from = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                                            env={**os.environ, **self.env}, preexec_fn=die_with_parent)
        self.starts += 1
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        def ready():
            if 'msg="ready"' in self.log():
                return True
            if self.process.poll() is not None:
                raise AssertionError(f"the broker ended with {self.process.returncode}:\n{self.log()[-4000:]}")
            return False
        eventually(ready, READY_SECONDS, 0.01, "ready")
        return self

    def log(self):
        """What the present (or last) process wrote."""
        with open(self.log_path, "rb") as f:
            f.seek(self.log_from)
            return f.read().decode("utf-8", "replace")

    def whole_log(self):
        with open(self.log_path, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def lines(self, text):
        return [line for line in self.log().splitlines() if text in line]

    def wait_log(self, text, seconds=30.0):
        return eventually(lambda: self.lines(text), seconds, what=f"a log line with {text!r}; the log:\n{self.log()[-3000:]}")

    def field(self, message, name):
        """The value of a field in the last line with that message."""
        line = [x for x in self.log().splitlines() if f'msg="{message}"' in x][-1]
        found = re.search(rf'\b{name}=("(?:[^"\\]|\\.)*"|\S+)', line)
        return found[1].strip('"') if found else None

    @property
    def http(self):
        return f"http://127.0.0.1:{self.field('ready', 'http_port')}"

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def wait(self, seconds=60):
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            text = self.log()
            self.end()
            raise AssertionError(f"the broker did not end within {seconds} s:\n{text[-4000:]}") from None
        self.process = None
        self.check_log()
        return status

    def stop(self, seconds=60):
        """In order, by SIGTERM; anything but exit status 0 fails the test."""
        self.process.send_signal(signal.SIGTERM)
        status = self.wait(seconds)
        assert status == 0, f"exit status {status} after SIGTERM:\n{self.log()[-4000:]}"
        return self

    def kill9(self):
        assert self.alive(), f"the broker had ended by itself with {self.process.returncode}:\n{self.log()[-4000:]}"
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None
        self.check_log()
        return self

    def restart(self, kill=False, **changes):
        (self.kill9 if kill else self.stop)()
        return self.start(**changes)

    def check_log(self):
        found = FORBIDDEN.search(self.whole_log())
        assert not found, f"the log of the broker holds {found[0]!r}:\n{self.whole_log()[max(0, found.start() - 500):][:8000]}"

    def end(self):
        """Whatever state it is in; for fixtures."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            self.process = None

    # What can be seen from outside.

    def objects(self):
        """The files of the store: path below objects/ -> size."""
        found = {}
        root = os.path.join(self.settings["storage.url"][len("file://"):], "objects")
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    found[os.path.relpath(path, root)] = os.path.getsize(path)
        return found

    def status(self, name):
        """A line of /proc/PID/status, as a number (kB for memory)."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return int(re.search(rf"^{name}:\s+(\d+)", f.read(), re.M)[1])

    def resident_mb(self):
        return self.status("VmRSS") / 1024


class Process:
    """A helper program whose lines are read as they come."""

    def __init__(self, command, **options):
        self.command = [str(c) for c in command]
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        preexec_fn=die_with_parent, **options)
        self.output, self.lines = [], queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for text in self.process.stdout:
            self.output.append(text)
            self.lines.put(text.rstrip("\n"))
        self.lines.put(None)

    def line(self, seconds=60):
        """The next line; None at the end."""
        try:
            return self.lines.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"{' '.join(self.command)} said nothing for {seconds} s; its last words:\n{''.join(self.output[-30:])}") from None

    def finish(self, seconds=300):
        """Waits for the end; returns the whole output. A bad exit fails the test."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"{' '.join(self.command)} did not end within {seconds} s; its last words:\n{''.join(self.output[-30:])}") from None
        self.reader.join(10)
        text = "".join(self.output)
        assert self.process.returncode == 0, f"{' '.join(self.command)} ended with {self.process.returncode}:\n{text[-4000:]}"
        return text

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join(10)
        self.process.stdout.close()


def run(command, seconds=60, check=True, data=None, **options):
    """A command to its end: (status, stdout, stderr)."""
    p = subprocess.run([str(c) for c in command], input=data, capture_output=True, text=True, timeout=seconds, check=False,
                       preexec_fn=die_with_parent, **options)
    assert not check or p.returncode == 0, f"{command} ended with {p.returncode}:\n{p.stdout}{p.stderr}"
    return p.returncode, p.stdout, p.stderr


def oxbow(*arguments, check=False, **options):
    return run([OXBOW, *arguments], check=check, **options)


def compile_c(source, output, flags=()):
    run(["gcc", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-o", output, os.path.join(HERE, source), *flags])
    return str(output)


# --- Loop devices and file systems: for root only.

def private_mounts():
    """Mounts of this process and its children are their own from here on, and end with them, however they end. False: this user,
    or this container, may not mount."""
    tools = os.path.exists("/dev/loop-control") and shutil.which("losetup") and shutil.which("mkfs.ext4")
    if os.geteuid() != 0 or not tools or LIBC.unshare(0x20000) != 0:  # CLONE_NEWNS
        return False
    return LIBC.mount(None, b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE


def has_io_uring():
    """EFAULT for a missing argument means that the kernel would do it; many containers forbid it."""
    return LIBC.syscall(425, 1, None) == -1 and ctypes.get_errno() == errno.EFAULT


class Mounts:
    """Loop devices and mounts of one test; close() takes all down, latest first.

    A loop device is marked for removal as soon as it is made, and kept alive by an open descriptor and by what is mounted on it:
    a killed test leaves none behind."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.stack = []  # ("mount", path) or ("loop", device)
        self.fds = {}

    def sparse(self, name, size):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as f:
            f.truncate(size)
        return path

    def image(self, name, size):
        path = self.sparse(name, size)
        run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", path])
        return path

    def loop(self, path, *options):
        device = run(["losetup", "--find", "--show", *options, path])[1].strip()
        self.fds[device] = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        run(["losetup", "-d", device])  # when the last user is gone
        self.stack.append(("loop", device))
        return device

    def mount(self, source, target, *options):
        os.makedirs(target, exist_ok=True)
        run(["mount", *options, source, target])
        self.stack.append(("mount", target))

    def unmount(self, target):
        # What a killed process had under way in io_uring holds its files for a moment longer than it lives.
        eventually(lambda: run(["umount", target], check=False)[0] == 0, 20, what=f"umount {target}")
        self.stack.remove(("mount", target))

    def detach(self, device):
        os.close(self.fds.pop(device))
        self.stack.remove(("loop", device))

    def close(self):
        for what, name in reversed(self.stack):
            if what == "mount":
                subprocess.run(["umount", "-l", name], check=False, stdout=sys.stderr, stderr=sys.stderr)
            else:
                os.close(self.fds.pop(name))
        self.stack = []
