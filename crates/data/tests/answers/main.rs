//! Every kind's answers, computed a second way from nothing but the prompts.

mod formula;

use formula::{fraction, truth, value};
use koan_data::{Generate, Kind, Problem, Split};

/// Calls `check` with the level, the prompt and the answer of some problems of every level.
fn each(kind: &str, mut check: impl FnMut(usize, &str, &str)) {
    let kind = Kind::by_name(kind).expect("in the table");
    for level in 1..=kind.levels.len() {
        let generate = Generate { kind, n: 60, seed: 3, levels: vec![level], split: Split::All };
        for Problem { prompt, answer, .. } in generate.problems().expect("enough problems") {
            check(level, &prompt.expect("in every problem"), &answer);
        }
    }
}

/// What stands between `before` and `after`.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("`{before}` in `{text}`"));
    rest.split_once(after).unwrap_or_else(|| panic!("`{after}` in `{rest}`")).0
}

/// The first of `phrasings` (what stands before and after) that is there.
fn asked<'a>(text: &'a str, phrasings: &[(&str, &str)]) -> &'a str {
    let found = phrasings
        .iter()
        .find(|(before, after)| text.split_once(before).is_some_and(|(_, rest)| rest.contains(after)));
    let (before, after) = found.unwrap_or_else(|| panic!("a known phrasing: {text}"));
    between(text, before, after)
}

/// The whole numbers of a text, signs left out.
fn numbers(text: &str) -> Vec<i64> {
    let digits = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    digits.map(|digits| digits.parse().expect("a number")).collect()
}

/// The whole numbers of a list with signs.
fn terms(text: &str) -> Vec<i64> {
    text.split(", ").filter_map(|term| term.parse().ok()).collect()
}

/// A fraction or decimal.
fn parse(answer: &str) -> (i128, i128) {
    value(answer, &[])
}

#[test]
fn chain() {
    each("chain", |_, prompt, answer| {
        assert_eq!(value(between(prompt, "Compute ", ". "), &[]), parse(answer), "{prompt}");
    });
}

#[test]
fn countdown() {
    each("countdown", |level, prompt, answer| {
        let asked = prompt.split(" Answer with").next().expect("a question").to_owned() + " ";
        let mut given = numbers(&asked);
        let target = fraction(
            i128::from(match () {
                () if asked.contains("to make ") => given.pop().expect("a target"),
                () => given.remove(0),
            }),
            1,
        );
        let mut used = numbers(answer);
        given.sort_unstable();
        used.sort_unstable();
        assert_eq!((used, value(answer, &[])), (given, target), "{prompt} {answer}");
        assert!(level != 3 || target == (24, 1), "{prompt}");
    });
}

#[test]
fn equations() {
    each("equations", |level, prompt, answer| {
        let question = prompt.split(" Answer ").next().expect("a question");
        let asked = asked(
            &format!("{question} "),
            &[
                ("Solve for x: ", ". "),
                ("What is x if ", "? "),
                ("x for which ", ". "),
                ("system: ", ". "),
                ("such that ", ". "),
            ],
        )
        .replace(" and ", ", ")
        .replace("; ", ", ");
        let unknowns: Vec<(char, i128, i128)> = if level >= 6 {
            let pairs = answer.split(", ").map(|pair| pair.split_once(" = ").expect("a pair"));
            pairs
                .map(|(name, value)| (name.chars().next().expect("a name"), value.parse().expect("whole"), 1))
                .collect()
        } else {
            let (a, b) = parse(answer);
            vec![('x', a, b)]
        };
        assert_eq!(asked.split(", ").count(), if level >= 6 { level - 4 } else { 1 }, "{prompt}");
        for equation in asked.split(", ") {
            let (left, right) = equation.split_once(" = ").expect("an equation");
            assert_eq!(value(left, &unknowns), value(right, &unknowns), "{prompt} {answer}");
        }
    });
}

