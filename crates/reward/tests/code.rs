//! The verifier `code`, from its name to its verdicts. (What programs may not do is tested in `koan-sandbox`.)
#![cfg(target_os = "linux")]

use koan_reward::code::{Judge, Options, Tests};
use koan_reward::{Context, Kind, Outcome, Problem, Sample};
use koan_sandbox::SandboxError;
use serde_json::{Map, Value, json};

#[test]
fn the_verifier_code_is_found_built_and_judges_problems() {
    if let Err(error @ (SandboxError::Refused { .. } | SandboxError::Policy { .. })) =
        Judge::new(&Options::default())
    {
        eprintln!("skipped: {error}");
        return;
    }
    let options = Map::from_iter([("sandboxes".to_owned(), json!(1)), ("time_limit_s".to_owned(), json!(2))]);
    let kind = Kind::by_name("code").expect("in the table");
    let verifier = kind.build(&options, &Context::default()).expect("builds");
    let problem =
        |tests: Value| Problem { other: Map::from_iter([("tests".to_owned(), tests)]), ..Problem::default() };
    let good = problem(json!({"function": "Solution.add", "cases": [
        {"args": [1, 2], "returns": 3}, {"args": [[1.5], []], "returns": [1.5]}, {"args": ["a", "b"], "returns": "ab"}]}));
    assert_eq!(verifier.check(&good), Ok(()));
    let outcome = |problem: &Problem, completion: &str| {
        let verdict = verifier.judge(&Sample::new(problem, completion));
        (verdict.outcome, verdict.reason)
    };
    let class = |body: &str| {
        format!("<think>hm</think>\n```python\nclass Solution:\n  def add(self, a, b): {body}\n```")
    };
    for (completion, expected) in [
        (class("return a + b"), (Outcome::Correct, "passes all 3 tests")),
        (
            class("return b + a"),
            (
                Outcome::Wrong,
                "passes 2 of 3 tests, and fails test 3: returns `\"ba\"`, which is not what is expected",
            ),
        ),
        (
            class("return 3"),
            (
                Outcome::Wrong,
                "passes 1 of 3 tests, and fails test 2: returns `3`, which is not what is expected",
            ),
        ),
        (
            class("pass"),
            (Outcome::Wrong, "fails the first of 3 tests: returns `null`, which is not what is expected"),
        ),
        ("It is 3.".to_owned(), (Outcome::Unparsable, "the completion has no fenced `python` block")),
    ] {
        let (outcome, reason) = outcome(&good, &completion);
        assert_eq!((outcome, reason.as_str()), expected);
    }

    let bad = problem(json!([{"stdin": "1"}]));
    assert!(verifier.check(&bad).expect_err("no stdout").contains("missing field `stdout`"));
    assert_eq!(outcome(&bad, &class("return 1")).0, Outcome::BadReference);

    let options = Map::from_iter([("python".to_owned(), json!("/nowhere/python"))]);
    let error = kind.build(&options, &Context::default()).err().expect("no interpreter");
    assert!(error.contains("cannot use the interpreter `/nowhere/python`: it cannot be run"), "{error}");
    let options = Map::from_iter([("memory_limit_mb".to_owned(), json!(1))]);
    let error = kind.build(&options, &Context::default()).err().expect("too little");
    assert_eq!(error, "`memory_limit_mb` is 1; it must be from 64 to 8192");
}

