"""Run once in every new kind of sandbox, as programs are run: tries to get out, and returns what succeeded."""
import ctypes, os, resource, signal, socket, threading, time

libc = ctypes.CDLL(None, use_errno=True)


def call(number, *args):
    return libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, args)) != -1


def connects(family, kind, address):
    with socket.socket(family, kind) as end:
        end.settimeout(0.2)
        end.connect(address)
        end.send(b"out")
    return True


def writes(path):
    with open(path, "w") as file:
        file.write("x")
    return True


def forks():
    if os.fork() == 0:
        os._exit(0)
    return True


def runs_others():
    os.execv("/bin/sh", ["sh", "-c", ":"])


def starts_threads(most):
    gate = threading.Event()
    threads = []
    try:
        for _ in range(most + 1):
            thread = threading.Thread(target=gate.wait)
            thread.start()
            threads.append(thread)
        return True
    finally:
        gate.set()
        for thread in threads:
            thread.join()


def escape(host):
    outside, pid = host["canary"], host["pid"]
    attempts = {
        "read a file outside": lambda: open(outside).read(),
        "list the root folder": lambda: os.listdir("/"),
        "list processes": lambda: os.listdir("/proc"),
        "read the user database": lambda: open("/etc/passwd").read(),
        "write in the root folder": lambda: writes("/x"),
        "write in /tmp": lambda: writes("/tmp/x"),
        "write beside a file outside": lambda: writes(outside + "x"),
        "make a folder": lambda: os.mkdir("/x") is None,
        "connect by TCP": lambda: connects(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", host["tcp"])),
        "send by UDP": lambda: connects(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", host["udp"])),
        "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) is not None,
        "reach an abstract socket": lambda: connects(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + host["abstract"]),
        "signal a process outside": lambda: os.kill(pid, 0) is None,
        "signal its parent": lambda: os.kill(os.getppid(), signal.SIGKILL) is None,
        "limit its parent": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1)) is not None,
        "fork": forks,
        "run another program": runs_others,
        "start too many threads": lambda: starts_threads(host["threads"]),
        "use too much memory": lambda: len(bytearray(host["memory"])) > 0,
        "raise its limits": lambda: resource.setrlimit(resource.RLIMIT_CPU, (9999, 9999)) is None,
        "become root": lambda: os.setuid(0) is None,
        "leave its process group": lambda: os.setsid() > 0,
        "change its root": lambda: os.chroot("/") is None,
    }
    # Numbers in one table on x86-64 and in another on newer architectures.
    x86, newer = 0, 1
    table = x86 if os.uname().machine == "x86_64" else newer
    for name, numbers, args in (
        ("trace a process", (101, 117), (16, os.getppid(), 0, 0)),
        ("read a process's memory", (310, 270), (os.getppid(), 0, 0, 0, 0, 0)),
        ("mount", (165, 40), (0, 0, 0, 0, 0)),
        ("make namespaces", (272, 97), (0x10000000,)),
        ("enter namespaces", (308, 268), (0, 0)),
        ("clone into namespaces", (56, 220), (0x10000000 | 17, 0, 0, 0, 0)),
        ("use io_uring", (425, 425), (1, 0)),
        ("use bpf", (321, 280), (0, 0, 0)),
        ("use keys", (250, 219), (0, -3, 0)),
        ("use userfaultfd", (323, 282), (0,)),
        ("use perf events", (298, 241), (0, 0, -1, -1, 0)),
        ("open processes", (434, 434), (os.getppid(), 0)),
        ("make files in memory", (319, 279), (0, 0)),
        ("open by handle", (304, 265), (0, 0, 0)),
        ("share memory", (29, 194), (0, 4096, 0o1600)),
        ("change filters", (317, 277), (1, 0, 0)),
    ):
        # A call that is let through may still fail: by what it was given, not by permission.
        def attempt(number=numbers[table], args=args):
            return call(number, *args) or ctypes.get_errno() != 1
        attempts[name] = attempt

    breaches = []
    for name, attempt in attempts.items():
        try:
            if attempt():
                breaches.append(name)
        except (OSError, MemoryError, RuntimeError, ValueError):
            pass
    if host["pid"] == os.getppid() or os.getppid() != 1 or os.getuid() == 0:
        breaches.append("see processes or users outside")
    return breaches