#[test]
fn fractions() {
    each("fractions", |_, prompt, answer| {
        let expression = asked(prompt, &[("Compute ", ". "), ("What is ", "? ")]);
        assert_eq!(value(expression, &[]), parse(answer), "{prompt}");
    });
}

#[test]
fn modular() {
    each("modular", |level, prompt, answer| {
        let answer: i64 = answer.parse().expect("a number");
        let n = numbers(prompt);
        match (level, n.as_slice()) {
            (1..=4, [.., m]) if prompt.contains("divided by") || prompt.contains(" mod ") => {
                let m = if n.last() == Some(&0) { n[n.len() - 2] } else { *m };
                let expression =
                    asked(prompt, &[("What is the remainder when ", " is divided"), ("What is ", " mod ")]);
                let (value, one) = value(expression, &[]);
                assert_eq!((value.rem_euclid(i128::from(m)), one), (i128::from(answer), 1), "{prompt}");
            }
            (5 | 6, [a, k, m, ..]) => {
                let power = (0..*k).fold(1, |power, _| power * a % m);
                assert_eq!(power, answer, "{prompt}");
            }
            (7, [_, most, a, one, m, ..]) => {
                assert_eq!((*most, *one), (m - 1, 1));
                let solutions: Vec<i64> = (0..*m).filter(|x| a * x % m == 1).collect();
                assert_eq!(solutions, [answer], "{prompt}");
            }
            (8, [a, b, m, ..]) => {
                let solutions: Vec<i64> = (0..*m).filter(|x| a * x % m == *b).collect();
                assert_eq!(solutions, [answer], "{prompt}");
            }
            _ => panic!("{prompt}"),
        }
    });
}

#[test]
fn bases() {
    each("bases", |_, prompt, answer| {
        let words: Vec<&str> = prompt.split([' ', ',', '.', '?']).filter(|word| !word.is_empty()).collect();
        let bases: Vec<u32> = words
            .windows(2)
            .filter(|pair| pair[0] == "base")
            .map(|pair| pair[1].parse().expect("a base"))
            .collect();
        let [from, to] = bases[..] else { panic!("{prompt}") };
        let at = words.iter().position(|word| ["Convert", "number"].contains(word)).expect("the number");
        let read = |digits, base| i64::from_str_radix(digits, base).expect(prompt);
        assert_eq!(read(words[at + 1], from), read(answer, to), "{prompt}");
        assert!(!answer.starts_with('0'));
    });
}

#[test]
fn gcd() {
    each("gcd", |_, prompt, answer| {
        let n = numbers(prompt);
        let expected = if prompt.contains("multiple") {
            (1..=1_000_000).find(|multiple| n.iter().all(|n| multiple % n == 0))
        } else {
            (1..=n[0]).rev().find(|divisor| n.iter().all(|n| n % divisor == 0))
        };
        assert_eq!(expected, answer.parse().ok(), "{prompt}");
    });
}

#[test]
fn factors() {
    each("factors", |_, prompt, answer| {
        let primes = terms(answer);
        assert!(
            primes.is_sorted() && primes.iter().all(|p| *p > 1 && (2..*p).all(|d| p % d != 0)),
            "{answer}"
        );
        assert_eq!(primes.iter().product::<i64>(), numbers(prompt)[0], "{prompt}");
    });
}

#[test]
fn sequence() {
    each("sequence", |level, prompt, answer| {
        let shown = asked(prompt, &[("the sequence ", ", ..."), ("comes next: ", ", ...")]);
        let mut t = terms(shown);
        assert_eq!(t.len(), shown.split(", ").count());
        t.push(answer.parse().expect("a number"));
        match level {
            1 | 3 | 7 => {
                // the differences of one order more than that of the polynomial are all zero
                for _ in 0..[2, 3, 4][level / 3] {
                    t = t.windows(2).map(|pair| pair[1] - pair[0]).collect();
                }
                assert!(t.len() > 2 && t.iter().all(|difference| *difference == 0), "{prompt}");
            }
            2 => assert!(t.windows(3).all(|t| t[1] * t[1] == t[0] * t[2]), "{prompt}"),
            4 => assert!(t.windows(3).all(|t| t[0] + t[1] == t[2]), "{prompt}"),
            5 => assert!(t.windows(5).all(|t| t[4] - t[2] == t[2] - t[0]), "{prompt}"),
            _ => assert!(
                t.windows(4).all(|t| (t[3] - t[2]) * (t[1] - t[0]) == (t[2] - t[1]) * (t[2] - t[1])),
                "{prompt}"
            ),
        }
    });
}

