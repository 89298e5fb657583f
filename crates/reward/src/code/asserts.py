# The asserts of a problem, run apart from the program that they judge: what they call is asked for here, called in the
# program's process, and given back as a value. So what they expect never enters that process.
import ast, builtins, hashlib, json, sys, types, typing


class Need(BaseException):
    """A step was not yet taken. No `except Exception` of a test catches it."""


class ProgramError(Exception):
    """An exception of the program whose type is its own."""


class Run:
    """One assert: the steps that it asks for, and what is known of them."""

    def __init__(self, known):
        self.known, self.steps, self.seen, self.n_used, self.needs = known, [], {}, 0, False

    def ask(self, do, of, args=(), keywords={}):
        refer = lambda value: object.__getattribute__(value, "_id") if type(value) is Object else None
        step = {"do": do, "of": of, "args": [pack(item, refer) for item in args],
                "keywords": {key: pack(item, refer) for key, item in keywords.items()}}
        words = json.dumps(step, sort_keys=True)
        count = self.seen[words] = self.seen.get(words, 0) + 1
        step["id"] = hashlib.sha1(f"{count} {words}".encode()).hexdigest()
        self.steps.append(step)
        found = self.known.get(step["id"])
        if found is None:
            self.needs = True
            raise Need
        self.n_used += 1
        if "raised" in found:
            kinds = [getattr(builtins, name, None) for name in found["raised"]]
            kinds = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception)]
            kind = kinds[0] if kinds and getattr(kinds[0], "__name__") != "Exception" else ProgramError
            raise kind(found["words"])
        for index, new in found["changed"].items():
            old, new = args[int(index)], unpack(new, lambda reference: Object(self, reference))
            old.clear()
            (old.extend if isinstance(old, (list, collections.deque)) else old.update)(new)
        return unpack(found["value"], lambda reference: Object(self, reference))


class Object:
    """An object that stays with the program. It equals nothing but itself."""

    def __init__(self, run, reference):
        object.__setattr__(self, "_run", run)
        object.__setattr__(self, "_id", reference)

    def _ask(self, do, *args, **keywords):
        run, reference = (object.__getattribute__(self, name) for name in ("_run", "_id"))
        return run.ask(do, {"object": reference}, args, keywords)

    def __call__(self, *args, **keywords):
        return self._ask("call", *args, **keywords)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("get", name)

    def __setattr__(self, name, value):
        self._ask("set", name, value)

    def __getitem__(self, key):
        return self._ask("item", key)

    def __iter__(self):
        return iter(self._ask("list"))

    def __next__(self):
        return self._ask("next")

    def __len__(self):
        return self._ask("len")

    def __str__(self):
        return self._ask("str")

    def __bool__(self):
        raise TypeError("the program returns an object that no test can state")


# Modules that tests use without importing them, because the program of their data set does.
MODULES = ("collections", "copy", "datetime", "functools", "itertools", "json", "math", "operator", "os", "random", "re",
           "string", "sys", "time")


class Named:
    """Something of the program's, by its name; or a module, or a type of an annotation, as its use shows."""

    def __init__(self, run, name):
        self._run, self._name = run, name

    def __call__(self, *args, **keywords):
        return self._run.ask("call", {"name": self._name}, args, keywords)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if self._name in MODULES:
            return getattr(__import__(self._name), name)
        return self._run.ask("get", {"name": self._name}, (name,))

    def __getitem__(self, key):
        if self._name in typing.__all__:
            return typing.Any
        return self._run.ask("item", {"name": self._name}, (key,))


class Names(dict):
    """What an assert can name: what its setup defines, Python's own, and else what the program defines."""

    def __init__(self, run, function, own):
        super().__init__(__name__="asserts")
        self.run, self.function, self.own = run, function, own

    def __missing__(self, name):
        if name == "__need":
            return Need
        if hasattr(builtins, name) and name not in self.own:
            return getattr(builtins, name)
        return Named(self.run, self.function or name if name == "candidate" else name)


