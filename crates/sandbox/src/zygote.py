"""The interpreter in the sandbox: process 1 there. It forks once for every program, so that none waits for an
interpreter to start, and learns of no program more than how it ended: what a program is given and what it
writes lies in files that only the program and the host hold.

What it reads from its socket is a struct of limits with five descriptors: job, stdin, stdout, stderr, result.
What it answers is a struct of how the program ended.
"""
import atexit, ctypes, gc, json, os, resource, signal, socket, struct, sys, time, types

# What programs import most often, so that they find it imported. A fork costs more the more there is: what few
# use they import themselves.
import bisect, collections, functools, heapq, itertools, math, operator, random, re, string, typing

CONTROL = 3
LIMITS = struct.Struct("=ddQQ")  # wall seconds, processor seconds, bytes of memory, bytes of any file
ENDED = struct.Struct("=BBiQQ")  # started, stopped at the wall limit, wait status, processor us, peak memory KiB
STACK_BYTES = 64 << 20
MAX_DEPTH = 100
IDLE = 20  # who has used less than a twentieth of the time since its start, at its wall limit, waits
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2


def serve(filter):
    instructions = ctypes.create_string_buffer(filter, len(filter))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(filter) // 8, ctypes.addressof(instructions)))
    prctl = ctypes.CDLL(None).prctl
    # A crash leaves no core, and starts no program of the host's that would take it.
    if prctl(PR_SET_DUMPABLE, *map(ctypes.c_ulong, (0, 0, 0, 0))) != 0:
        raise OSError("PR_SET_DUMPABLE is refused")
    set_filter = functools.partial(prctl, PR_SET_SECCOMP, *map(ctypes.c_ulong, (
        SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0)))
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=CONTROL)
    # Process 1 is out of reach of every signal from inside that it does not handle. It handles none.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    sys.path[:] = [entry for entry in sys.path if entry]
    gc.collect()
    gc.freeze()
    control.send(b"ready")
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, LIMITS.size, 5)
        if not message:
            os._exit(0)  # the host has gone
        limits = LIMITS.unpack(message)
        is_started, starts = os.pipe()
        pid = os.fork()
        if pid == 0:
            become_program(descriptors, starts, limits, set_filter)
        for descriptor in (*descriptors, starts):
            os.close(descriptor)
        started = os.read(is_started, 1) == b"1"
        os.close(is_started)
        control.send(ENDED.pack(started, *await_end(pid, limits[0], control)))


def await_end(pid, wall, control):
    """Waits for a program until it ends, or waits instead of computing; leaves no process of it behind."""
    start, late = time.monotonic(), False
    processor_clock = ~pid << 3 | 2  # the kernel's number for the processor time of a process
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended or late:
            break
        signalled = signal.sigtimedwait([signal.SIGCHLD], 0.1)
        waited = time.monotonic() - start
        late = waited > wall and time.clock_gettime(processor_clock) * IDLE < waited
        if not signalled:
            try:
                control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                os._exit(0)  # the host has gone: it says nothing while it waits
            except BlockingIOError:
                pass
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass
    while True:
        try:
            reaped, status_of, usage_of = os.wait4(-1, 0)
        except ChildProcessError:
            break
        if reaped == pid:
            status, usage = status_of, usage_of
    late = late and not ended
    return late, status, int((usage.ru_utime + usage.ru_stime) * 1e6), usage.ru_maxrss


def become_program(descriptors, starts, limits, set_filter):
    """In the fork: takes its job, gives up what a program must not have, says so, and runs it."""
    try:
        job, stdin, stdout, stderr, result = descriptors
        words = os.pread(job, os.fstat(job).st_size, 0).decode()
        os.close(job)
        job = json.loads(words)
        # All descriptors left are above these five, which take the place of the socket to the host.
        for place, descriptor in enumerate((stdin, stdout, stderr, result, starts)):
            os.dup2(descriptor, place, inheritable=True)
        os.closerange(5, 1024)
        random.seed(0)
        sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
        sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        _, cpu, memory, file_bytes = limits
        cpu = math.floor(cpu) + 1  # whole seconds; the host compares what was used with the limit itself
        for which, limit in (
            (resource.RLIMIT_CPU, (cpu, cpu + 1)),
            (resource.RLIMIT_FSIZE, (file_bytes, file_bytes)),
            (resource.RLIMIT_STACK, (STACK_BYTES, STACK_BYTES)),
            (resource.RLIMIT_AS, (memory, memory)),
        ):
            resource.setrlimit(which, limit)
        if set_filter() != 0:
            os._exit(1)
        os.write(4, b"1")
        os.close(4)
    except BaseException:
        os._exit(1)
    try:
        finish(*outcome(job))
    finally:
        os._exit(1)


def outcome(job):
    """Runs the program: its exit status, and the words for a status that is not 0."""
    try:
        module = types.ModuleType("program" if job["function"] else "__main__")
        sys.modules[module.__name__] = module
        exec(compile(job["source"], "program.py", "exec", dont_inherit=True), module.__dict__)
        if job["function"]:
            result = json.dumps(plain(called(module, job["function"])(*job["args"])))
            with open(3, "w") as file:
                file.write(result)
        return 0, ""
    except SystemExit as exit:
        if exit.code is None or type(exit.code) is int:
            return (exit.code or 0) & 0xFF, f"SystemExit: {exit.code}"
        return 1, str(exit.code)
    except MemoryError:
        return 1, "MemoryError"
    except BaseException as error:
        return 1, words_of(error)


def words_of(error):
    """The exception's name, what it says of itself, and the line of the program that raised it."""
    name, line, place = type(error).__name__, None, error.__traceback__
    while place:
        if place.tb_frame.f_code.co_filename == "program.py":
            line = place.tb_lineno
        place = place.tb_next
    try:
        words = f"{name}: {error}".removesuffix(": ")
    except BaseException:
        words = name
    return f"{words} (line {line})" if line else words


def called(module, name):
    """The function `name`, or the method `name` of a new object where it is `Class.method`."""
    first, _, rest = name.partition(".")
    if not hasattr(module, first):
        raise NameError(f"the program defines no `{first}`")
    value = getattr(module, first)
    return getattr(value(), rest) if rest else value


def plain(value, depth=0):
    """`value` as JSON has it. Types are exact, so that nothing of the program's decides how it reads."""
    if depth > MAX_DEPTH:
        raise ValueError(f"the value returned is nested more than {MAX_DEPTH} deep")
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        if hasattr(sys, "set_int_max_str_digits"):
            sys.set_int_max_str_digits(0)
        return value
    if kind is float and math.isfinite(value):
        return value
    if kind is list or kind is tuple or kind is collections.deque:
        return [plain(item, depth + 1) for item in value]
    if kind in (dict, collections.defaultdict, collections.Counter, collections.OrderedDict):
        if all(type(key) is str or type(key) is int for key in value):
            return {str(key): plain(item, depth + 1) for key, item in value.items()}
        raise TypeError("the dict returned has keys that are neither strings nor integers")
    raise TypeError(f"the value returned holds {value!r}" if kind is float else
                    f"the value returned holds a {kind.__name__}, which no test can state")


def finish(status, words):
    """Ends as an interpreter does, without taking it down piece by piece."""
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if words:
        os.write(2, f"\n{words}\n".encode(errors="backslashreplace"))
    os._exit(status)


serve(bytes.fromhex(sys.argv[1]))