/// Days from a day in 0000: the count of days from civil dates of H. Hinnant, "chrono-compatible low-level date
/// algorithms" (2014).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
}

/// The dates of a text, as days, whether written `2024-02-29` or `February 29, 2024`.
fn dates(text: &str) -> Vec<i64> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let words: Vec<&str> = text.split([' ', ',', '?', '.']).filter(|word| !word.is_empty()).collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        if let Some(month) = MONTHS.iter().position(|month| month == word) {
            let [day, year] = [1, 2].map(|i| words[at + i].parse().expect("a number"));
            found.push(days(year, month as i64 + 1, day));
        } else if let [year, month, day] =
            word.split('-').filter_map(|part| part.parse().ok()).collect::<Vec<_>>()[..]
        {
            found.push(days(year, month, day));
        }
    }
    found
}

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

#[test]
fn calendar() {
    let monday = days(2024, 1, 1); // known to be one
    let weekday = |day: i64| WEEKDAYS[(day - monday).rem_euclid(7) as usize];
    each("calendar", |level, prompt, answer| {
        let backwards = prompt.contains(" before ") || prompt.contains(" ago");
        match (level, &dates(prompt)[..]) {
            (1, []) => {
                let start = WEEKDAYS.iter().position(|day| prompt.contains(day)).expect("a weekday") as i64;
                let count = numbers(prompt)[0] * if backwards { -1 } else { 1 };
                assert_eq!(weekday(monday + start + count), answer, "{prompt}");
            }
            (2 | 5, [start, end]) => assert_eq!((end - start).to_string(), answer, "{prompt}"),
            (3, [known, asked]) => {
                assert!(prompt.contains(weekday(*known)), "{prompt}");
                assert_eq!(weekday(*asked), answer, "{prompt}");
            }
            (4, [start]) => {
                let count = numbers(prompt)[0] * if backwards { -1 } else { 1 };
                assert_eq!(dates(answer), [start + count], "{prompt}");
            }
            (6, [asked]) => assert_eq!(weekday(*asked), answer, "{prompt}"),
            _ => panic!("{prompt}"),
        }
    });
}

/// A unit in terms of the smallest of its sort.
fn unit(name: &str) -> (i128, i128) {
    let size = match name {
        "millimeters" | "square millimeters" | "cubic millimeters" | "milligrams" | "seconds" | "inches"
        | "ounces" | "pints" => 1,
        "quarts" => 2,
        "gallons" => 8,
        "centimeters" => 10,
        "feet" => 12,
        "pounds" => 16,
        "yards" => 36,
        "minutes" => 60,
        "square centimeters" => 100,
        "meters" | "grams" | "cubic centimeters" | "milliliters" => 1000,
        "hours" => 3600,
        "centiliters" => 10_000,
        "miles" => 63_360,
        "days" => 86_400,
        "weeks" => 604_800,
        "kilometers" | "kilograms" | "square meters" | "liters" => 1_000_000,
        "hectoliters" => 100_000_000,
        "tonnes" | "cubic meters" => 1_000_000_000,
        "hectares" => 10_000_000_000,
        "square kilometers" => 1_000_000_000_000,
        "kilometers per hour" => return (10, 36), // in meters per second
        "meters per second" => return (36, 36),
        _ => panic!("unit {name}"),
    };
    (size, 1)
}