class Solution(types.ModuleType):
    """The module from which pytest files import the program."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Named(self.run, name)


class Raises:
    def __init__(self, kinds, match=None):
        self.kinds = kinds

    def __enter__(self):
        return self

    def __exit__(self, kind, error, place):
        if kind is None:
            raise AssertionError("nothing is raised")
        return issubclass(kind, self.kinds)


class Approx:
    def __init__(self, expected, rel=1e-6, abs=1e-12):
        self.expected, self.rel, self.abs = expected, rel, abs

    def __eq__(self, found):
        if isinstance(self.expected, (list, tuple)):
            return (isinstance(found, (list, tuple)) and len(found) == len(self.expected)
                    and all(Approx(item, self.rel, self.abs) == other for item, other in zip(self.expected, found)))
        return (isinstance(found, (int, float)) and
                (found == self.expected or abs(found - self.expected) <= max(self.rel * abs(self.expected), self.abs)))


class OneByOne(ast.NodeTransformer):
    """An assert that asks for a step not yet taken does not keep those after it from asking for theirs."""

    def visit_Assert(self, node):
        handler = ast.ExceptHandler(type=ast.Name(id="__need", ctx=ast.Load()), name=None, body=[ast.Pass()])
        return ast.Try(body=[node], handlers=[handler], orelse=[], finalbody=[])


def compiled(source):
    tree = ast.parse(source)
    return compile(ast.fix_missing_locations(OneByOne().visit(tree)), "asserts", "exec")


def tested(source, setup):
    """Python's own names that a program seems to define anew: where an assert names nothing of the program's, what it
    calls first."""
    trees = [ast.parse(source), ast.parse(setup)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    defined = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    defined |= {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    defined |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    defined |= {(node.asname or node.name).partition(".")[0] for node in nodes if isinstance(node, ast.alias)}
    used = {node.id for node in nodes if isinstance(node, ast.Name)} - defined
    if all(hasattr(builtins, name) for name in used):
        for node in ast.walk(trees[0]):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in defined:
                return {node.func.id}
    return set()


def outcome_of(source, setup, function, known):
    """What comes of one assert: it passes, fails, needs steps, or is itself at fault."""
    run, verdict = Run(known), None
    try:
        names = Names(run, function, {function} if function else tested(source, setup))
        module, pytest = Solution("solution"), types.ModuleType("pytest")
        module.run, pytest.raises, pytest.approx = run, Raises, Approx
        pytest.mark = type("Mark", (), {"__getattr__": lambda self, name: lambda *args, **keywords: lambda test: test})()
        pytest.fixture = lambda test=None, **keywords: test or (lambda test: test)
        sys.modules.update(solution=module, pytest=pytest)
        exec(compiled(setup), names)
        before = set(names)
        exec(compiled(source), names)
        for name in [name for name in names if name not in before and name.startswith("test")]:
            if isinstance(names[name], types.FunctionType):
                names[name]()
        check = names.get("check")
        if not run.steps and isinstance(check, types.FunctionType):
            check(Named(run, function or "candidate"))
    except Need:
        pass
    except Unpackable as error:
        verdict = {"bad": f"gives the program {error}, which can't be passed to it"}
    except AssertionError as error:
        words = str(error) or "its assert does not hold"
        verdict = {"fails": words} if run.n_used else {"bad": "fails whatever the program does"}
    except BaseException as error:
        words = f"{type(error).__name__}: {error}"
        verdict = {"fails": words} if run.n_used else {"bad": words}
    else:
        verdict = "passes" if run.n_used else {"bad": "asks nothing of the program"}
    # What follows a step that was not yet taken is not yet true or false.
    return {"needs": run.steps} if run.needs else verdict


def judge(asserts, setup, function):
    """What comes of each assert, by what is known of it: a line of standard input for each."""
    known = [json.loads(line) for line in sys.stdin]
    return [outcome_of(source, setup, function, known) for source, known in zip(asserts, known)]