/// The verifier `code`; none where programs can't be contained here, which is said.
fn judge() -> Option<Judge> {
    match Judge::new(&Options {
        sandboxes: Some(1),
        time_limit_s: 2.0,
        output_limit_bytes: 4096,
        ..Options::default()
    }) {
        Ok(judge) => Some(judge),
        Err(error @ (SandboxError::Refused { .. } | SandboxError::Policy { .. })) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn tests(tests: Value) -> Tests {
    Tests::parse(&Map::from_iter([("tests".to_owned(), tests)])).expect("good tests")
}

fn fenced(program: &str) -> String {
    format!("```python\n{program}\n```")
}

#[test]
fn values_of_many_types_are_returned() {
    let Some(judge) = judge() else { return };
    for (program, returns) in [
        ("def f(): return range(3)", json!([0, 1, 2])),
        ("def f(): return range(5, 0, -2)", json!([5, 3, 1])),
        ("def f(): return {1: 2, 3: 4}.keys()", json!([1, 3])),
        ("def f(): return {1: 2, 3: 4}.values()", json!([2, 4])),
        ("def f(): return {1: 2, 3: 4}.items()", json!([[1, 2], [3, 4]])),
        ("P = namedtuple('P', 'x y')\ndef f(): return [P(1, 2)]", json!([[1, 2]])),
        ("class P(NamedTuple):\n  x: int\n  y: str\ndef f(): return P(1, 'a')", json!([1, "a"])),
        ("import enum\nclass E(enum.IntEnum):\n  A = 7\ndef f(): return E.A", json!(7)),
        ("import array\ndef f(): return array.array('i', [1, 2])", json!([1, 2])),
        ("def f(): return deque([1, 2])", json!([1, 2])),
        ("def f(): return Counter('aab')", json!({"a": 2, "b": 1})),
        ("class D(dict): pass\ndef f(): return D(a=(1, 2))", json!({"a": [1, 2]})),
        ("def f(): return inf if False else gcd(12, 18)", json!(6)),
        ("class Solution:\n  def f(self) -> List[int]: return sorted(set([2, 1]))", json!([1, 2])),
        ("class Solution:\n  @lru_cache(None)\n  def f(self): return math.comb(4, 2)", json!(6)),
        ("@cache\ndef f(): return heapq.nsmallest(2, [3, 1, 2])", json!([1, 2])),
        ("def f(): return bisect_left([1, 3], 2) + bisect([1, 3], 3)", json!(3)),
    ] {
        let verdict = judge.judge(
            &fenced(program),
            &tests(json!({"function": "f", "cases": [{"args": [], "returns": returns}]})),
        );
        assert_eq!(verdict.outcome, Outcome::Correct, "{program}: {}", verdict.reason);
    }
    for program in ["def f(): return {1, 2}", "def f(): return map(int, '12')", "def f(): return b'12'"] {
        let verdict = judge.judge(
            &fenced(program),
            &tests(json!({"function": "f", "cases": [{"args": [], "returns": [1, 2]}]})),
        );
        assert_eq!(verdict.outcome, Outcome::Wrong, "{program}: {}", verdict.reason);
    }
    // What is in the prelude is not the program's.
    let verdict = judge.judge(
        &fenced("pass"),
        &tests(json!({"function": "gcd", "cases": [{"args": [4, 6], "returns": 2}]})),
    );
    assert!(verdict.reason.contains("the program defines no `gcd`"), "{}", verdict.reason);
}

#[test]
fn long_integers_are_judged_digit_by_digit() {
    let Some(judge) = judge() else { return };
    let line = r#"{"prompt": "p", "tests": {"function": "f", "cases": [
        {"args": [123456789012345678901234567890], "returns": 123456789012345678901234567891}]}}"#;
    let problem: Problem = serde_json::from_str(line).expect("a problem");
    let tests = Tests::parse(&problem.other).expect("good tests");
    for (program, outcome) in [
        ("def f(x): return x + 1", Outcome::Correct),
        ("def f(x): return x", Outcome::Wrong),
        ("def f(x): return int(float(x)) + 1", Outcome::Wrong),
    ] {
        assert_eq!(judge.judge(&fenced(program), &tests).outcome, outcome, "{program}");
    }
}

#[test]
fn what_no_program_could_write_is_a_bad_reference() {
    let Some(judge) = judge() else { return };
    let long = tests(json!([{"stdout": "1"}, {"stdout": "x".repeat(5000)}]));
    assert!(judge.check_tests(&long).expect_err("too long").contains("test 2 expects 5000 bytes"));
    assert_eq!(judge.judge(&fenced("print(1)"), &long).outcome, Outcome::BadReference);
    let fits = tests(json!([{"stdout": format!("{}   \n\n", "x".repeat(4096))}]));
    assert_eq!(judge.check_tests(&fits), Ok(()));
    assert_eq!(judge.judge(&fenced("print('x' * 4096, end='')"), &fits).outcome, Outcome::Correct);
}