#[test]
fn units() {
    each("units", |_, prompt, answer| {
        let question = prompt.split(" Answer ").next().expect("a question").trim_end_matches(['.', '?']);
        let (quantity, to) = if let Some(rest) = question.strip_prefix("How many ") {
            let (to, quantity) = rest.split_once(" are ").expect("a quantity");
            (quantity, to)
        } else {
            let rest =
                question.strip_prefix("Convert ").or(question.strip_prefix("Express ")).expect("a phrasing");
            rest.rsplit_once(if question.starts_with("Convert") { " to " } else { " in " }).expect("a unit")
        };
        let mut total = (0, 1);
        for part in quantity.replace(" and ", ", ").split(", ") {
            let (number, from) = part.split_once(' ').expect("a number and its unit");
            let (number, from) = (parse(number), unit(from));
            total = fraction(
                total.0 * number.1 * from.1 + number.0 * from.0 * total.1,
                total.1 * number.1 * from.1,
            );
        }
        let to = unit(to);
        assert_eq!(fraction(total.0 * to.1, total.1 * to.0), parse(answer), "{prompt}");
    });
}

#[test]
fn sort() {
    each("sort", |level, prompt, answer| {
        let question = prompt.split(" Answer ").next().expect("a question");
        let mut words: Vec<&str> = match () {
            () if question.starts_with("Sort") => {
                question.rsplit_once(": ").expect("words").1.trim_end_matches('.')
            }
            () if question.starts_with("Write") => between(question, "the words ", " sorted"),
            () => between(question, "words: ", "."),
        }
        .split(", ")
        .collect();
        words.sort_unstable();
        match level {
            4 => words.reverse(),
            5 => words.sort_by_key(|word| word.len()),
            _ => {}
        }
        assert_eq!(words.join(", "), answer, "{prompt}");
    });
}

#[test]
fn count() {
    each("count", |level, prompt, answer| {
        let question = prompt.split(" Answer ").next().expect("a question").trim_end_matches(['.', '?']);
        let quoted: Vec<&str> = question.split('"').skip(1).step_by(2).collect();
        let listed = || question.rsplit_once(": ").expect("a list").1.split(", ");
        let expected = match level {
            1 | 2 | 6 => quoted[1].matches(quoted[0]).count(),
            3 => listed().count(),
            4 => listed().filter(|word| *word == quoted[0]).count(),
            _ => listed().filter(|word| word.contains(quoted[0])).count(),
        };
        assert_eq!(expected.to_string(), answer, "{prompt}");
    });
}

#[test]
fn knights() {
    each("knights", |_, prompt, answer| {
        let names: Vec<&str> =
            answer.split(", ").map(|pair| pair.split_once(": ").expect("a pair").0).collect();
        let said: Vec<(&str, String)> = names
            .iter()
            .map(|name| {
                let words = between(prompt, &format!("{name} says: \""), ".\"");
                (*name, words.replacen("If ", "if ", 1))
            })
            .collect();
        let fits = |knights: usize| {
            let is_knight =
                |name: &str| knights >> names.iter().position(|n| *n == name).expect(name) & 1 == 1;
            said.iter().all(|(speaker, words)| {
                let simple = |claim: &str| {
                    let claim = claim.replacen("I am ", &format!("{speaker} is "), 1);
                    let (name, role) = claim.split_once(" is a ").expect("who is what");
                    is_knight(name) == (role == "knight")
                };
                let says = match () {
                    () if words.contains(" of the same kind") => {
                        is_knight(words.split(' ').next().expect("a name")) == is_knight(speaker)
                    }
                    () if words.contains(" of different kinds") => {
                        is_knight(words.split(' ').next().expect("a name")) != is_knight(speaker)
                    }
                    () if words.starts_with("if ") => {
                        let (a, b) = words[3..].split_once(" then ").expect("two parts");
                        !simple(a) || simple(b)
                    }
                    () => match (words.split_once(" and "), words.split_once(" or ")) {
                        (Some((a, b)), _) => simple(a) && simple(b),
                        (_, Some((a, b))) => simple(a) || simple(b),
                        _ => simple(words),
                    },
                };
                says == is_knight(speaker)
            })
        };
        let solutions: Vec<usize> = (0..1 << names.len()).filter(|&knights| fits(knights)).collect();
        let [knights] = solutions[..] else { panic!("{prompt}: {solutions:?}") };
        let roles = names
            .iter()
            .enumerate()
            .map(|(i, name)| format!("{name}: {}", if knights >> i & 1 == 1 { "knight" } else { "knave" }));
        assert_eq!(roles.collect::<Vec<_>>().join(", "), answer, "{prompt}");
    });
}

