"""The interpreter in the sandbox: process 1 there. It forks once for every program, so that none waits for an
interpreter to start, and learns of no program more than how it ended: what a program is given and what it
writes lies in files that only the program and the host hold.

What it reads from its socket is a struct of limits with five descriptors: job, stdin, stdout, stderr, result.
What it answers is a struct of how the program ended.
"""
import atexit, ctypes, gc, json, os, resource, signal, socket, struct, sys, time, types

# What programs import most often, so that they find it imported. A fork costs more the more there is: what few
# use they import themselves.
import array, bisect, builtins, collections, copy, functools, heapq, io, itertools, math, operator, random, re, string
import typing, _sitebuiltins

# What `site` would add: this interpreter runs without it.
for name, end in (("exit", "Ctrl-D (i.e. EOF)"), ("quit", "Ctrl-D (i.e. EOF)")):
    setattr(builtins, name, _sitebuiltins.Quitter(name, end))
builtins.help = _sitebuiltins._Helper()
if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(0)  # long integers cost processor time, which is limited

# What a program finds defined, unless it defines it itself: annotations always; where its functions are called, as
# LeetCode calls them, also what is defined there. Modules go last: `copy` is the module, `heapq` too.
ANNOTATIONS = {name: getattr(typing, name) for name in typing.__all__}
PRELUDE = {}
for module in (string, math, itertools, functools, collections, heapq, bisect, typing):
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    PRELUDE.update({name: getattr(module, name) for name in names if not hasattr(builtins, name)})
for module in (bisect, collections, copy, functools, heapq, itertools, math, operator, random, re, string, sys, typing):
    PRELUDE[module.__name__] = module
PRELUDE["bisect"] = bisect.bisect
PRELUDE["deepcopy"] = copy.deepcopy

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
    sys.argv = ["program.py"]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = [sys.executable, *sys.argv]
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
        module = types.ModuleType("program" if job["function"] or job["script"] else "__main__")
        sys.modules[module.__name__] = module
        module.__dict__.update(ANNOTATIONS if module.__name__ == "__main__" else PRELUDE, __file__="program.py")
        exec(compile(job["source"], "program.py", "exec", dont_inherit=True), module.__dict__)
        if job["function"]:
            give(plain(called(module, job["function"])(*job["args"])))
        elif job["script"]:
            give(scripted(module, job["script"]))
        return 0, ""
    except SystemExit as exit:
        if exit.code is None or isinstance(exit.code, int):
            return (exit.code or 0) & 0xFF, f"SystemExit: {exit.code}"
        return 1, str(exit.code)
    except MemoryError:
        return 1, "MemoryError"
    except BaseException as error:
        return 1, words_of(error)


def give(result):
    result = json.dumps(result)
    with open(3, "w") as file:
        file.write(result)


def scripted(module, script):
    """Takes the steps of `script`, which an assert needs: what each gave, by its `id`."""
    objects, results = {}, {}
    for step in script:
        try:
            of, do = step["of"], step["do"]
            of = named(module, of["name"]) if "name" in of else objects[of["object"]]
            args = [unpack(item, objects.__getitem__) for item in step["args"]]
            keywords = {key: unpack(item, objects.__getitem__) for key, item in step["keywords"].items()}
            value = of(*args, **keywords) if do == "call" else STEPS[do](of, *args)
            try:
                given = pack(value)
            except Unpackable:
                objects[step["id"]], given = value, {"object": step["id"]}
            # What was changed in place.
            after = [packed_or_none(item) for item in args]
            changed = {i: new for i, (new, old) in enumerate(zip(after, step["args"])) if new is not None and new != old}
            results[step["id"]] = {"value": given, "changed": changed}
        except Exception as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            results[step["id"]] = {"raised": kinds, "words": words_of(error)}
    return results


STEPS = {"get": getattr, "set": setattr, "item": operator.getitem, "list": list, "next": next, "len": len, "str": str}


def named(module, name):
    """What the program calls `name`; `candidate` is the last of its functions, where it does not call one so."""
    if name == "candidate" and name not in module.__dict__:
        functions = [value for value in vars(module).values()
                     if type(value) is types.FunctionType and value.__module__ == module.__name__]
        if functions:
            return functions[-1]
    return called(module, name)


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
    """The function `name`, or the method `name` of a new object where it is `Class.method`. A method of `Solution` may
    be called by its name alone, and a function as if it were one."""
    first, _, rest = name.partition(".")
    has_solution = hasattr(module, "Solution")
    if first not in module.__dict__ or PRELUDE.get(first) is module.__dict__[first]:
        if not rest and has_solution and hasattr(module.Solution, first):
            return getattr(module.Solution(), first)
        if first == "Solution" and hasattr(module, rest):
            return getattr(module, rest)
        raise NameError(f"the program defines no `{first}`")
    value = getattr(module, first)
    return getattr(value(), rest) if rest else value


LISTS = (list, tuple, collections.deque, range, array.array, *(type(view) for view in ({}.keys(), {}.values(), {}.items())))


def plain(value, depth=0):
    """`value` as JSON has it. What is of a type of the program's own reads as the built-in type that it extends, by that
    type's methods, so that nothing of the program's decides how it reads."""
    if depth > MAX_DEPTH:
        raise ValueError(f"the value returned is nested more than {MAX_DEPTH} deep")
    kind = type(value)
    if value is None or kind is bool:
        return value
    if issubclass(kind, str):
        return str.__str__(value) if kind is not str else value
    if issubclass(kind, int):
        return int.__int__(value)
    if issubclass(kind, float) and math.isfinite(value):
        return float.__float__(value)
    for base in LISTS:
        if issubclass(kind, base):
            return [plain(item, depth + 1) for item in base.__iter__(value)]
    if issubclass(kind, dict):
        items = list(dict.items(value))
        if all(type(key) is str or type(key) is int for key, _ in items):
            return {str(key): plain(item, depth + 1) for key, item in items}
        raise TypeError("the dict returned has keys that are neither strings nor integers")
    raise TypeError(f"the value returned holds {value!r}" if kind is float else
                    f"the value returned holds a {kind.__name__}, which no test can state")


def finish(status, words):
    """Ends as an interpreter does, without taking it down piece by piece."""
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    atexit._run_exitfuncs()
    main = sys.modules.get("__main__") or sys.modules.get("program")
    files = [file for file in vars(main).values() if type(file) in (io.TextIOWrapper, io.BufferedWriter)]
    # Text first: what it holds goes through the bytes below it.
    files.sort(key=lambda file: type(file) is io.BufferedWriter)
    for file in (sys.stdout, sys.stderr, *files, sys.__stdout__, sys.__stderr__):
        if file is not None and not getattr(file, "closed", False) and hasattr(file, "flush"):
            file.flush()
    if words:
        os.write(2, f"\n{words}\n".encode(errors="backslashreplace"))
    os._exit(status)


serve(bytes.fromhex(sys.argv[1]))