#[test]
fn asserts_are_judged_apart_from_the_program() {
    let Some(judge) = judge() else { return };
    let pair = "class Pair(object):\n  def __init__(self, a, b): self.a, self.b = a, b\ndef longest(arr, n): return n - 1 if arr[0].a < arr[1].a else 0";
    let node = "class Node:\n  def __init__(self, data): self.data, self.left, self.right = data, None, None\ndef height(n): return 0 if n is None else 1 + max(height(n.left), height(n.right))";
    let close = "def near(numbers, threshold):\n  return any(abs(a - b) < threshold for i, a in enumerate(numbers) for b in numbers[:i])";
    let check = "METADATA = {'author': 'x'}\n\ndef check(candidate):\n    assert candidate([1.0, 2.0, 3.9], 0.3) == False\n    assert candidate([1.0, 2.0, 2.2], 0.3) == True\n    for i in range(3):\n        assert candidate([i, i + 0.1], 0.2), 'close'\n";
    let stack = "class Stack:\n  def __init__(self): self.x = []\n  def push(self, v): self.x.append(v)\n  def pop(self): return self.x.pop()";
    let one = |assert: &str| json!({ "asserts": [assert] });
    for (program, given, expected) in [
        // As MBPP has them.
        (
            "def similar_elements(a, b): return tuple(set(a) & set(b))",
            json!({"asserts": ["assert set(similar_elements((3, 4, 5, 6),(5, 7, 4, 10))) == set((4, 5))",
                "assert set(similar_elements((1, 2, 3, 4),(5, 4, 3, 7))) == set((3, 4))"], "setup": ""}),
            Ok(()),
        ),
        (
            "def f(n): return n / 3",
            json!({"asserts": ["assert math.isclose(f(1), 0.3333, rel_tol=0.001)"], "setup": "import math"}),
            Ok(()),
        ),
        ("def f(n): return (n, n)", one("assert f(1) == (1, 1)"), Ok(())),
        ("def f(n): return [n, n]", one("assert f(1) == (1, 1)"), Err("does not hold")),
        (
            "def f(n): return {n: 'a', (1, 2): {3}}",
            one("assert f(1) == {1: 'a', (1, 2): {3}}, 'a dict'"),
            Ok(()),
        ),
        (
            "def f(n): return n",
            json!({"asserts": ["assert f(1) == 1", "assert f(2) == 3, 'two'"]}),
            Err("passes 1 of 2 tests, and fails test 2: two"),
        ),
        (
            "def f(n): return n > 1",
            json!({"asserts": ["assert f(2)", "assert not f(1)", "assert f(2) is True"]}),
            Ok(()),
        ),
        ("def sum(a, b): return a * b", one("assert sum(10, 15) == 150"), Ok(())),
        ("def f(s): s.sort()", one("x = [3, 1]\nf(x)\nassert x == [1, 3]"), Ok(())),
        (pair, one("assert longest([Pair(5, 24), Pair(15, 25)], 4) == 3"), Ok(())),
        (pair, one("assert longest([Pair(25, 24), Pair(15, 25)], 4) == 3"), Err("does not hold")),
        (
            node,
            json!({"asserts": ["assert height(root) == 2"], "setup": "root = Node(1)\nroot.left = Node(2)"}),
            Ok(()),
        ),
        (stack, one("s = Stack()\ns.push(1)\ns.push(2)\nassert s.pop() == 2\nassert s.pop() == 1"), Ok(())),
        ("def g(n):\n  for i in range(n): yield i * i", one("assert list(g(3)) == [0, 1, 4]"), Ok(())),
        (
            "def f(x): return float('nan') if x else float('inf')",
            one("assert f(0) == float('inf') and f(1) != f(1)"),
            Ok(()),
        ),
        (
            "from fractions import Fraction\nfrom decimal import Decimal\ndef f(x): return [Fraction(x, 6), Decimal('1.50'), 1j, b'a']",
            one(
                "from decimal import Decimal\nfrom fractions import Fraction\nassert f(3) == [Fraction(1, 2), Decimal('1.5'), 1j, b'a']",
            ),
            Ok(()),
        ),
        (
            "import math\ndef near(x): return math.pi * x",
            json!({"asserts": ["assert math.isclose(near(1), 3.14, rel_tol=0.01)"], "setup": ["from typing import List", "def g(x: Optional[int]) -> List[int]: return [x]"]}),
            Ok(()),
        ),
        (
            "def f(s): s.sort()",
            one("x = [3, 1]\nassert f(x) is None\nassert x == [1, 3]\nassert x[0] == 1"),
            Ok(()),
        ),
        // As HumanEval has them.
        (close, json!({"asserts": ["check(near)"], "setup": check}), Ok(())),
        (close, json!({"asserts": [check], "function": "near"}), Ok(())),
        (close, json!({"asserts": [check], "entry_point": "near", "setup": null}), Ok(())),
        (
            close,
            json!({"asserts": ["assert candidate([1, 2], 0.5) == False", "assert candidate([1, 1.2], 0.5)"]}),
            Ok(()),
        ),
        (
            close,
            json!({"asserts": ["assert candidate([1, 2], 0.5) == False"], "setup": "candidate = near"}),
            Ok(()),
        ),
        (
            "def near(a, b): return False",
            json!({"asserts": ["check(near)"], "setup": check}),
            Err("does not hold|close"),
        ),
        (
            "def encode(s): return s[::-1]\ndef decode(s): return s[::-1]",
            one(
                "from random import randint\nfor _ in range(9):\n  s = chr(97 + randint(0, 25)) * 3\n  assert decode(encode(s)) == s",
            ),
            Ok(()),
        ),
        // As pytest and LeetCode have them.
        (
            "def f(x):\n  if x < 0: raise ValueError('negative')\n  return x",
            one(
                "import pytest\nfrom solution import f\ndef test_good(): assert f(1) == pytest.approx(1.0)\ndef test_bad():\n  with pytest.raises(ValueError): f(-1)",
            ),
            Ok(()),
        ),
        (
            "def f(x): return x",
            one("try:\n  f(-1)\n  assert False, 'raises nothing'\nexcept ValueError: pass"),
            Err("raises nothing"),
        ),
        (
            "class Solution:\n  def two(self, x: List[int]) -> int: return max(x)",
            json!({"asserts": ["assert Solution().two([1, 2]) == 2", "assert two([3]) == 3"]}),
            Ok(()),
        ),
        // What programs do wrong.
        ("pass", one("assert f(1) == 1"), Err("the program defines no `f`")),
        (
            "def f(x): return 1 / 0",
            one("assert f(1) == 1"),
            Err("ZeroDivisionError: division by zero (line 1)"),
        ),
        ("def f(x: return x", one("assert f(1) == 1"), Err("SyntaxError")),
        ("def f(x):\n  while True: pass", one("assert f(1) == 1"), Err("processor time")),
        ("def f(x): print(1)", one("assert f(1) == 1"), Err("does not hold")),
        (
            "class A:\n  def __eq__(self, other): return True\ndef f(x): return A()",
            one("assert f(1) == 1"),
            Err("does not hold"),
        ),
        (
            "class A(int):\n  def __eq__(self, other): return True\ndef f(x): return A(2)",
            one("assert f(1) == 1"),
            Err("does not hold"),
        ),
    ] {
        let given = tests(given);
        assert_eq!(judge.check_tests(&given), Ok(()), "{program}");
        let verdict = judge.judge(&fenced(program), &given);
        match expected {
            Ok(()) => assert_eq!(verdict.outcome, Outcome::Correct, "{program}: {}", verdict.reason),
            Err(words) => {
                assert_eq!(verdict.outcome, Outcome::Wrong, "{program}: {}", verdict.reason);
                assert!(
                    words.split('|').any(|words| verdict.reason.contains(words)),
                    "{program}: {}",
                    verdict.reason
                );
            }
        }
    }
    for (assert, expected) in [
        ("assert 1 == 1", "assert 1: asks nothing of the program"),
        ("assert 1 == 2", "assert 1: fails whatever the program does"),
        ("assert f(", "assert 1: SyntaxError"),
        ("import numpy\nassert f(1) == 1", "assert 1: ModuleNotFoundError: No module named 'numpy'"),
        ("assert f(lambda x: x) == 1", "assert 1: gives the program a function, which can't be passed to it"),
        ("while True: pass", "the asserts can't be run: uses more than 2 s of processor time"),
    ] {
        let error = judge.check_tests(&tests(one(assert))).expect_err(assert);
        assert!(error.contains(expected), "{assert}: {error}");
        assert_eq!(
            judge.judge(&fenced("def f(x): return 1"), &tests(one(assert))).outcome,
            Outcome::BadReference
        );
    }
}