/// Whether a clue allows two houses.
type Holds = fn(i64, i64) -> bool;

#[test]
fn zebra() {
    each("zebra", |_, prompt, answer| {
        // where everybody and everything is, by the answer
        let mut house = std::collections::HashMap::new();
        for entry in answer.split("; ") {
            let (name, rest) = entry.split_once(": house ").expect("an entry");
            let mut values = rest.split(", ");
            let number: i64 = values.next().and_then(|number| number.parse().ok()).expect("a house");
            let sorts = ["the owner of the {} house", "the owner of the {}", "the drinker of {}"];
            house.insert(name.to_owned(), number);
            house.extend(values.zip(sorts).map(|(value, sort)| (sort.replace("{}", value), number)));
        }
        let mut n_clues = 0;
        for line in prompt
            .lines()
            .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()) && line.contains(". "))
        {
            let Some((_, clue)) = line.split_once(". ").filter(|(number, _)| number.len() <= 2) else {
                continue;
            };
            let clue = clue.trim_end_matches('.').replacen("The ", "the ", 1);
            let at = |person: &str| *house.get(person).unwrap_or_else(|| panic!("{person}: {prompt}"));
            let relations: [(&str, Holds); 7] = [
                (" does not live in house ", |a, b| a != b),
                (" lives in house ", |a, b| a == b),
                (" lives directly left of ", |a, b| a + 1 == b),
                (" lives somewhere left of ", |a, b| a < b),
                (" lives next to ", |a, b| (a - b).abs() == 1),
                (" is not ", |a, b| a != b),
                (" is ", |a, b| a == b),
            ];
            let (holds, (a, b)) = relations
                .iter()
                .find_map(|(words, holds)| Some((holds, clue.split_once(words)?)))
                .expect("a relation");
            assert!(holds(at(a), b.parse().unwrap_or_else(|_| at(b))), "{clue}: {answer}");
            n_clues += 1;
        }
        assert!(n_clues >= 2, "{prompt}");
    });
}

#[test]
fn logic() {
    const VARIABLES: [&str; 4] = ["p", "q", "r", "s"];
    each("logic", |level, prompt, answer| {
        let models = |formula: &str, n: usize| {
            let row = |row: usize| {
                truth(formula, &|name| row >> VARIABLES.iter().position(|v| *v == name).expect(name) & 1 == 1)
            };
            (0..1 << n).filter(|&r| row(r)).count()
        };
        let expected = match level {
            1 | 2 => {
                let (given, formula) = prompt
                    .split_once("If ")
                    .expect("an assignment")
                    .1
                    .split_once(", is ")
                    .expect("a formula");
                let formula = formula.split_once(" true or false?").expect("a question").0;
                truth(formula, &|name| given.contains(&format!("{name} is true"))).to_string()
            }
            3 | 4 => {
                let n = level - 1;
                match models(between(prompt, "the formula ", " a tautology"), n) {
                    0 => "contradiction".to_owned(),
                    all if all == 1 << n => "tautology".to_owned(),
                    _ => "contingent".to_owned(),
                }
            }
            _ => models(between(prompt, " make ", " true? Answer"), level - 2).to_string(),
        };
        assert_eq!(expected, answer, "{prompt}");
    });
}
